"""Validation: expectations on data, parity of served features, and drift."""
