"""App events: their types and columns, how payloads are parsed, sent, and kept in the lake."""
