"""A grain that is set on a minion can be targeted, without anybody asking for a refresh."""

from __future__ import annotations

import pytest

from bus.client import LocalClient
from bus.config import master_config
from tests.system import System, wait_until


@pytest.fixture
def client(tmp_path):
    """A client of a running system."""
    made = System(tmp_path, ())
    try:
        made.wait_ready()
        with LocalClient(mopts=master_config(made.config)) as client:
            yield client
    finally:
        made.kill()


def test_a_grain_that_was_set(client):
    """The master means its minion by it soon after, and no more once it is gone."""
    assert client.cmd("role:web", "test.ping", tgt_type="grain") == {}
    assert client.cmd("web1", "grains.setval", ["role", "web"]) == {"web1": {"role": "web"}}
    wait_until(lambda: client.cmd("role:web", "test.ping", tgt_type="grain") == {"web1": True})
    client.cmd("web1", "grains.delkey", ["role"])
    wait_until(lambda: client.cmd("role:web", "test.ping", tgt_type="grain") == {})
