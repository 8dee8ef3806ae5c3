"""S3's outages are told from its verdicts, and a conflict from a key that is taken."""

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from stillpoint.errors import AlreadyExists, ObjectMissing, StackUnavailable
from stillpoint.lake.objects import CONFLICT_TRIES, S3Objects


class Store:
    """An S3 client that answers what it is told to, in order."""

    def __init__(self) -> None:
        client: Any = boto3.client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=boto3.session.Config(retries={"total_max_attempts": 1}),
        )
        self.stub = Stubber(client)
        self.stub.activate()
        self.pauses: list[float] = []
        self.objects = S3Objects(client, "bucket", "lake", sleep=self.pauses.append)

    def says(self, method: str, code: str, status: int) -> None:
        self.stub.add_client_error(method, code, "m", status)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_conflict_is_tried_again_until_the_key_is_written(store: Store) -> None:
    for _ in range(3):
        store.says("put_object", "ConditionalRequestConflict", 409)
    store.stub.add_response("put_object", {})
    store.objects.create("once", b"mine")
    store.stub.assert_no_pending_responses()
    assert store.pauses == sorted(store.pauses)
    assert len(store.pauses) == 3


def test_a_conflict_that_turns_out_to_be_another_put_says_that_the_key_is_taken(store: Store) -> None:
    store.says("put_object", "ConditionalRequestConflict", 409)
    store.says("put_object", "PreconditionFailed", 412)
    with pytest.raises(AlreadyExists):
        store.objects.create("once", b"mine")


def test_a_conflict_without_an_end_is_an_outage_and_never_a_key_that_is_taken(store: Store) -> None:
    for _ in range(CONFLICT_TRIES):
        store.says("put_object", "ConditionalRequestConflict", 409)
    with pytest.raises(StackUnavailable, match="s3://bucket/lake cannot answer now"):
        store.objects.create("once", b"mine")
    store.stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("ExpiredToken", 400),
        ("InternalError", 500),
        ("KMS.DisabledException", 400),
        ("KMS.KMSInvalidStateException", 400),
        ("KMS.NotFoundException", 400),
        ("KMS.ThrottlingException", 400),
    ],
)
@pytest.mark.parametrize("method", ["get_object", "put_object", "delete_object", "list_objects_v2"])
def test_trouble_is_the_same_error_for_whatever_is_done(store: Store, method: str, code: str, status: int) -> None:
    store.says(method, code, status)
    do = {
        "get_object": lambda: store.objects.get("k"),
        "put_object": lambda: store.objects.put("k", b""),
        "delete_object": lambda: store.objects.delete("k"),
        "list_objects_v2": lambda: list(store.objects.list("k")),
    }[method]
    with pytest.raises(StackUnavailable, match="s3://bucket/lake "):
        do()


def test_what_s3_says_of_a_key_is_no_trouble(store: Store) -> None:
    store.says("get_object", "NoSuchKey", 404)
    store.says("put_object", "EntityTooLarge", 400)
    with pytest.raises(ObjectMissing):
        store.objects.get("k")
    with pytest.raises(ClientError, match="EntityTooLarge"):
        store.objects.put("k", b"")
