"""Releases: a feature colour and its models go live together, and back."""
