"""Stillpoint: real-time features and recommendations around Feast."""
