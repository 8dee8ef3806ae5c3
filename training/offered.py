"""Tells which shown contents the catalogue offered at that moment. (pure)"""

from datetime import datetime

import polars as pl
import pyarrow as pa


def offered_then(shown: pl.DataFrame, catalogue: pa.Table, *, known: datetime) -> pl.Series:
    """Return for each row (`content_id`, `event_timestamp`) whether the catalogue offered the content at that time, one flag per row.

    Only catalogue rows updated by `known` count. Times before a content's first row are judged by that row; a content without a row
    counts as offered.
    """
    rows = (
        pl.DataFrame(pl.from_arrow(catalogue))
        .select("content_id", "published_at", "until", "withdrawn", "updated_at")
        .filter(pl.col("updated_at") <= known)
        .sort("updated_at", pl.col("withdrawn").fill_null(False), maintain_order=True)
        .with_columns(pl.col("withdrawn").forward_fill().over("content_id").fill_null(False))
    )
    first = rows.unique(["content_id"], keep="first", maintain_order=True).rename(
        {name: f"first_{name}" for name in ("published_at", "until", "withdrawn")}
    )
    asked = shown.select("content_id", pl.col("event_timestamp").alias("at")).with_row_index("row")
    told_then = asked.sort("at", maintain_order=True).join_asof(
        rows, left_on="at", right_on="updated_at", by="content_id", strategy="backward", check_sortedness=False
    )
    judged = told_then.join(first.drop("updated_at"), on="content_id", how="left").sort("row")
    before = pl.col("published_at").is_null()
    of = {
        name: pl.when(before).then(f"first_{name}").otherwise(name) for name in ("published_at", "until", "withdrawn")
    }
    offered = (of["published_at"] <= pl.col("at")) & (pl.col("at") < of["until"]).fill_null(True) & ~of["withdrawn"]
    return judged.select(offered.fill_null(True).alias("offered")).to_series()
