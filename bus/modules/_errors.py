"""What functions raise when they cannot do what they were asked."""

from __future__ import annotations

from bus.errors import BusError


class ExecutionError(BusError):
    """The host cannot do this: no such file, program, user or service."""


class InvocationError(BusError, ValueError):
    """An argument that makes no sense, however well it fits the signature."""

    status = 400
