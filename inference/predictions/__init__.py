"""Predictions: made, explained, logged and stored."""
