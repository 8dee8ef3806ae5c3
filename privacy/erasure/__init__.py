"""Erasure: removes one user from every store, with a receipt."""
