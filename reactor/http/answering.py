"""Answers `reactor status`, from the first moment of the process on, in a thread of its own.

ZeroMQ and asyncio each poll in their own way. It imports little: that HTTP is about to serve can
be asked before its libraries are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

import zmq

from bus import endpoints, rpc
from bus.stopping import Stop
from reactor.http.address import url_of

Status = Callable[[], dict[str, Any]]


class Answering:
    """The thread, for use in ``with``.

    Args:
        opts: the master's options.

    Raises:
        AlreadyRunningError: another HTTP server of this master runs.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._url = url_of(opts)
        self._details: Status | None = None
        methods = {"ping": lambda _: True, "status": lambda _: self._status()}
        self._server = rpc.open_server(endpoints.master_http(opts), methods)
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def serves(self, details: Status) -> None:
        """From now on HTTP serves, and ``details`` says how it does."""
        self._details = details

    def _status(self) -> dict[str, Any]:
        details = self._details
        return {"url": self._url, "starting": details is None, **(details() if details else {})}

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._server.socket, zmq.POLLIN)
        poller.register(self._stop.fileno(), zmq.POLLIN)
        while not self._stop.is_set():
            poller.poll()
            self._server.handle()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(1.0)
        self._server.close()
        self._stop.close()
