"""Webhooks that sign what they send: which path takes whose signature, and whether it is right.

Pure, but for the files of secrets, which are read when the options are.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bus import durations
from bus.errors import ConfigError
from reactor.http.errors import ReplayError, UnauthorizedError

_KEYS = frozenset({"kind", "secret", "secret_file"})
_MOST_SEEN = 100_000

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signed:
    """What a request proves.

    Attributes:
        mark: what is the same if it is sent again.
        at: when it was signed, seconds since 1970; None if the sender does not say.
    """

    mark: str
    at: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Hook:
    """One entry of the option ``http_hooks``: a glob of paths, how they are signed."""

    path: str
    kind: str
    secret: bytes = b""

    @property
    def is_signed(self) -> bool:
        """Whether its requests prove something."""
        return self.kind != OPEN

    def verify(self, headers: Headers, body: bytes) -> Signed | None:
        """Return what a request proves; None if this path asks for no proof.

        Raises:
            UnauthorizedError: it proves nothing.
        """
        return KINDS[self.kind](self.secret, headers, body)


def hooks_of(opts: Mapping[str, Any]) -> tuple[Hook, ...]:
    """Return the entries of ``http_hooks``.

    Raises:
        ConfigError: one of them is wrong.
    """
    return tuple(_hook(path, entry) for path, entry in opts["http_hooks"].items())


def hook_for(hooks: tuple[Hook, ...], path: str) -> Hook | None:
    """Return the first entry whose glob matches a path."""
    return next((hook for hook in hooks if fnmatchcase(path, hook.path)), None)


def _hook(path: str, entry: Any) -> Hook:
    where = f"http_hooks: {path}"
    if not isinstance(entry, Mapping) or not entry.keys() <= _KEYS:
        raise ConfigError(f"{where}: write a mapping of {', '.join(sorted(_KEYS))}")
    kind = str(entry.get("kind"))
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind is one of {', '.join(sorted(KINDS))}")
    secret = _secret(where, entry)
    if kind != OPEN and not secret:
        raise ConfigError(f"{where}: it needs secret_file, or secret")
    return Hook(path, kind, secret)


def _secret(where: str, entry: Mapping[str, Any]) -> bytes:
    if "secret_file" not in entry:
        return str(entry.get("secret") or "").encode()
    try:
        return Path(str(entry["secret_file"])).expanduser().read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{where}: cannot read its secret_file ({error.strerror})") from error


# -- the forms of signatures ----------------------------------------------------------------------


def _github(secret: bytes, headers: Headers, body: bytes) -> Signed:
    """GitHub, Gitea and others: ``X-Hub-Signature-256: sha256=<hex of the body>``."""
    return Signed(_compare(_hex(secret, body), _after(headers, "x-hub-signature-256", "sha256=")))


def _gitlab(secret: bytes, headers: Headers, body: bytes) -> Signed:
    """GitLab sends the secret itself, in ``X-Gitlab-Token``."""
    given = headers.get("x-gitlab-token", "")
    if not hmac.compare_digest(given.encode(), secret):
        raise _wrong()
    ident = headers.get("x-gitlab-event-uuid", "") or hashlib.sha256(body).hexdigest()
    return Signed(ident)


def _slack(secret: bytes, headers: Headers, body: bytes) -> Signed:
    """Slack: ``X-Slack-Signature: v0=<hex of "v0:<time>:<body>">``."""
    stamp = headers.get("x-slack-request-timestamp", "")
    right = _hex(secret, b"v0:" + stamp.encode() + b":" + body)
    return Signed(_compare(right, _after(headers, "x-slack-signature", "v0=")), _moment(stamp))


def _stripe(secret: bytes, headers: Headers, body: bytes) -> Signed:
    """Stripe: ``Stripe-Signature: t=<time>,v1=<hex of "<time>.<body>">[,v1=...]``."""
    pairs = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
    stamp = next((value for name, _, value in pairs if name == "t"), "")
    right = _hex(secret, stamp.encode() + b"." + body)
    for name, _, value in pairs:
        if name == "v1" and hmac.compare_digest(value.encode(), right.encode()):
            return Signed(right, _moment(stamp))
    raise _wrong()


def _generic(secret: bytes, headers: Headers, body: bytes) -> Signed:
    """Anybody: ``X-Signature: sha256=<hex of "<time>.<body>">`` with ``X-Timestamp: <time>``."""
    stamp = headers.get("x-timestamp", "")
    right = _hex(secret, stamp.encode() + b"." + body)
    return Signed(_compare(right, _after(headers, "x-signature", "sha256=")), _moment(stamp))


def _open(_secret: bytes, _headers: Headers, _body: bytes) -> None:
    """Take what anybody sends."""


OPEN = "open"
KINDS: Mapping[str, Callable[[bytes, Headers, bytes], Signed | None]] = {
    "github": _github,
    "gitlab": _gitlab,
    "slack": _slack,
    "stripe": _stripe,
    "generic": _generic,
    OPEN: _open,
}


def _hex(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _after(headers: Headers, name: str, prefix: str) -> str:
    value = headers.get(name, "")
    return value.removeprefix(prefix) if value.startswith(prefix) else ""


def _compare(right: str, given: str) -> str:
    if not hmac.compare_digest(right.encode(), given.encode()):
        raise _wrong()
    return right


def _moment(text: str) -> float:
    if not re.fullmatch(r"\d{1,12}", text):
        raise _wrong()
    return float(text)


def _wrong() -> UnauthorizedError:
    return UnauthorizedError("the signature of this webhook is missing or wrong")


# -- what came before -----------------------------------------------------------------------------


class Replays:
    """Refuses what is too old, and what came before.

    Args:
        window: seconds that a signature is good for, and remembered.
        clock: seconds since 1970.
    """

    def __init__(self, window: float, clock: Callable[[], float]) -> None:
        self._window = window
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def check(self, path: str, signed: Signed) -> None:
        """Take a signature once.

        Raises:
            ReplayError: it is too old or too new, or came before.
        """
        now = self._clock()
        if signed.at is not None and abs(now - signed.at) > self._window:
            raise ReplayError("this webhook was signed too long ago, or the clocks differ")
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        key = (path, signed.mark)
        if self._seen.get(key, -1.0) >= now:
            raise ReplayError("this webhook came before")
        self._seen.pop(key, None)
        self._seen[key] = self._until(signed, now)
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def _until(self, signed: Signed, now: float) -> float:
        """Return when a signature is too old by itself: one may be of a clock that is ahead."""
        return max(now, signed.at or now) + self._window

    def forget(self, path: str, signed: Signed) -> None:
        """Let it come again: what it was for did not happen."""
        self._seen.pop((path, signed.mark), None)


def window_of(opts: Mapping[str, Any]) -> float:
    """Return the option ``http_hook_window`` in seconds."""
    return durations.seconds(opts["http_hook_window"])
