"""Open tables: what is committed in the lake, as Iceberg tables that any engine reads without this package."""
