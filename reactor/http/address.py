"""Where HTTP is served, as people type it. Without the libraries that serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def url_of(opts: Mapping[str, Any]) -> str:
    """Return the address that people type; empty without HTTP."""
    if not opts["http_port"]:
        return ""
    host = str(opts["http_interface"])
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    host = f"[{host}]" if ":" in host else host
    is_secure = opts["http_tls_cert"] or opts["http_self_signed"]
    return f"{'https' if is_secure else 'http'}://{host}:{opts['http_port']}"
