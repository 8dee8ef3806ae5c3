"""Gate check: both colours hold the same values of shared views, so that a switch loses none."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from itertools import islice

from release.colour import entity_ids
from release.gate import CheckResult, Side, Subject
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.stores.redis.keys import encode_key_values
from stillpoint.stores.redis.layout import ViewLayout, key_prefix
from stillpoint.stores.values.times import decode_time

Pair = tuple[str, str]
"""An entity's id and a view's name."""


class SharedViews:
    name = "shared views"

    def run(self, subject: Subject) -> CheckResult:
        """Compare every entity and shared view of both colours by bytes and event time.

        Events arrive meanwhile, so pairs that differ are read again. Values that both colours would withhold as too old are left out.
        """
        live, thresholds = subject.live, subject.thresholds
        if live is None or live.release.project == subject.candidate.release.project:
            return CheckResult(name=self.name, passed=True, found="nothing to compare", expected="a live colour beside")
        compared = 0
        differing: dict[str, set[Pair]] = {}
        for join_key in sorted({layout.join_keys[0].name for layout in shared(live, subject.candidate)}):
            layouts = [layout for layout in shared(live, subject.candidate) if layout.join_keys[0].name == join_key]
            ids = sorted({*entity_ids(live.client, live.release.project, join_key),
                          *entity_ids(subject.candidate.client, subject.candidate.release.project, join_key)})  # fmt: skip
            pairs = compare(live, subject.candidate, layouts, ids, now_us=subject.now_us)
            compared += len(ids) * len(layouts)
            for _ in range(thresholds.digest_reads - 1):
                if not pairs:
                    break
                time.sleep(thresholds.digest_pause_seconds)
                again = sorted({entity for entity, _ in pairs})
                pairs &= compare(live, subject.candidate, layouts, again, now_us=subject.now_us)
            differing[join_key] = pairs
        count = sum(len(pairs) for pairs in differing.values())
        return CheckResult(
            name=self.name,
            passed=count <= thresholds.digest_differences,
            found=f"{count} of {compared} pairs of entity and view differ from {live.release.id}",
            expected=f"at most {thresholds.digest_differences} after {thresholds.digest_reads} readings",
            numbers={"compared": float(compared), "differing": float(count)},
            examples=tuple(f"{v} {e}" for pairs in differing.values() for e, v in sorted(pairs)[:5]),
        )


def shared(live: Side, candidate: Side) -> list[ViewLayout]:
    """Return the views that both plans read in the same layout, without the id mapping, which differs by release."""
    ours = {layout.name: layout for layout in candidate.plan.views}
    return [
        layout for layout in live.plan.views if ours.get(layout.name) == layout and layout.name != USER_SEQUENCE.name
    ]


def compare(
    live: Side, candidate: Side, layouts: Sequence[ViewLayout], ids: Iterable[str], *, now_us: int
) -> set[Pair]:
    """Return the pairs whose values or event times differ between the colours, in chunks of 500 entities."""
    found: set[Pair] = set()
    source = iter(ids)
    while chunk := list(islice(source, 500)):
        left = _digests(live, layouts, chunk, now_us)
        right = _digests(candidate, layouts, chunk, now_us)
        found |= {pair for pair, digest in left.items() if right[pair] != digest}
    return found


def _digests(side: Side, layouts: Sequence[ViewLayout], ids: Sequence[str], now_us: int) -> dict[Pair, bytes | None]:
    """Return a digest per pair; None for one that is absent or past its time to live."""
    first = layouts[0]
    prefix = key_prefix([first.join_keys[0].name])
    project = side.release.project.encode()
    pipeline = side.client.pipeline(transaction=False)
    values = encode_key_values(first.join_keys[0], ids, first.name)
    for value in values:
        pipeline.hmget(
            prefix + value + project, *[f for layout in layouts for f in (layout.event_field, *layout.fields)]
        )
    found: dict[Pair, bytes | None] = {}
    for one, reply in zip(ids, pipeline.execute(), strict=True):
        place = 0
        for layout in layouts:
            stored = reply[place : place + 1 + len(layout.fields)]
            place += len(stored)
            found[(one, layout.name)] = _digest(layout, stored, now_us)
    return found


def _digest(layout: ViewLayout, stored: Sequence[bytes | None], now_us: int) -> bytes | None:
    if stored[0] is None:
        return None
    if layout.max_age_us is not None and decode_time(stored[0]) < now_us - layout.max_age_us:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in stored:
        # Feast writes null as empty bytes or leaves it out: both are null.
        digest.update(len(part or b"").to_bytes(4, "little") + (part or b""))
    return digest.digest()
