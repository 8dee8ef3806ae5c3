"""Rows of keys that belong to no single user are computed in a micro-batch's second shuffle."""
