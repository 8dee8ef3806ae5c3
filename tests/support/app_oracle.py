"""The oracle of declared views: the rows of any view by brute force, sharing no code with the engine.

Every row looks at all events again, in exact fractions. Slow, and meant to be.
"""

import math
from collections import Counter
from fractions import Fraction

import numpy as np


def rows(view, on_time, encode=None):
    """Return the newest row of each key and time of a view, ordered, from on-time arrivals in any order."""
    kinds = {leaf for one in view.declared().values() for event in (*one.events, *one.of) for leaf in event.leaves}
    keyed = {}
    for arrival in on_time:
        key = tuple(getattr(arrival.event, name, None) for name in view.entity.keys)
        if type(arrival.event) in kinds and None not in key:
            keyed.setdefault(tuple(map(str, key)), []).append(arrival)
    step = None if "user_id" in view.entity.keys else round(view.row_step.total_seconds() * 1_000_000)
    found = []
    for key in sorted(keyed):
        events = keyed[key]
        times = {a.event_us if step is None else math.ceil(Fraction(a.event_us, step)) * step for a in events}
        pasts = ((t, [a for a in events if a.event_us <= t]) for t in sorted(times))
        found += [(*key, *row(view, t, past, step is not None, encode)) for t, past in pasts]
    return found


def row(view, t, past, shared, encode):
    features = view.features()
    widest = max((window(one.window, t, past) for one in features), key=len)
    created = max(a.arrived_us for a in widest) + (len(widest) - 1 if shared else 0)
    return (t, created, *(value(one, t, past, encode) for one in features))


def window(declared, t, past, share=1):
    """Return the events of a window as of t."""
    if hasattr(declared, "gap_us"):
        edge = t
        for a in sorted(past, key=lambda a: a.event_us, reverse=True):
            if edge - a.event_us > declared.gap_us:
                break
            edge = a.event_us
        return [a for a in past if a.event_us >= edge]
    edge = Fraction(t) - declared.length_us // share
    if declared.step_us is not None:
        edge = math.floor(edge / declared.step_us) * declared.step_us
    return [a for a in past if a.event_us > edge]


def leaves(events):
    return {leaf for event in events for leaf in event.leaves}


def passes(told, event):
    where = told.get("where")
    return where is None or holds(where, event)


def holds(condition, event):
    name = type(condition).__name__
    if name == "Both":
        return holds(condition.left, event) and holds(condition.right, event)
    if name == "Either":
        return holds(condition.left, event) or holds(condition.right, event)
    if name == "Not":
        return not holds(condition.condition, event)
    found = getattr(event, condition.field.name)
    if name == "Present":
        return found is not None
    if name == "OneOf":
        return any(found == value for value in condition.values)
    if found is None:
        return False
    return {
        "==": found == condition.value,
        "!=": found != condition.value,
        "<": condition.sign[0] == "<" and found < condition.value,
        "<=": condition.sign[0] == "<" and found <= condition.value,
        ">": condition.sign[0] == ">" and found > condition.value,
        ">=": condition.sign[0] == ">" and found >= condition.value,
    }[condition.sign]


def value(feature, t, past, encode):
    told, declared = feature.declared.told, feature.declared
    seen = window(feature.window, t, past)
    chosen = [a for a in seen if type(a.event) in leaves(declared.events) and passes(told, a.event)]
    name = feature.aggregation.name
    if name == "share":
        base = {getattr(a.event, declared.field) for a in seen if type(a.event) in leaves(declared.of)} - {None}
        hits = {getattr(a.event, declared.field) for a in chosen}
        return len(base & hits) / len(base) if base else told.get("default")
    if hasattr(declared.field, "name"):
        chosen = [a for a in chosen if getattr(a.event, declared.field.name) is not None]
    if not chosen and told.get("default") is not None:
        return told["default"]
    chosen.sort(key=lambda a: (a.event_us, a.event.event_id))
    get = (lambda a: getattr(a.event, declared.field.name)) if hasattr(declared.field, "name") else (lambda a: a.event)
    newer = window(feature.window, t, past, 2) if name == "newer_minus_older" else []
    return ANSWERS[name](feature, t, chosen, [get(a) for a in chosen], newer, encode)


def plain(x):
    return x + 0.0 if isinstance(x, float) else x if isinstance(x, bool | int) else str(x)


def rounded(exact, values):
    return int(exact) if all(type(x) is int for x in values) else float(exact)


def slope(feature, t, events, values):
    xs = [Fraction(a.event_us - t, feature.aggregation.per_us) for a in events]
    ys = list(map(Fraction, values))
    if len(set(xs)) < 2:
        return None
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    top = sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True))
    return float(top / sum((x - x0) ** 2 for x in xs))


def trend(events, values, newer):
    if not events:
        return None
    ids = {id(a) for a in newer}
    parts = [Fraction(v) if id(a) in ids else -Fraction(v) for a, v in zip(events, values, strict=True)]
    return rounded(sum(parts), values)


def deviation(values):
    exact = list(map(Fraction, values))
    middle = sum(exact) / len(exact)
    return math.sqrt(float(sum((x - middle) ** 2 for x in exact) / len(exact)))


def frequent(events, values):
    counts = Counter(map(plain, values))
    latest = {plain(v): (a.event_us, a.event.event_id) for a, v in zip(events, values, strict=True)}
    return max(counts, key=lambda v: (counts[v], latest[v]))


def blended(feature, values, encode):
    total, weight = [0.0] * 256, 1.0
    for text in values[::-1][: feature.aggregation.count]:
        vector = encode([text])[0]
        if not np.isnan(vector[0]):
            total = [s + weight * float(x) for s, x in zip(total, vector, strict=True)]
        weight *= feature.aggregation.decay
    norm = math.sqrt(sum((Fraction(x * x) for x in total), start=Fraction(0)))
    return None if norm == 0 else np.array([x / norm for x in total], dtype=np.float32)


ANSWERS = {
    "count": lambda f, t, e, v, n, _: len(e),
    "exists": lambda f, t, e, v, n, _: bool(e),
    "count_distinct": lambda f, t, e, v, n, _: len(set(map(plain, v))),
    "sum": lambda f, t, e, v, n, _: rounded(sum(map(Fraction, v)), v) if v else None,
    "mean": lambda f, t, e, v, n, _: float(sum(map(Fraction, v)) / len(v)) if v else None,
    "standard_deviation": lambda f, t, e, v, n, _: deviation(v) if v else None,
    "minimum": lambda f, t, e, v, n, _: plain(min(v)) if v else None,
    "maximum": lambda f, t, e, v, n, _: plain(max(v)) if v else None,
    "slope": lambda f, t, e, v, n, _: slope(f, t, e, v),
    "newer_minus_older": lambda f, t, e, v, n, _: trend(e, v, n),
    "first": lambda f, t, e, v, n, _: plain(v[0]) if v else None,
    "last": lambda f, t, e, v, n, _: plain(v[-1]) if v else None,
    "last_n": lambda f, t, e, v, n, _: [plain(x) for x in v[::-1][: f.aggregation.count]] if v else None,
    "most_frequent": lambda f, t, e, v, n, _: frequent(e, v) if v else None,
    "time_since_last": lambda f, t, e, v, n, _: (t - e[-1].event_us) / 1_000_000 if e else None,
    "time_since_first": lambda f, t, e, v, n, _: (t - e[0].event_us) / 1_000_000 if e else None,
    "blended_embedding": lambda f, t, e, v, n, encode: blended(f, v, encode) if v else None,
    "own": lambda f, t, e, v, n, _: f.aggregation.function(v, t),
}


def newest(rows, key):
    """Return by key and time the row with the greatest created timestamp, of equal ones the last."""
    found = {}
    for one in rows:
        place = one[: key + 1]
        if place not in found or one[key + 1] >= found[place][key + 1]:
            found[place] = one
    return found


def bits(row):
    """Return a row as values that are equal only for equal bits and equal types."""
    return [
        (type(v).__name__, v.tobytes().hex() if isinstance(v, np.ndarray) else v.hex() if isinstance(v, float) else v)
        for v in row
    ]
