"""Releases: their records and book, the two colours, the stream's write targets, and who serves what."""
