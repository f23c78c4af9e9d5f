"""Answering a question with one of a server's methods, whatever that does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bus import frames
from bus.complaints import Complaints
from bus.errors import BusError, RemoteError, WireError
from bus.frames import Call

Methods = Mapping[str, Callable[[dict[str, Any]], Any]]
"""What can be called, by its name; each takes the parameters as one dict."""


def answer(methods: Methods, call: Call, complaints: Complaints) -> list[bytes]:
    """Return the frames that answer a call; ``complaints`` hears of a method that failed."""
    method = methods.get(call.method)
    if method is None:
        return frames.failed(call.ident, RemoteError(f"no method {call.method[:80]!r}"))
    try:
        return frames.result(call.ident, method(call.params))
    except BusError as error:
        return frames.failed(call.ident, error)
    except Exception as error:  # the boundary of a request: a server outlives a faulty method
        text = f"the method {call.method} failed: {error!r}"
        complaints.add("failed_calls", text, level=logging.ERROR, trace=True)
        return frames.failed(call.ident, RemoteError(f"{type(error).__name__}: {error}"))


def answer_frames(methods: Methods, parts: list[bytes], complaints: Complaints) -> list[bytes]:
    """Return the frames that answer what a client sent; none to what is no call."""
    try:
        request = frames.parse_request(parts)
    except WireError as error:
        complaints.add("malformed", f"refused a malformed call: {error}")
        return []
    if not isinstance(request, Call):
        complaints.add("malformed", "refused an event: this socket takes calls only")
        return []
    return answer(methods, request, complaints)
