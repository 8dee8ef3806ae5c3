"""Erasure: one user forgotten everywhere, with a receipt."""
