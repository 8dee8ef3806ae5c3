"""The lake: Parquet files that count once a commit names them, over a folder or S3."""
