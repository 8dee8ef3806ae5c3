"""Features are written and read over TLS, with an ACL user who may do only that."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.errors import StackUnavailable
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter, WriteResult

pytestmark = pytest.mark.tls


def certificate(folder: Path) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


def test_writing_and_reading_over_tls_as_a_user_of_an_acl(
    redis_factory: Callable[..., RedisServer], tmp_path: Path
) -> None:
    import pyarrow as pa

    key, cert = certificate(tmp_path)
    users = tmp_path / "users.acl"
    users.write_text(
        "user default off\n"
        "user writer on >write-word ~* +@read +@write +@scripting +@connection\n"
        "user reader on >read-word ~* +@read +@connection\n"
    )
    options = {
        "tls-cert-file": str(cert),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(cert),
        "tls-auth-clients": "no",
    }
    server = redis_factory({**options, "aclfile": str(users)})
    address = f"127.0.0.1:{server.port},ssl=true,ssl_ca_certs={cert}"
    layout = ViewLayout.of(USER_SEQUENCE)
    table = pa.table(
        {
            "user_id": ["u1"],
            "event_timestamp": pa.array([10**15], pa.timestamp("us", tz="UTC")),
            "sequence_id": [5],
            "mapping_version": [1],
        }
    )
    writer = OnlineWriter(connect(f"{address},username=writer,password=write-word"), "p")
    assert writer.write(layout, table) == WriteResult(1, 0)

    plan = ReadPlan("p", (layout,))
    allowed = connect(f"{address},username=reader,password=read-word")
    assert OnlineReader(allowed, plan).read(["user_sequence"], {"user_id": ["u1"]}, now_us=10**15).values(
        "sequence_id"
    ) == [5]
    with pytest.raises(StackUnavailable, match="does not allow this to the user"):
        OnlineWriter(allowed, "p").write(layout, table)
    wrong = connect(f"{address},username=reader,password=wrong")
    with pytest.raises(StackUnavailable, match="refused the user or the password"):
        OnlineReader(wrong, plan).read(["user_sequence"], {"user_id": ["u1"]}, now_us=10**15)
    plain = connect(f"127.0.0.1:{server.port},socket_timeout=1")
    with pytest.raises(StackUnavailable):
        OnlineReader(plain, plan).read(["user_sequence"], {"user_id": ["u1"]}, now_us=10**15)
