"""Feature values: Feast's value types, and their bytes in Redis."""
