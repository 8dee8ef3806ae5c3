"""Inference: makes, stores and serves recommendations within milliseconds.

Imports neither Feast, Spark nor Great Expectations, not even through `stillpoint`: a Lambda must start fast.
"""
