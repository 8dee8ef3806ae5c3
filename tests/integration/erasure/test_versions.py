"""What a versioned bucket keeps of a user's deleted files goes too, and nobody else's; what may not be deleted is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from ingestion.compact import compact
from privacy.erasure.lake import LakeErasure
from privacy.erasure.receipt import REQUESTS
from privacy.erasure.requests import ErasureRequests
from privacy.erasure.rows import mentions
from privacy.erasure.versions import VersionErasure, remaining_versions
from stillpoint.errors import StackUnavailable
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import S3Objects
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from tests.support.wellness import EVENT_COLUMNS, FEATURES

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def users(*names: str) -> pa.Table:
    row = {"signed_up_at": NOW, "gender": None, "locale": "en", "subscribed": True, "push_opt_in": False}
    return pa.Table.from_pylist([{"user_id": name, "updated_at": NOW, **row} for name in names], schema=USER_COLUMNS)


def keep(lake: Lake, number: int, table: pa.Table, dataset: str = "users") -> str:
    file = lake.write(dataset, NOW.date(), f"w-{number}", table)
    lake.commit(Commit(writer="w", sequence=number, at=NOW, files=(file,)))
    return file.path


@pytest.fixture
def versioned(s3_lake: Lake, aws: AwsServer, unique: str) -> Any:
    s3 = aws.client("s3")
    s3.put_bucket_versioning(Bucket=unique, VersioningConfiguration={"Status": "Enabled"})  # type: ignore[attr-defined]
    return s3


def speaking(s3: Any, bucket: str, user: str) -> list[str]:
    """Return the keys of all versions, present and old, that hold a user."""
    found = []
    for item in s3.list_object_versions(Bucket=bucket).get("Versions", ()):
        data = s3.get_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])["Body"].read()
        if item["Key"].endswith(".parquet"):
            data = str(pa.parquet.read_table(pa.BufferReader(data)).to_pylist()).encode()
        if mentions(user).search(data):
            found.append(item["Key"])
    return found


def erased(lake: Lake, user: str) -> LakeErasure:
    own = LakeErasure(lake, frozenset({user}), "run")
    own.supersede(at=NOW)
    own.purge()
    own.revise_documents()
    own.purge_versions()
    return own


def test_no_version_of_any_file_holds_the_person_and_everybody_elses_stay(
    s3_lake: Lake, versioned: Any, unique: str
) -> None:
    objects = s3_lake.objects
    both, other = keep(s3_lake, 0, users("u1", "u10")), keep(s3_lake, 1, users("u10"))
    objects.delete(other)
    objects.delete(keep(s3_lake, 2, users("u1")))  # deleted by somebody else, long before
    objects.put("reports/check.json", b'{"example": "u1"}')
    objects.put("reports/check.json", b'{"example": "u10"}')
    objects.put("reports/other.json", b'{"example": "u10"}')
    objects.delete("reports/other.json")
    own = erased(s3_lake, "u1")
    assert speaking(versioned, unique, "u1") == []
    left = speaking(versioned, unique, "u10")
    assert {f"lake/{other}", "lake/reports/check.json", "lake/reports/other.json"} <= set(left)
    assert f"lake/{both}" not in left
    assert (own.versions.deleted.total(), own.versions.kept) == (3, [])
    assert erased(Lake(objects, FEATURES), "u1").versions == VersionErasure()


def test_a_table_that_was_replaced_at_its_path_leaves_no_version_of_the_user(
    s3_lake: Lake, versioned: Any, unique: str
) -> None:
    def event(user: str, number: int) -> dict[str, Any]:
        row = dict.fromkeys(EVENT_COLUMNS.names)
        return row | {"user_id": user, "shard": "s", "sequence": str(number), "event_id": f"{number}"}

    rows = [event("u1", 1), event("u10", 2)]
    filled = [{**row, **{field.name: _any(field.type) for field in EVENT_COLUMNS if row[field.name] is None}} for row in rows]  # fmt: skip
    keep(s3_lake, 0, pa.Table.from_pylist(filled, schema=EVENT_COLUMNS), "events")
    compact(s3_lake, before=NOW.date() + DAY, at=NOW)
    assert erased(s3_lake, "u1").versions.deleted.total() >= 2
    assert speaking(versioned, unique, "u1") == []
    assert any(key.startswith("lake/tables/events/") for key in speaking(versioned, unique, "u10"))


def _any(kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return NOW
    return "x" if pa.types.is_string(kind) else None


def test_a_request_that_named_the_person_leaves_no_version(s3_lake: Lake, versioned: Any, unique: str) -> None:
    requests = ErasureRequests(s3_lake.objects, b"key", lambda: NOW)
    requests.ask("u1")
    (request,) = requests.pending()
    requests.gave_up(request, "away")
    requests.done(request)
    assert list(s3_lake.objects.list(REQUESTS)) == []
    assert speaking(versioned, unique, "u1") == []


def test_versions_that_may_not_be_deleted_are_told_with_the_day_on_which_the_bucket_drops_them(
    s3_lake: Lake, versioned: Any, unique: str, aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_lake.objects.delete(keep(s3_lake, 0, users("u1")))
    assert isinstance(s3_lake.objects, S3Objects)
    client = s3_lake.objects._client
    denied = client.exceptions.ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "DeleteObject"
    )

    def delete_object(**asked: Any) -> None:
        assert "VersionId" in asked
        raise denied

    monkeypatch.setattr(client, "delete_object", delete_object)
    own = LakeErasure(s3_lake, frozenset({"u1"}), "run")
    own.purge_versions()
    assert own.versions.deleted.total() == 0
    assert len(own.versions.kept) == 1
    versioned.put_bucket_lifecycle_configuration(
        Bucket=unique,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "a",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "lake/"},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                }
            ]
        },
    )
    ask = lambda: versioned.get_bucket_lifecycle_configuration(Bucket=unique)  # noqa: E731
    (told,) = remaining_versions(own.versions, ask, bucket=unique, prefix="lake/", now=NOW)
    assert told.until == NOW + 31 * DAY
    assert "AccessDenied" in told.why


def test_a_bucket_that_is_away_ends_the_erasure_and_is_no_right_that_lacks(
    s3_lake: Lake, versioned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_lake.objects.delete(keep(s3_lake, 0, users("u1")))
    assert isinstance(s3_lake.objects, S3Objects)
    client = s3_lake.objects._client
    slow = client.exceptions.ClientError(
        {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "x"
    )

    def get_object(**_: Any) -> None:
        raise slow

    monkeypatch.setattr(client, "get_object", get_object)
    with pytest.raises(StackUnavailable):
        LakeErasure(s3_lake, frozenset({"u1"}), "run").purge_versions()


RULE = {"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([RULE | {"Filter": {"Prefix": ""}}], 30),
        ([RULE | {"Prefix": ""}], 30),
        ([RULE | {"Filter": {"Prefix": "lake/events/"}}], None),
        ([RULE | {"Filter": {"Prefix": "", "ObjectSizeGreaterThan": 5}}], None),
        ([RULE | {"Filter": {"Tag": {"Key": "a", "Value": "b"}}}], None),
        ([RULE | {"Status": "Disabled", "Filter": {"Prefix": ""}}], None),
        ([{"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}], None),
        ([RULE | {"NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}}], None),
        ([RULE | {"Prefix": ""}, RULE | {"Prefix": "", "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}], 7),
    ],
)
def test_a_day_is_named_only_if_a_rule_surely_covers_every_version(rules: list[Any], days: int | None) -> None:
    kept = VersionErasure(kept=["v: AccessDenied"])
    (told,) = remaining_versions(kept, lambda: {"Rules": rules}, bucket="b", prefix="lake/", now=NOW)
    assert told.until == (None if days is None else NOW + (days + 1) * DAY)


def test_where_everything_was_deleted_nothing_is_told() -> None:
    assert list(remaining_versions(VersionErasure(3), dict, bucket="b", prefix="lake/", now=NOW)) == []
