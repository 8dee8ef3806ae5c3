"""A user is erased and exported from views of pairs too; what a content's features keep of a user names nobody."""

import json
import uuid
import zipfile

import pytest

from privacy.erasure.rows import mentions
from privacy.export import export
from tests.support.app_folders import SHARED_VIEWS, default_app_and
from tests.support.batch_world import Parts
from tests.support.declared_views import listening
from tests.support.known_users import OTHER, PROJECT, USER, Home


@pytest.fixture
def shared(tmp_path, redis_factory, unique):
    """Two users who heard contents, in a stream with views of a user, a content, a pair with and one without the user."""
    app = default_app_and(tmp_path, f"pairs_{uuid.uuid4().hex[:8]}", shared=SHARED_VIEWS)
    home = Home(tmp_path / "home", redis_factory(), unique, app=app)
    of_whom = {"u0": USER, "u1": OTHER}
    records = []
    for record in listening(4, 80, at=home.now):
        if record.partition_key in of_whom:
            who = of_whom[record.partition_key]
            data = json.dumps(json.loads(record.data) | {"user_id": who}).encode()
            records.append(record._replace(partition_key=who, data=data))
    home.processor.process(Parts(records, 2), 1)
    return home


def test_a_user_disappears_from_pairs_and_from_what_contents_keep(shared):
    mine = f"{USER}{PROJECT}".encode()
    assert any(b"category" in key and mine in key for key in shared.redis.scan_iter())
    assert any(b":view:trending@" in key for key in shared.redis.scan_iter())
    other = shared.kept(OTHER)
    shared.processor._lease.release()
    receipt = shared.erase()
    assert shared.found(USER) == []
    assert shared.kept(OTHER) == other
    counts = {one.place: one.count for one in receipt.removed if one.what in ("rows", "keys")}
    assert counts[f"Redis: {PROJECT} online"] > 1
    assert counts["lake: features/liking"] > 0


def test_an_export_holds_the_users_pairs_and_nobody_elses(shared, tmp_path):
    target = tmp_path / "mine.zip"
    export(shared.settings, shared.lake, USER, target, now=shared.now)
    with zipfile.ZipFile(target) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    online = json.loads(texts["online.json"])[PROJECT]
    assert any("started of" in name and f"{USER}, " in name for name in online)
    assert "lake/features/liking.jsonl" in texts
    assert not any(mentions(OTHER).search(text.encode()) for text in texts.values())
