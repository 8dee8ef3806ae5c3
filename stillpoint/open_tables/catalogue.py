"""Opens the Iceberg catalogue that the settings name: SQLite or PostgreSQL by their URLs, or AWS Glue."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stillpoint.errors import InvalidSettings, StackUnavailable
from stillpoint.outages import outage
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

FOLDER = "iceberg/"
"""Where the tables' metadata lie in the lake; their rows are the lake's own files."""


def open_catalogue(settings: Settings) -> "Catalog":
    """Return the catalogue.

    Raises:
        InvalidSettings: none is named, or pyiceberg is not installed.
        StackUnavailable: it cannot be reached.
    """
    named = settings.iceberg_catalogue
    if named is None:
        raise InvalidSettings(
            "STILLPOINT_ICEBERG_CATALOGUE is not set; name the catalogue of the open tables: sqlite:///PATH, a postgresql+… "
            "URL, or glue"
        )
    try:
        from pyiceberg.catalog import load_catalog
    except ModuleNotFoundError:
        raise InvalidSettings("pyiceberg is not installed; install the extra iceberg (docs/open-tables.md)") from None
    found = settings.aws_client_arguments()
    s3 = {
        "s3.endpoint": found.get("endpoint_url"),
        "s3.region": found.get("region_name"),
        "s3.access-key-id": found.get("aws_access_key_id"),
        "s3.secret-access-key": found.get("aws_secret_access_key"),
        "s3.session-token": found.get("aws_session_token"),
    }
    properties = {name: value for name, value in s3.items() if value is not None}
    if named == "glue":
        glue = {name.replace("s3.", "glue."): value for name, value in properties.items()}
        properties |= {"type": "glue", **glue}
    else:
        properties |= {"type": "sql", "uri": named}
    root = root_uri(settings.lake)
    with catalogue_errors(named):
        return load_catalog("stillpoint", **properties, warehouse=f"{root}/{FOLDER}".rstrip("/"))


def root_uri(root: str) -> str:
    """Return a lake's root as a URI.

    >>> root_uri("s3://bucket/lake/"), root_uri("/data/lake")
    ('s3://bucket/lake', 'file:///data/lake')
    """
    from pathlib import Path

    return root.rstrip("/") if "://" in root else f"file://{Path(root).absolute()}"


@contextmanager
def catalogue_errors(named: str) -> Iterator[None]:
    """Turn what a catalogue that is away raises into `StackUnavailable`; each table is as it was, or published whole."""
    try:
        yield
    except Exception as error:
        away = any(kind.__module__.startswith("sqlalchemy.") for kind in type(error).__mro__)
        found = outage(error)
        if isinstance(error, StackUnavailable) or not (away or found is not None):
            raise
        said = " ".join(str(error).split())[:200]
        raise StackUnavailable(
            f"the Iceberg catalogue {without_password(named)} cannot be used ({said}); no table is published by halves: "
            "look after it, and run `stillpoint lake publish` again"
        ) from error


def without_password(named: str) -> str:
    """Return a catalogue's URL without its password.

    >>> without_password("postgresql+psycopg2://me:secret@db/open")
    'postgresql+psycopg2://me@db/open'
    """
    scheme, separator, rest = named.partition("://")
    who, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{who.partition(':')[0]}{at}{place}"
