"""The questions of the gate, one per module."""
