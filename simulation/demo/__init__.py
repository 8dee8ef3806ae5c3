"""The demo: the whole path on one machine, told as a story."""
