"""Leases: who alone may do a piece of work, and who still writes from what it has read."""
