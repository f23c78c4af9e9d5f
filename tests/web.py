"""A system with HTTP, and a client of it, for the tests that ask over the network."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, contextmanager

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from bus.config import private_dir
from reactor.up import prepare
from tests.support import wait_for
from tests.system import running

INSECURE = ssl.create_default_context()
INSECURE.check_hostname = False
INSECURE.verify_mode = ssl.CERT_NONE


@contextmanager
def serving(folder, *arguments, more=""):
    """Run a system with HTTP on a port of its own; ``more`` is configuration of its master."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if more:
        # What `up` would write, and then ours beside it.
        directory = folder / ".reactor"
        prepare(private_dir(directory), "web1")
        path = private_dir(directory / "master.d") / "more.conf"
        path.write_text(more)
    with running(folder, "--http-port", str(port), *arguments) as made:
        wait_for(lambda: status_of(made)["parts"]["http"]["ok"], "HTTP")
        yield made


def status_of(system):
    return json.loads(system.run("status", "--json").stdout)


def url_of(system):
    return status_of(system)["parts"]["http"]["details"]["url"]


def new_token(system, *arguments):
    return system.run("token", "create", *arguments).stdout.strip()


def ask(url, path, data=None, token=None, headers=None, method=None):
    """Return status, headers and body of a request."""
    body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
    request = urllib.request.Request(url + path, body, headers or {}, method=method)
    if body is not None and "Content-type" not in request.headers:
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("X-Auth-Token", token)
    try:
        with urllib.request.urlopen(request, timeout=20, context=INSECURE) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.headers, error.read()


def answer(*args, **kwargs):
    """Return the status and what the JSON of the body says."""
    status, _, body = ask(*args, **kwargs)
    return status, json.loads(body)


class Stream:
    """An open stream of events, read by lines."""

    def __init__(self, response):
        self.response = response

    def event(self):
        """Return the next event's fields."""
        found = {}
        while line := self.response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            found[name] = value
        return found

    def until(self, tag):
        """Return the next event with this tag."""
        while (found := self.event()).get("tag") != tag:
            assert not self.response.closed
        return found


@contextmanager
def stream(url, path, headers=None):
    """Open a stream of events."""
    request = urllib.request.Request(url + path, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20, context=INSECURE) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        opened = Stream(response)
        assert response.readline() == b"retry: 400\n"
        yield opened


class WebSocket:
    """A client of a WebSocket."""

    def __init__(self, sock, protocol):
        self._socket = sock
        self._protocol = protocol
        self._text = ""

    def send(self, text):
        self._socket.sendall(self._protocol.send(TextMessage(text)))

    def event(self):
        """Return the next event."""
        said = self.receive()
        assert said.startswith("data: "), said
        assert said.endswith("}\n\n"), said
        return json.loads(said.removeprefix("data: "))

    def receive(self):
        """Return the next text; the code of its end if it ends; the status if it is refused."""
        while True:
            for event in self._protocol.events():
                match event:
                    case TextMessage():
                        self._text += event.data
                        if event.message_finished:
                            text, self._text = self._text, ""
                            return text
                    case Ping():
                        self._socket.sendall(self._protocol.send(event.response()))
                    case CloseConnection():
                        return event.code
                    case RejectConnection():
                        return event.status_code
                    case AcceptConnection():
                        return "accepted"
            data = self._socket.recv(65_536)
            self._protocol.receive_data(data or None)


@contextmanager
def websocket(url, path, headers=()):
    """Open a WebSocket, unless it is refused: what came of it is received first."""
    where = urllib.parse.urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as plain:
        sock = plain
        if where.scheme == "https":
            sock = INSECURE.wrap_socket(plain)
        with closing(sock):
            protocol = WSConnection(ConnectionType.CLIENT)
            request = Request(where.netloc, path, extra_headers=list(headers))
            sock.sendall(protocol.send(request))
            yield WebSocket(sock, protocol)
