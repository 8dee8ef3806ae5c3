"""A view joins a running stream: its past and its states come from the lake, and are handed over between two batches."""
