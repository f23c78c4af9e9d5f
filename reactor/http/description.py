"""The description of the API (OpenAPI): what FastAPI knows, and how a request shows its token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from reactor.http.auth import COOKIE

_WAYS = {
    "header": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    "query": {"type": "apiKey", "in": "query", "name": "token"},
}
_WITHOUT = {
    "/livez": ("get",),
    "/readyz": ("get",),
    "/login": ("post",),  # it takes a password instead
    "/run": ("post",),  # it may have one in its body
    "/hook": ("post",),  # a signature may do instead
    "/hook/{path}": ("post",),
    "/metrics": ("get",),  # http_open_metrics
}
"""What may do without a token."""


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of an application; made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        made["components"]["securitySchemes"] = _WAYS
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                if method not in _WITHOUT.get(path, ()):
                    operation["security"] = [{way: []} for way in _WAYS]
        app.openapi_schema = made
    return app.openapi_schema


def methods_of(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Return the methods that a path has, in whichever routes."""
    found: set[str] = set()
    for route in routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found)
