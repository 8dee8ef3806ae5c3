"""Feast plugins that any `feature_store.yaml` can name: online store, offline store, batch engine."""
