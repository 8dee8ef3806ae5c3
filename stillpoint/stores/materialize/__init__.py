"""The batch engine's parts: rows on their way into the online store, and their pace."""
