"""Asks web servers, with what the standard library has. Shared by the module and the runner."""

from __future__ import annotations

import base64
import inspect
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from bus import __version__, yamlfile
from bus.errors import BusError
from bus.modules._errors import InvocationError

MAX_BODY_BYTES = 786_432
"""What still fits, with the rest of a job's return, into an event of one MiB."""

_SECRET_PATHS = re.compile(
    r"hooks\.slack\.com|(?:\w+\.)?discord(?:app)?\.com|api\.telegram\.org|chat\.googleapis\.com"
    r"|[\w-]+\.webhook\.office\.com"
)
"""Hosts whose addresses are secrets as a whole."""

_SCHEMES = ("http", "https")
_PRIVATE_HEADERS = ("Authorization", "Cookie")
_DEFAULT_SECONDS = 30.0
_OK = range(200, 300)


class HttpError(BusError):
    """A web server that cannot be reached or does not answer as HTTP demands."""

    status = 502


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web server answered."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other web addresses only, and shows credentials to no other server."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not _is_web(newurl):
            raise HttpError(
                f"{_without_secrets(req.full_url)} leads to {_without_secrets(newurl)}, "
                "which is no web address"
            )
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if new is not None and _origin(newurl) != _origin(req.full_url):
            for name in _PRIVATE_HEADERS:
                new.remove_header(name)
        return new


def query(
    url: str,
    *,
    method: str = "GET",
    params: Mapping[str, Any] | None = None,
    data: Any = None,
    data_file: str | None = None,
    header_dict: Mapping[str, Any] | None = None,
    header_list: Iterable[str] | None = None,
    username: str | None = None,
    password: str | None = None,
    decode: bool = False,
    decode_type: str = "auto",
    status: bool = False,
    headers: bool = False,
    text: bool = False,
    timeout: float | None = None,
    verify_ssl: bool = True,
    ca_bundle: str | None = None,
    raise_error: bool = True,
) -> dict[str, Any]:
    """Ask, and return the answer as Salt's ``http.query`` shapes it; see there."""
    content = Path(data_file).read_bytes() if data_file else data
    given = _headers(header_dict, header_list, username, password)
    request = _request(url, method, params, content, given)
    opener = _opener(_ssl_context(verify_ssl=verify_ssl, ca_bundle=ca_bundle))
    try:
        answer = _ask(opener, request, _DEFAULT_SECONDS if timeout is None else float(timeout))
    except HttpError as error:
        if raise_error:
            raise
        return {"body": None, "error": str(error)}
    shown = _shown(answer, status=status, headers=headers)
    return {**shown, **_content(answer, decode=decode, decode_type=decode_type, text=text)}


def known_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `query`, without what a job's publisher adds (``__pub_...``).

    Raises:
        InvocationError: one that `query` does not take.
    """
    known = list(inspect.signature(query).parameters)[1:]
    options = {name: value for name, value in given.items() if not name.startswith("__")}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvocationError(f"unknown option {unknown[0]!r}: there are {', '.join(known)}")
    return options


def wait_for(
    url: str,
    options: Mapping[str, Any],
    *,
    wait_for: float,
    request_interval: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Ask until the answer is a good one.

    Raises:
        HttpError: none was within ``wait_for`` seconds; the text says what the last one was.
    """
    deadline = clock() + float(wait_for)
    while True:
        try:
            answer = query(url, **{**options, "status": True})
            problem = answer.get("error", "")
        except HttpError as error:
            problem = str(error)
        if not problem:
            return answer
        if clock() + float(request_interval) > deadline:
            raise HttpError(f"no good answer within {wait_for:g} seconds: {problem}")
        sleep(float(request_interval))


def _is_web(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0


def _check_url(url: str) -> None:
    try:
        is_web = _is_web(url)
    except ValueError:
        raise InvocationError("the url cannot be read: write one as https://host/path") from None
    if not is_web:
        raise InvocationError(
            f"the url {_without_secrets(url)!r} is no web address: it begins with https://host"
        )


def _without_secrets(url: str) -> str:
    """Return the address without user, password, query and fragment.

    Where the path is what lets somebody in, as with webhooks of chats, it is left out too.
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = "/***" if _SECRET_PATHS.fullmatch(parts.hostname or "") else parts.path
    return urllib.parse.urlunsplit((parts.scheme, host, path, "", ""))[:200]


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def _request(
    url: str, method: str, params: Mapping[str, Any] | None, data: Any, headers: dict[str, str]
) -> urllib.request.Request:
    _check_url(url)
    parts = urllib.parse.urlsplit(url)
    added = urllib.parse.urlencode(dict(params or {}), doseq=True)
    query = "&".join(part for part in (parts.query, added) if part)
    address = urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, "")
    )
    if parts.username and "Authorization" not in headers:
        user, password = map(urllib.parse.unquote, (parts.username, parts.password or ""))
        headers = {**headers, "Authorization": _basic(user, password)}
    body = _body(data, headers)
    return urllib.request.Request(  # noqa: S310 - the scheme has been checked
        address, data=body, headers=headers, method=str(method).upper()
    )


def _headers(
    header_dict: Mapping[str, Any] | None,
    header_list: Iterable[str] | None,
    username: str | None,
    password: str | None,
) -> dict[str, str]:
    found = {"User-Agent": f"reactor-bus/{__version__}"}
    for line in header_list or ():
        name, colon, value = str(line).partition(":")
        if not colon:
            raise InvocationError("a header of header_list has no colon: write 'Name: value'")
        found[name.strip()] = value.strip()
    found |= {str(name): str(value) for name, value in (header_dict or {}).items()}
    if username:
        found["Authorization"] = _basic(username, password or "")
    # urllib's own spelling, so that the same header in two spellings is one.
    return {name.capitalize(): value for name, value in found.items()}


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _body(data: Any, headers: Mapping[str, str]) -> bytes | None:
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    if "json" in headers.get("Content-type", "") or not isinstance(data, Mapping):
        return json.dumps(data).encode()
    return urllib.parse.urlencode(data, doseq=True).encode()


def _ssl_context(*, verify_ssl: bool, ca_bundle: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise InvocationError(f"ca_bundle {ca_bundle!r} cannot be read: {error}") from error
    if not verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """Only what speaks HTTP: the default opener would also read files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _ask(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, seconds: float
) -> Answer:
    try:
        with opener.open(request, timeout=seconds) as response:
            return _read(response.status, response.reason, response.headers, response)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error.code, error.reason, error.headers, error)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        place = _without_secrets(request.full_url)
        said = getattr(reason, "strerror", None) or reason or type(error).__name__
        raise HttpError(f"{place} cannot be asked: {said}") from None


def _read(status: int, reason: str, headers: Message, response: Any) -> Answer:
    body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise HttpError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
    return Answer(status, reason, dict(headers.items()), body)


def _shown(answer: Answer, *, status: bool, headers: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if answer.status not in _OK:
        shown = {"error": f"HTTP {answer.status}: {answer.reason}", "status": answer.status}
    if status:
        shown["status"] = answer.status
    if headers:
        shown["headers"] = dict(answer.headers)
    return shown


def _content(answer: Answer, *, decode: bool, decode_type: str, text: bool) -> dict[str, Any]:
    if not decode:
        return {"body": answer.text, **({"text": answer.text} if text else {})}
    kind = _kind(answer) if decode_type == "auto" else decode_type
    reader = _READERS.get(kind)
    if reader is None:
        known = ", ".join(["auto", *_READERS])
        raise InvocationError(f"unknown decode_type {decode_type!r}: use one of {known}")
    try:
        decoded = reader(answer.text)
    except (ValueError, BusError) as error:
        return {"body": answer.text, "error": f"the answer is no {kind}: {error}"}
    return {"dict": decoded, **({"text": answer.text} if text else {})}


def _kind(answer: Answer) -> str:
    named = {name.lower(): value for name, value in answer.headers.items()}.get("content-type", "")
    return next((kind for kind in ("json", "yaml") if kind in named.lower()), "plain")


def _read_yaml(text: str) -> Any:
    return yamlfile.load(text, "answer")[0]


_READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "yaml": _read_yaml,
    "plain": str,
}
