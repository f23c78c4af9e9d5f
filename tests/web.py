"""A system with HTTP, and a client of it, for the tests that ask over the network."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from contextlib import closing, contextmanager

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
