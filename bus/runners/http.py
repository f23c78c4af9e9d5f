"""Asks web servers from the master."""

from __future__ import annotations

from typing import Any

from bus.modules import _http


def query(url: str, **options: Any) -> dict[str, Any]:
    """Send a request to a web server; options and return as the execution function's.

    CLI example: ``reactor run http.query https://api.example.com/ decode=True``
    """
    return _http.query(url, **_http.known_options(options))
