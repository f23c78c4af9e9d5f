"""Answers in JSON: Salt's form of a return, and of what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from reactor.http import jsonout


class Json(JSONResponse):
    """An answer in JSON that any reader takes, whatever an event or a function gave."""

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return jsonout.dumps(content).encode()


def returned(*values: Any, **beside: Any) -> Json:
    """Return values as Salt does: a list under ``return``, and what else stands beside it."""
    return Json({"return": list(values), **beside})


def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> Json:
    """Return an error in Salt's form."""
    return Json({"status": status, "return": " ".join(text.split())}, status, headers)
