"""What the local Hub answers, as OpenAPI: its own routes, with the bodies that the clients send."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from starlette.routing import Route

from bonsai.hub.server.app import create_app

_TEXT = {"type": "string"}
_KIND = {"enum": ["model", "dataset", "space", None]}
_OID = {"anyOf": [{"type": "string", "pattern": "^[0-9a-f]{64}$"}, _TEXT]}
_FILES = {"type": "array", "items": {"type": "object", "properties": {"path": _TEXT, "size": {"type": "integer"}}}}
_OBJECTS = {"type": "array", "items": {"type": "object", "properties": {"oid": _OID, "size": {"type": "integer"}}}}
_BODIES: dict[str, dict[str, Any]] = {
    "create": {"name": _TEXT, "type": _KIND, "private": {"type": "boolean"}, "organization": _TEXT},
    "delete": {"name": _TEXT, "type": _KIND},
    "move": {"fromRepo": _TEXT, "toRepo": _TEXT, "type": _KIND},
    "validate-yaml": {"content": _TEXT, "repoType": _KIND},
    "settings": {"private": {"type": "boolean"}, "gated": {"type": "boolean"}, "visibility": _TEXT},
    "preupload": {"files": _FILES, "gitIgnore": _TEXT},
    "paths-info": {"paths": {"type": "array", "items": _TEXT}, "expand": {"type": "boolean"}},
    "branch": {"startingPoint": _TEXT},
    "tag": {"tag": _TEXT, "message": _TEXT},
    "super-squash": {"message": _TEXT},
    "commit": {"key": {"enum": ["header", "file"]}, "value": {"type": "object", "properties": {"summary": _TEXT}}},
    "batch": {"operation": {"enum": ["upload", "download"]}, "objects": _OBJECTS},
    "verify": {"oid": _OID, "size": {"type": "integer"}},
}
_LIKELY = {"namespace": ["qeu"], "name": ["a"], "revision": ["main", "v1"], "path": ["a.txt", ""], "oid": ["0" * 64]}


def hub_schema() -> dict[str, Any]:
    """OpenAPI 3.0 of every route."""
    with tempfile.TemporaryDirectory() as root:
        routes = [route for route in create_app(Path(root), {"qeu": "t"}).routes if isinstance(route, Route)]
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(path, method)
    return {"openapi": "3.0.2", "info": {"title": "the local Hub", "version": "1"}, "paths": paths}


def _operation(path: str, method: str) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": _likely(name)} for name in names]
    for name in ("expand", "limit", "cursor", "recursive", "search", "author", "filter", "create_pr"):
        parameters.append({"name": name, "in": "query", "schema": _TEXT})
    operation: dict[str, Any] = {"parameters": parameters, "responses": {"default": {"description": "any"}}}
    words = [word for word in path.split("/") if word in _BODIES]
    if words and method != "GET":
        body = {"type": "object", "properties": _BODIES[words[0]]}
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


def _likely(name: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "enum": _LIKELY[name]}, _TEXT]} if name in _LIKELY else _TEXT
