"""What the model's container answers, to many callers at once and to what it cannot use, over real HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from inference.model_server import MAX_BODY, create_app
from stillpoint.model import ModelBundle
from tests.support.hand_made import contents, model

IDS = tuple(one[0] for one in contents(12))
BUNDLE = model(IDS)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(BUNDLE), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as opened:
        yield opened


def columns(bundle: ModelBundle, plays: float = 3.0) -> dict[str, list[Any]]:
    texts = bundle.manifest.categories
    given: dict[str, list[Any]] = {name: [texts[name][0]] if name in texts else [None] for name in bundle.input_columns}
    return given | {"plays_7d": [plays]}


def document(**changes: Any) -> dict[str, Any]:
    return {"columns": columns(BUNDLE), "content_ids": list(IDS), "sequence_id": 3} | changes


def test_eight_callers_at_once_each_get_their_own_scores(port: int) -> None:
    def ask(caller: int) -> list[tuple[list[float], list[float]]]:
        rng = np.random.default_rng(caller)
        found = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            for _ in range(50):
                ids = rng.permutation(IDS)[: rng.integers(1, 12)].tolist()
                plays, sequence_id = float(rng.integers(0, 1_000)), int(rng.integers(0, 20))
                answer = client.post(
                    "/invocations",
                    json={"columns": columns(BUNDLE, plays), "content_ids": ids, "sequence_id": sequence_id},
                )
                given = {
                    name: np.array(values, dtype=object if name in BUNDLE.manifest.categories else float)
                    for name, values in columns(BUNDLE, plays).items()
                }
                expected = BUNDLE.score(given, content_ids=ids, sequence_id=sequence_id)
                found.append((answer.json()["scores"], expected.tolist()))
        return found

    with ThreadPoolExecutor(8) as pool:
        answers = [pair for pairs in pool.map(ask, range(8)) for pair in pairs]
    assert len(answers) == 400
    assert all(got == expected for got, expected in answers)
    assert len({tuple(got) for got, _ in answers}) > 200


def test_csv_and_json_give_the_same_scores(client: httpx.Client) -> None:
    given = columns(BUNDLE)
    asked = document(columns={name: values * len(IDS) for name, values in given.items()}, sequence_id=[3] * len(IDS))
    names = ["content_id", "sequence_id", *given]
    lines = [",".join(names)]
    lines += [",".join([one, "3", *("" if v[0] is None else str(v[0]) for v in given.values())]) for one in IDS]
    as_csv = client.post(
        "/invocations", content="\n".join(lines) + "\n", headers={"Content-Type": "text/csv; charset=utf-8"}
    )
    assert as_csv.status_code == 200, as_csv.text
    assert as_csv.json() == client.post("/invocations", json=asked).json()


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", "application/jsonlines", ""])
def test_another_content_type_is_415(client: httpx.Client, kind: str) -> None:
    answer = client.post("/invocations", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json()["detail"] == f"content type {kind!r}; expected application/json or text/csv"


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"
        caller.sendall(head.encode())
        assert caller.recv(1_000).startswith(b"HTTP/1.1 413")


def test_a_body_of_unsaid_length_is_read_up_to_the_limit(port: int) -> None:
    part = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(MAX_BODY // 2**20 + 1):
            caller.sendall(part)
        assert caller.recv(1_000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": {"plays_7d": [1]}}, "which the input lacks"),
        ({"columns": columns(BUNDLE) | {"plays_8d": [1]}}, "was not trained on column plays_8d"),
        ({"columns": columns(BUNDLE) | {"plays_7d": ["many"]}}, "column plays_7d: expected numbers or null"),
        ({"columns": columns(BUNDLE) | {"plays_7d": ["1"]}}, "column plays_7d: expected numbers or null"),
        ({"columns": columns(BUNDLE) | {"plays_7d": 1}}, "column plays_7d: expected a list"),
        ({"columns": columns(BUNDLE) | {"plays_7d": [1, 2]}}, r"column plays_7d has shape (2,) for 12 contents"),
        ({"columns": columns(BUNDLE) | {"gender": [1]}}, "column gender: expected texts or null"),
        ({"content_ids": []}, "`content_ids`: expected a list of at least one text"),
        ({"sequence_id": 20}, "sequence id 20 lies beyond the 20 users of mapping 1"),
        ({"sequence_id": [1]}, "`sequence_id` holds 1 values for 12 contents"),
        ({"sequence_id": 1.5}, "`sequence_id`: expected a whole number"),
        ({"sequence_id": 2**63}, "`sequence_id`: expected a whole number"),
        ({"user_id": "u1"}, "unknown: user_id"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:40],
)
def test_input_that_does_not_fit_the_signature_is_refused_by_name(
    client: httpx.Client, changes: dict[str, Any], sentence: str
) -> None:
    answer = client.post("/invocations", json=document(**changes))
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("a,b\n1,2\n", "expected a header of different names with `content_id`"),
        ("content_id\n", "and at least one row"),
        ("content_id,plays_7d\nc0001\n", "row 1 holds 1 cells; expected 2"),
        ("content_id,plays_7d\nc0001,many\n", "column plays_7d: 'many' is not a number"),
        ("content_id,sequence_id\nc0001,ann\n", "`sequence_id`: 'ann' is not a whole number"),
        ("content_id,plays_8d\nc0001,1\n", "needs columns"),
        ("", "the body is not CSV with a header"),
    ],
)
def test_csv_that_does_not_fit_is_refused_by_name(client: httpx.Client, body: str, sentence: str) -> None:
    answer = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]
