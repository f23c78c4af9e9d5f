"""The execution module event, on real buses."""

import os

import pytest

from bus.config import minion_config
from tests.unit.bus.loader_tools import execution, minion_bus


@pytest.fixture
def opts(tmp_path):
    """A minion's options, its sockets in a short path."""
    return minion_config({"id": "web1", "sock_dir": str(tmp_path)})


@pytest.fixture
def hear(opts):
    """A minion's bus, and what is heard on it."""
    with minion_bus(opts) as heard:
        yield heard


class Kept(dict):
    """A context whose connections are closed at the end."""

    def close(self):
        for connection in self.get("event.connection", {}).values():
            connection.destroy()


@pytest.fixture
def context():
    """What the functions keep."""
    kept = Kept()
    yield kept
    kept.close()


@pytest.fixture
def event(opts, context):
    """The module."""
    return execution("event", opts, {"os": "Debian", "cpus": 2}, context)


def up(tag, data):
    """What goes over the minion's bus to the master."""
    return "fire_master", {"tag": tag, "data": data, "events": None, "pretag": None}


def test_fire(event, hear):
    """Data first, then the tag; flat on the minion's own bus."""
    assert event.fire({"data": "x"}, "my/tag") is True
    assert hear() == ("my/tag", {"data": "x"})


def test_send(event, hear):
    """Explicit data beats keywords, which beat the preload."""
    assert event.send("t", {"a": 1}, preload={"a": 3, "b": 3, "c": 3}, a=2, b=2) is True
    assert hear() == up("t", {"a": 1, "b": 2, "c": 3})


def test_send_without_data(event, hear):
    """A tag alone will do; what a publisher adds is left out."""
    assert event.send("t", __pub_jid="1") is True
    assert hear() == up("t", {})


def test_send_with_extras(event, hear, monkeypatch):
    """Environment, grains and options: all of them or those named."""
    monkeypatch.setenv("COLOUR", "red")
    event.send("t", with_env=["COLOUR", "NONE"], with_grains=True, with_env_opts=True)
    assert hear() == up(
        "t",
        {
            "environ": {"COLOUR": "red", "NONE": ""},
            "grains": {"os": "Debian", "cpus": 2},
            "saltenv": "base",
            "pillarenv": "base",
        },
    )
    event.send("t", with_env=True, with_grains="os", environ="kept")
    data = hear()[1]["data"]
    assert data == {"environ": "kept", "grains": {"os": "Debian"}}


def test_fire_master(event, hear):
    """The data beats the preload."""
    assert event.fire_master({"a": 1}, "t", preload={"a": 2, "b": 2}) is True
    assert hear() == up("t", {"a": 1, "b": 2})


@pytest.mark.parametrize("change", [{"master_type": "disable"}, {"file_client": "local"}])
def test_masterless(opts, hear, context, change):
    """Without a master, send is fire."""
    event = execution("event", {**opts, **change}, context=context)
    assert event.send("t", {"a": 1}) is True
    assert hear() == ("t", {"a": 1})


def test_keeps_one_connection(event, hear, context, monkeypatch):
    """Calls share a connection; another process makes its own."""
    event.fire({}, "a")
    first = context["event.connection"][os.getpid()]
    event.fire({}, "b")
    assert context["event.connection"] == {os.getpid(): first}
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    event.functions["event.fire"].__globals__["_connection"]()
    assert list(context["event.connection"]) == [pid + 1]
    first.destroy()


def test_refuses_what_is_no_event(event, hear):
    """The text says what is wrong."""
    with pytest.raises(ValueError, match="no pillar"):
        event.send("t", with_pillar=True)
    with pytest.raises(ValueError, match="data is str: give a dict"):
        event.send("t", "text")
    with pytest.raises(ValueError, match="dict"):
        event.fire_master("text", "t")
    with pytest.raises(ValueError, match="tag"):
        event.fire({}, "")


def test_without_a_bus(event, context, caplog):
    """False, as Salt's users expect it, and a word, long before the usual time-out."""
    assert event.fire({}, "t", timeout=0.1) is False
    assert "no bus answers at" in caplog.text
    assert event.send("t") is False
    assert context["retcode"] == 1
