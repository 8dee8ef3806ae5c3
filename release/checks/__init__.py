"""The checks of the release gate, one per module."""
