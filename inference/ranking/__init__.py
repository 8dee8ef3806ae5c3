"""Ranking: a user's features, the catalogue, the model's matrix, the scorers, and post-processing. Pure but for the scorers."""
