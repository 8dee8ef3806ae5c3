"""The app's Feast repository: definitions derived from the declarations, and nothing else."""
