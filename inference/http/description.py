"""The service's own description: `/openapi.json`, and `/docs`, a page without external resources."""

import html
import json
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from inference.http.routes import Handler, OperationName
from stillpoint.app.events import Event

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
h2{margin-top:2.5rem;font-size:1.1rem}code,pre{font:14px/1.45 ui-monospace,monospace}
b.m{display:inline-block;min-width:3.2rem;color:#0b5cad}pre{background:#f3f5f7;padding:.8rem;overflow:auto}
table{border-collapse:collapse}td,th{border-top:1px solid #d7dde3;padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top}
summary{cursor:pointer;color:#0b5cad}
"""


def openapi(offered: Collection[OperationName], events: Sequence[type[Event]]) -> Handler:
    """Return the handler of `/openapi.json` for a service that offers these endpoints."""
    names, types = frozenset(offered), tuple(events)

    async def handle(request: Request) -> Response:
        return Response(_text(types, names), media_type="application/json")

    return handle


def docs(offered: Collection[OperationName], events: Sequence[type[Event]]) -> Handler:
    """Return the handler of `/docs` for a service that offers these endpoints."""
    names, types = frozenset(offered), tuple(events)

    async def handle(request: Request) -> Response:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(_page(types, names), headers=headers, media_type="text/html")

    return handle


@cache
def _text(events: tuple[type[Event], ...], names: frozenset[OperationName]) -> str:
    from inference.openapi import text

    return text(events, names)


@cache
def _page(events: tuple[type[Event], ...], names: frozenset[OperationName]) -> str:
    from inference.openapi import document

    return page(document(events, names))


def page(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as one HTML page without scripts."""
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = "".join(
        f"<details id='{html.escape(name)}'><summary><code>{html.escape(name)}</code></summary>{_json(schema)}</details>"
        for name, schema in document["components"]["schemas"].items()
    )
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(info['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}</p>"
        f"<p><a href=openapi.json>openapi.json</a></p>{''.join(operations)}<h2>Schemas</h2>{schemas}"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(one['name'])}</code><td>{one['in']}"
        f"<td>{html.escape(one.get('description', ''))}<td><code>{html.escape(json.dumps(one['schema']))}</code>"
        for one in operation.get("parameters", ())
    )
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = "".join(
        f"<tr><td>{status}<td>{html.escape(answer['description'])}<td>"
        + ", ".join(f"{html.escape(kind)} {_schema_html(one['schema'])}" for kind, one in answer["content"].items())
        for status, answer in operation["responses"].items()
    )
    return (
        f"<h2><b class=m>{method.upper()}</b> <code>{html.escape(path)}</code></h2><p>{html.escape(operation['summary'])} "
        f"{html.escape(operation.get('description', ''))}</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<p>Body: {_schema_html(asked)}</p>" if asked else "")
        + f"<table>{answers}</table>"
    )


def _schema_html(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    return " or ".join(_schema_html(one) for one in schema["anyOf"]) if "anyOf" in schema else _json(schema)


def _json(schema: dict[str, Any]) -> str:
    return f"<pre>{html.escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
