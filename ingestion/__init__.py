"""Ingestion: app events become features, online and in the lake."""
