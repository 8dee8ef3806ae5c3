"""Which samples are compared for drift, and how is it told?

The reference is a training snapshot (its users' and contents' features as the model saw them); beside it stand the newest
rows of the lake, and what was served. Embeddings are not in a snapshot: they are compared between the lake's older and newer
half.
"""

import base64
import io
import json
from collections.abc import Iterator, Mapping
from datetime import date
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict

from stillpoint.features.declarations import EMBEDDING_LENGTH, RANKER_SERVICE, SERVICES, DType, Entity
from stillpoint.lake import DateRange, Lake, feature_dataset
from validation.drift import Limits, Moved, Values, compare

VIEWS = SERVICES[RANKER_SERVICE]
_ROWS = 100_000
_STYLE = (
    "<style>body{font:15px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:.2rem .8rem;text-align:left}.bad{color:#b00020;font-weight:bold}img{max-width:100%}</style>"
)


class DriftReport(BaseModel):
    """What moved, by the sample that was compared: `lake`, `served` or `lake halves`. No comparison is not a pass."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    snapshot_id: str
    rows: dict[str, int]
    moved: dict[str, tuple[Moved, ...]]

    @property
    def drifted(self) -> tuple[tuple[str, Moved], ...]:
        return tuple((sample, one) for sample, measures in self.moved.items() for one in measures if one.drifted)

    @property
    def passed(self) -> bool:
        return self.compared and not self.drifted

    @property
    def compared(self) -> bool:
        """Whether anything but shares of nulls could be compared: there were enough values on both sides."""
        return any(one.measure != "null share" for measures in self.moved.values() for one in measures)


def check_drift(
    lake: Lake, snapshot: pa.Table, snapshot_id: str, *, since: date, at: Any, limits: Limits | None = None
) -> DriftReport:
    """Compare a snapshot's features with those of the lake and of the served log since a day."""
    limits = limits or Limits()
    rows: dict[str, int] = {}
    moved: dict[str, list[Moved]] = {"lake": [], "served": [], "lake halves": []}
    served = _served(lake, since)
    for view in VIEWS:
        recent = lake.read(feature_dataset(view), DateRange(since)).sort_by("event_timestamp")
        recent = recent.slice(max(0, recent.num_rows - _ROWS))
        rows[f"lake {view.name}"] = recent.num_rows
        rows[f"served {view.name}"] = len(served.get(view.name, ()))
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                vectors = _vectors(recent[feature.name])
                if len(vectors):
                    middle = len(vectors) // 2
                    moved["lake halves"] += compare(feature, vectors[:middle], vectors[middle:], limits)
                continue
            reference = _objects(snapshot[feature.name])
            if recent.num_rows:
                moved["lake"] += compare(feature, reference, _objects(recent[feature.name]), limits)
            if view.entity is Entity.USER and rows[f"served {view.name}"]:
                values = np.array([one[feature.name] for one in served[view.name]], dtype=object)
                moved["served"] += compare(feature, reference, values, limits)
    return DriftReport(
        at=at, snapshot_id=snapshot_id, rows=rows, moved={name: tuple(found) for name, found in moved.items()}
    )


def _served(lake: Lake, since: date) -> Mapping[str, list[dict[str, Any]]]:
    """Return the newest values that were served, by view."""
    table = lake.read("served", DateRange(since), columns=["served_at", "views"]).sort_by("served_at")
    found: dict[str, list[dict[str, Any]]] = {}
    for views in table.slice(max(0, table.num_rows - 5_000))["views"].to_pylist():
        for one in views:
            found.setdefault(one["view"], []).append(json.loads(one["values"]))
    return found


def _objects(column: pa.ChunkedArray) -> Values:
    return np.array(column.to_pylist(), dtype=object)


def _vectors(column: pa.ChunkedArray) -> Values:
    empty = [float("nan")] * EMBEDDING_LENGTH
    return np.array([empty if one is None else one for one in column.to_pylist()], dtype=np.float32).reshape(
        -1, EMBEDDING_LENGTH
    )


def page(report: DriftReport) -> str:
    """Return a report as one HTML page that needs nothing else: what drifted, with plots, then all measures."""
    beyond = f"{len(report.drifted)} measures beyond their limits"
    verdict = "no drift" if report.passed else beyond if report.compared else "nothing to compare, which is not a pass"
    parts = [
        "<!doctype html><meta charset=utf-8><title>Drift</title>",
        _STYLE,
        f"<h1>Drift: {escape(verdict)}</h1>",
        f"<p>Against snapshot {escape(report.snapshot_id)}, {report.at:%Y-%m-%d %H:%M} UTC.</p>",
    ]
    for sample, one in report.drifted:
        parts.append(
            f"<h2>{escape(one.feature)} ({escape(sample)}): {one.measure} {one.value:.3f}, limit {one.limit}</h2>"
        )
        if one.labels:
            parts.append(f'<img alt="shares of {escape(one.feature)} before and after" src="{_plot(one)}">')
    parts.append("<h2>All measures</h2><table><tr><th>sample<th>feature<th>measure<th>value<th>limit")
    parts += [
        f"<tr{' class=bad' if one.drifted else ''}><td>{escape(sample)}<td>{escape(one.feature)}<td>{one.measure}"
        f"<td>{one.value:.4f}<td>{one.limit}"
        for sample, one in _all(report)
    ]
    return "\n".join([*parts, "</table>\n"])


def _all(report: DriftReport) -> Iterator[tuple[str, Moved]]:
    for sample, measures in report.moved.items():
        for one in sorted(measures, key=lambda each: -each.value / each.limit):
            yield sample, one


def _plot(one: Moved) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    place = np.arange(len(one.labels))
    axes.bar(place - 0.2, one.before, 0.4, label="snapshot", color="tab:gray")
    axes.bar(place + 0.2, one.after, 0.4, label="now", color="tab:red")
    axes.set_xticks(place, one.labels, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("share")
    axes.legend(frameon=False)
    sink = io.BytesIO()
    figure.savefig(sink, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(sink.getvalue()).decode()
