"""Validation: whether the numbers can be believed."""
