"""A folder and S3 keep the same promises."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillpoint.errors import AlreadyExists, ObjectMissing
from stillpoint.lake.objects import LocalObjects, Objects, open_objects

Open = Callable[[], Objects]


@pytest.fixture(params=["folder", "aws"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return a function that opens the same store anew, as another process would."""
    if request.param == "folder":
        return lambda: open_objects(str(tmp_path / "store"))
    aws: Any = request.getfixturevalue(request.param)
    bucket = f"objects-{uuid.uuid4().hex[:8]}"
    aws.client("s3").create_bucket(Bucket=bucket)
    arguments = {
        "endpoint_url": aws.endpoint_url,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    return lambda: open_objects(f"s3://{bucket}/some/prefix", arguments)


def test_what_was_put_is_read_by_another_client(open_again: Open) -> None:
    open_again().put("a/b.json", b"one")
    open_again().put("a/b.json", b"two")
    assert open_again().get("a/b.json") == b"two"


def test_a_missing_object_is_named(open_again: Open) -> None:
    with pytest.raises(ObjectMissing, match=r"no object a/none\.json under .*"):
        open_again().get("a/none.json")


def test_creation_fails_when_the_key_is_taken_and_leaves_the_first(open_again: Open) -> None:
    open_again().create("once", b"first")
    with pytest.raises(AlreadyExists, match="object once exists already"):
        open_again().create("once", b"second")
    assert open_again().get("once") == b"first"


def test_of_many_creators_at_once_exactly_one_wins(open_again: Open) -> None:
    start = threading.Barrier(16)
    won: list[int] = []

    def create(number: int) -> None:
        store = open_again()
        start.wait()
        try:
            store.create("race", str(number).encode())
            won.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert open_again().get("race") == str(won[0]).encode()


def test_keys_are_listed_in_order_below_a_prefix_only(open_again: Open) -> None:
    store = open_again()
    for key in ("x/2.json", "x/10.json", "x/1.json", "xy/3.json", "y/4.json"):
        store.put(key, b"")
    assert list(store.list("x/")) == ["x/1.json", "x/10.json", "x/2.json"]
    assert list(store.list("x")) == ["x/1.json", "x/10.json", "x/2.json", "xy/3.json"]
    assert list(store.list("none/")) == []


def test_more_keys_than_one_page_are_all_listed(open_again: Open) -> None:
    store = open_again()
    expected = [f"many/{number:05d}" for number in range(1_050)]
    for key in expected:
        store.put(key, b"")
    assert list(store.list("many/")) == expected


def test_deletion_of_a_missing_object_is_no_error(open_again: Open) -> None:
    store = open_again()
    store.put("gone", b"")
    store.delete("gone")
    store.delete("gone")
    assert list(store.list("gone")) == []


def test_arrow_reads_what_was_put(open_again: Open) -> None:
    store = open_again()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": [1, 2]}), sink)
    store.put("t/part.parquet", sink.getvalue().to_pybytes())
    filesystem, root = store.arrow()
    assert pq.read_table(f"{root}/t/part.parquet", filesystem=filesystem).to_pydict() == {"n": [1, 2]}


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / ".staged-abc").write_bytes(b"half")
    assert list(store.list("f/")) == []
