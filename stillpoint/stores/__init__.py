"""How do Feast's stores become right and fast? Plugins that any `feature_store.yaml` can name."""
