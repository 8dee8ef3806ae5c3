"""The offline store's parts: sources, spines, point-in-time joins, latest rows, and appends."""
