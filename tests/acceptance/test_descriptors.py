"""Strangers who take all the descriptors that HTTP can have: they are in nobody else's way."""

import contextlib
import resource
import socket
import urllib.parse

import pytest

from tests.support import open_descriptors, wait_for
from tests.system import PARTS
from tests.web import answer, serving, status_of, url_of

LIMIT = 220
CONNECTIONS = 400

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def system(tmp_path):
    """A running system."""
    with serving(tmp_path) as made:
        yield made


def _crowd(stack, url):
    """Open connections that say nothing; the system takes them, HTTP need not have."""
    address = urllib.parse.urlsplit(url)
    for _ in range(CONNECTIONS):
        stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=20))


def _log(system):
    return (system.config / "log/up.log").read_text()


def test_http_outlives_the_loss_of_its_descriptors(system):
    """It says that it serves, the other parts go on, and it answers when there is room again."""
    url = url_of(system)
    before = wait_for(lambda: len(found := system.parts()) == len(PARTS) and found, "the parts")
    _, hard = resource.prlimit(before["http"], resource.RLIMIT_NOFILE)
    resource.prlimit(before["http"], resource.RLIMIT_NOFILE, (LIMIT, hard))
    with contextlib.ExitStack() as stack:
        _crowd(stack, url)
        wait_for(lambda: "new connections wait" in _log(system), "no room", seconds=60)
        assert LIMIT // 2 < open_descriptors(before["http"]) < LIMIT
        assert "Too many open files" not in _log(system)
        for name, part in status_of(system)["parts"].items():
            assert part["ok"], name
        assert "serves on" in status_of(system)["parts"]["http"]["text"]
        assert system.fire("others/go/on", {}) > 0
        assert "True" in system.run("cmd", "web1", "test.ping").stdout
        assert len(_log(system).splitlines()) < 100
    wait_for(lambda: open_descriptors(before["http"]) < LIMIT // 2, "room", seconds=60)
    assert answer(url, "/livez") == (200, {"ok": True})
    assert system.parts() == before
