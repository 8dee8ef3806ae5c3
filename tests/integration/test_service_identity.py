"""The started service knows services and users by an issuer's tokens, over HTTPS, and tells strangers nothing."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stillpoint.client import AsyncClient, Client, ServiceError, types
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.settings import Settings
from tests.support.hand_made import hand_made
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.service_thread import service_thread
from tests.support.wellness import FEATURES


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stillpoint of a test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, secret


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def trusted(pem: tuple[Path, Path]) -> ssl.SSLContext:
    """Trusts that certificate alone."""
    return ssl.create_default_context(cafile=str(pem[0]))


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    redis_of_module: RedisServer,
    issuer: Issuer,
    pem: tuple[Path, Path],
    trusted: ssl.SSLContext,
) -> Iterator[httpx.Client]:
    home = tmp_path_factory.mktemp("identity")
    (home / "keys.json").write_bytes(issuer.key_set())
    redis = redis_of_module.connection_string
    settings = Settings(
        _env_file=None,
        home=home,
        lake=str(home / "lake"),
        **{f"redis_{name}": redis for name in ("blue", "green", "serving", "state", "sandbox")},
    )
    hand_made(Lake(LocalObjects(home / "lake"), FEATURES), settings, project="stillpoint_identity").point()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "JWT_KEYS": str(home / "keys.json"),
            "GUARDED": "true",
            "PER_SECOND": "1000",
        }.items():
            patch.setenv(f"STILLPOINT_HTTP_{name}", value)
        with (
            service_thread(settings, patch, certificate=pem, ready="/healthz", trusting=trusted) as url,
            httpx.Client(base_url=url, verify=trusted, timeout=10) as client,
        ):
            yield client


def test_probes_and_metrics_are_for_those_with_a_token_where_the_setting_says_so(
    service: httpx.Client, issuer: Issuer
) -> None:
    reads = {"Authorization": f"Bearer {issuer.token(scope='read')}"}
    assert service.get("/healthz").status_code == 200
    for path in ("/metrics", "/readyz"):
        assert service.get(path).status_code == 401
        assert service.get(path, headers=reads).status_code == 200


def test_a_user_reaches_what_is_theirs_and_a_service_what_its_scopes_name(
    service: httpx.Client, issuer: Issuer
) -> None:
    def status(method: str, path: str, token: str | None, **more: object) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return service.request(method, path, headers=headers, **more).status_code  # type: ignore[arg-type]

    mine, theirs = "/v1/users/u1/recommendations", "/v1/users/u2/recommendations"
    user = issuer.token(subject="u1", scope="user")
    assert [status("GET", path, user) for path in (mine, theirs)] == [200, 403]
    predict = "/v1/recommendations"
    assert [status("POST", predict, user, json={"user_id": one}) for one in ("u1", "u2")] == [200, 403]
    assert status("POST", "/get-online-features", user, json={}) == 403
    assert status("GET", "/v1/users/u1/export", user) == 403
    event = {"schema_version": 1, "event_id": "6d1f6a8e-25a6-4e3c-8a4e-1f0a5c6f7b10", "user_id": "u2", "type": "login",
             "event_timestamp": datetime.datetime.now(datetime.UTC).isoformat(), "platform": "ios"}  # fmt: skip
    assert status("POST", "/v1/events", user, json={"events": [event]}) == 403

    reader = issuer.token(scope="read")
    assert [status("GET", path, reader) for path in (mine, theirs)] == [200, 200]
    assert status("POST", predict, reader, json={"user_id": "u1"}) == 403
    assert status("POST", predict, issuer.token(scope="predict"), json={"user_id": "u1"}) == 200
    assert status("GET", mine, issuer.token(scope="read", iss="https://id.example.net")) == 401
    assert status("GET", mine, None) == 401


def test_the_typed_client_talks_to_the_service_from_threads_and_from_asyncio(
    service: httpx.Client, issuer: Issuer, trusted: ssl.SSLContext
) -> None:
    url, token = str(service.base_url), issuer.token(scope="read predict")
    with Client(url, token=token, verify=trusted, deadline=30) as client:
        made = client.predict("u1", limit=3)
        stored = client.recommendations("u1", ["today", "sleep"], limit=2)
        read = client.online_features({"user_id": ["u1", "nobody"]}, ["user_profiles:tenure_days"])
        live = client.release()
        with pytest.raises(ServiceError, match="404: no recommendation of this id"):
            client.explain("0" * 32)
        with pytest.raises(ServiceError, match="403: this token lacks the scope write-events"):
            client.send_events([{"event_id": "a"}])

    async def main() -> types.Recommendation:
        async with AsyncClient(url, token=token, verify=trusted, deadline=30) as client:
            return await client.predict("u1", limit=3)

    again = asyncio.run(main())
    assert len(made.items) == 3
    assert [item.content_id for item in again.items] == [item.content_id for item in made.items]
    assert set(stored.recommendations) == {"today", "sleep"}
    assert list(read.to_dict()) == ["user_id", "tenure_days"]
    assert made.release == stored.release == live.release
