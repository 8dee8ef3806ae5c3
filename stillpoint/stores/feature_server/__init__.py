"""Feast's feature-server format: its requests as reads of ours, and our answers as its responses."""
