"""What does Feast know? Definitions derived from `stillpoint.features.declarations`, and nothing else."""
