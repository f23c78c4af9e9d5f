"""The execution module sys."""

import pytest

from tests.unit.bus.loader_tools import execution


@pytest.fixture
def sys_():
    """The module."""
    return execution("sys")


def test_doc(sys_):
    """Documentation of functions, modules and globs."""
    assert sys_.doc("test.ping")["test.ping"].startswith("Return true")
    assert "    CLI" not in sys_.doc("test.ping")["test.ping"]
    assert set(sys_.doc("test", "event.f*")) >= {"test.echo", "event.fire", "event.fire_master"}
    assert "cmd.run" in sys_.doc()
    assert sys_.doc("no.such") == {}


def test_lists(sys_):
    """Functions and modules."""
    assert sys_.list_functions("test.p*") == ["test.ping"]
    assert sys_.list_functions() == sorted(sys_.functions)
    assert {"test", "cmd", "file"} <= set(sys_.list_modules())
    assert sys_.list_modules("te*") == ["test"]


def test_argspec(sys_):
    """Arguments as a function takes them, also behind a decorator."""
    assert sys_.argspec("test.sleep") == {
        "test.sleep": {"args": ["length"], "defaults": None, "varargs": None, "kwargs": None}
    }
    spec = sys_.argspec("event.send")["event.send"]
    assert spec["args"][:3] == ["tag", "data", "preload"]
    assert spec["kwargs"] == "kwargs"
    assert sys_.argspec("file.write")["file.write"]["varargs"] == "args"
    assert sys_.argspec("test.rand_str")["test.rand_str"]["defaults"] == [32]
