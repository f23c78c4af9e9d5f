"""The page at ``/`` and its files; programs that ask ``/`` for JSON get what Salt gives."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from reactor.http import lowstate
from reactor.http.answers import Json
from reactor.http.errors import NoSuchThingError

router = APIRouter()

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOLDERS = ("", "vendor", "views")
_FILES = resources.files("reactor.http") / "page"

Known = Annotated[str, Header(alias="If-None-Match")]


@router.get("/", include_in_schema=False)
async def index(accept: Annotated[str, Header()] = "*/*", known: Known = "") -> Response:
    """Return the page to browsers, and to others the clients of low data."""
    if "text/html" in accept:
        return _file("index.html", known)
    welcome = {"return": "Welcome", "clients": list(lowstate.CLIENTS)}
    return Json(welcome, headers={"Vary": "Accept"})


@router.get("/page/{name:path}", include_in_schema=False)
async def file(name: str, known: Known = "") -> Response:
    """Return a file of the page. They hold no data, so nobody is asked who he is."""
    return _file(name, known)


def _file(name: str, known: str) -> Response:
    folder, _, base = name.rpartition("/")
    kind = _TYPES.get(base.rpartition(".")[2])
    place = _FILES / folder / base if folder in _FOLDERS else None
    if kind is None or place is None or not place.is_file():
        raise NoSuchThingError(f"there is no file {name[:100]} of the page")
    content = place.read_bytes()
    mark = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # The browser asks each time whether it has the newest: an update is in force at once.
    headers = {"Cache-Control": "no-cache", "ETag": mark, "Vary": "Accept"}
    if known == mark:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
