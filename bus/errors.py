"""The errors of the bus: one tree, and each message is the line that a person reads."""

from __future__ import annotations


class BusError(Exception):
    """Something that the bus could not do; the text says what was wrong, where, and what to do.

    Attributes:
        status: the HTTP status that says the same to a web client.
        kept: of events that were fired together, how many are on the bus, from the first on.
    """

    status = 500
    kept = 0


class NotRunningError(BusError):
    """No server answers on this socket."""

    status = 503


class AnswerTimeoutError(BusError):
    """The server is there but did not answer in time."""

    status = 504


class RemoteError(BusError):
    """The server answered that it could not do what was asked; the text is the server's."""

    status = 400


class TagError(BusError, ValueError):
    """An event tag that cannot go onto a bus: empty, no text, or with control characters."""

    status = 400


class DataError(BusError, ValueError):
    """Event data that cannot go onto a bus: no dict, or a value that msgpack cannot carry."""

    status = 400


class TooLargeError(DataError):
    """An event larger than the option ``max_event_size`` allows."""

    status = 413


class FireRateError(BusError):
    """A sender that fires faster than the option ``fire_rate`` allows."""

    status = 429


class ListenerLimitError(NotRunningError):
    """A listener for which the option ``max_listeners`` leaves no room."""

    status = 429


class WireError(BusError):
    """Bytes from outside that are no message of ours: the sender's fault, never a reason to end."""

    status = 400


class JournalError(BusError):
    """The journal cannot be opened, read or written."""


class AlreadyRunningError(BusError):
    """Another server holds this directory."""

    status = 409


class ConfigError(BusError):
    """A configuration that is refused, with file and line where they are known.

    Attributes:
        path: the file, or an empty string.
        line: the line counted from 1, or 0.
    """

    def __init__(self, message: str, path: str = "", line: int = 0) -> None:
        where = f"{path}:{line}: " if path and line else f"{path}: " if path else ""
        super().__init__(where + message)
        self.path = path
        self.line = line


class TargetError(BusError, ValueError):
    """A target expression that cannot be read."""

    status = 400


class KeyStateError(BusError):
    """A minion key that is not there, or not in the state that the action needs."""

    status = 404


class LoadError(BusError):
    """A module file that cannot be loaded."""


class FunctionNotFoundError(BusError):
    """No such function; the text names the nearest ones."""

    status = 404


class ArgumentsError(BusError, TypeError):
    """Arguments that do not fit the function's signature."""

    status = 400
