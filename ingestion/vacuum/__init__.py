"""Deletes what the lake no longer needs, by age and need."""
