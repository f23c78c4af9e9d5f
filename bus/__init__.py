"""An event bus for fleets of machines: fire events, listen to them, and lose none.

>>> import bus
>>> with bus.connect("master") as events:        # doctest: +SKIP
...     events.fire("myco/deploy/done", {"version": "1.2"})
...     for event in events.listen("salt/job/*/ret/*", since="1h"):
...         print(event.seq, event.tag, event.payload)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus.aclient import AsyncCaller, AsyncLocalClient, AsyncRunnerClient, AsyncWheelClient
    from bus.anative import AsyncConnection, aconnect
    from bus.native import Connection, connect
    from bus.record import Event

__version__ = "0.1.0"

__all__ = [
    "AsyncCaller",
    "AsyncConnection",
    "AsyncLocalClient",
    "AsyncRunnerClient",
    "AsyncWheelClient",
    "Connection",
    "Event",
    "__version__",
    "aconnect",
    "connect",
]

_LAZY = {
    "AsyncCaller": "bus.aclient",
    "AsyncConnection": "bus.anative",
    "AsyncLocalClient": "bus.aclient",
    "AsyncRunnerClient": "bus.aclient",
    "AsyncWheelClient": "bus.aclient",
    "Connection": "bus.native",
    "Event": "bus.record",
    "aconnect": "bus.anative",
    "connect": "bus.native",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import bus`` alone costs next to nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module 'bus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
