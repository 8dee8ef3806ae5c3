"""Releases: a feature colour and its models go live together, and are rolled back together."""
