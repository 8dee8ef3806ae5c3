"""A user is gone from everywhere after an erasure, and all others untouched, on a real lake, Redis and stream driver."""

import hashlib
from datetime import UTC, datetime

import pytest

from ingestion.reconcile import reconcile
from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput, InvalidSettings
from stillpoint.lake.tables import Lake
from stillpoint.tombstones import ErasureLookup, erasure_key, read_tombstones
from tests.support.known_users import OTHER, PROJECT, USER
from tests.support.wellness import FEATURES, STREAMED_VIEWS


def test_a_user_disappears_from_everywhere_and_others_stay_as_they_are(home):
    assert len(home.found(USER)) > 12, "the test must plant the user in many places"
    before = home.kept(OTHER)
    home.processor._lease.release()
    receipt = home.erase()
    assert home.found(USER) == []
    assert home.kept(OTHER) == before
    counts = {one.place: one.count for one in receipt.removed if one.what in ("rows", "keys")}
    assert counts["lake: events"] == 2
    assert counts["lake: quarantine"] == 1
    assert counts["lake: snapshots"] == 1
    assert counts[f"Redis: {PROJECT} online"] == 1
    assert counts["Redis: recommendations"] == counts["Redis: stream state"] == 1
    assert receipt.revised_snapshots == ("s1",)
    assert receipt.models == (home.made.bundle.key,), "its id mapping held the user"
    assert USER not in receipt.model_dump_json().replace(receipt.person, "")
    manifest = home.lake.get_json("snapshots/s1/manifest.json")
    rows = home.lake.objects.get("snapshots/s1/rows-1.parquet")
    assert (manifest["revision"], manifest["rows"], manifest["positives"]) == (1, 2, 1)
    assert manifest["rows_sha256"] == hashlib.sha256(rows).hexdigest()


def test_an_unknown_user_gets_a_receipt_that_says_so_and_a_malformed_id_is_refused(home):
    home.processor._lease.release()
    before = {key: home.lake.objects.get(key) for key in home.lake.objects.list("features/")}
    receipt = home.erase("nobody")
    assert not receipt.found
    assert receipt.removed == ()
    assert before == {key: home.lake.objects.get(key) for key in home.lake.objects.list("features/")}
    for bad in ("", "a\nb", " u1", "x" * 300):
        with pytest.raises(InvalidInput, match="is malformed; expected 1 to 64 letters, digits"):
            home.erase(bad)


def test_the_lake_and_the_online_store_still_agree(home):
    home.processor._lease.release()
    home.erase()
    views = [view.name for view in STREAMED_VIEWS]
    found = reconcile(Lake(home.lake.objects, FEATURES), {PROJECT: (home.redis, views)})
    assert found.unequal_commits == []
    for view in views:
        compared = found.views[f"{PROJECT}/{view}"]
        assert compared.different + compared.missing == 0


def test_nobody_can_test_an_id_against_tombstones_without_the_key(home):
    home.processor._lease.release()
    receipt = home.erase()
    assert receipt.person not in {hashlib.sha256(USER.encode()).hexdigest(), hashlib.md5(USER.encode()).hexdigest()}
    with pytest.raises(InvalidSettings, match="made with another key"):
        read_tombstones(home.lake.objects, b"another key")
    known = read_tombstones(home.lake.objects, erasure_key(home.settings))
    assert known.until_us(USER) == to_micros(receipt.erased_until)
    assert repr(erasure_key(home.settings)) not in repr(known)


def test_serving_knows_at_once_and_also_after_redis_has_forgotten(home):
    home.processor._lease.release()
    objects, key = home.lake.objects, erasure_key(home.settings)
    asked = ErasureLookup(home.redis, objects, key, lambda: home.now)
    moment = to_micros(home.now)
    assert not asked(USER, moment)
    home.erase()
    assert asked(USER, moment)
    assert not asked(OTHER, moment)
    assert not asked(USER, to_micros(datetime.now(UTC)) + 60_000_000)
    home.redis.delete("stillpoint:erased")
    assert ErasureLookup(home.redis, objects, key, lambda: home.now)(USER, moment)
