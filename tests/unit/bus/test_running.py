"""Runner and wheel functions with the events that announce them."""

import getpass
import logging

import pytest

from bus import running
from bus.errors import DataError, FunctionNotFoundError, NotRunningError
from bus.running import current_user, run_function

JID = "20261122083014438167"


def _fail():
    raise ZeroDivisionError("oops")


FUNCTIONS = {"demo.add": lambda a, b=0: a + b, "demo.fail": _fail}


@pytest.fixture
def fired():
    """The events so far."""
    return []


def run(fired, fun, args=(), kwargs=None, kind="runner", emit=None):
    """Run one of the functions."""
    note = emit or (lambda tag, data: fired.append((tag, data)))
    return run_function(kind, FUNCTIONS, fun, args, kwargs, jid=JID, user="jane", emit=note)


@pytest.mark.parametrize(("kind", "prefix"), [("runner", "run"), ("wheel", "wheel")])
def test_two_events_announce_a_function(fired, kind, prefix):
    """One before and one after it, with who asked for what, and what came of it."""
    outcome = run(fired, "demo.add", [1], {"b": 2}, kind=kind)
    assert (outcome.value, outcome.success, outcome.error) == (3, True, None)
    common = {
        "jid": JID,
        "fun": f"{kind}.demo.add",
        "fun_args": [1, {"__kwarg__": True, "b": 2}],
        "user": "jane",
    }
    assert fired == [
        (f"salt/{prefix}/{JID}/new", common),
        (f"salt/{prefix}/{JID}/ret", {**common, "return": 3, "success": True}),
    ]


def test_an_error_of_ours_is_told_in_one_line(fired):
    """A function that is not there."""
    outcome = run(fired, "demo.none")
    assert not outcome.success
    assert isinstance(outcome.error, FunctionNotFoundError)
    assert fired[1][1]["return"] == outcome.value == str(outcome.error)


def test_an_error_of_the_function_is_its_return(fired):
    """With its trace."""
    outcome = run(fired, "demo.fail")
    assert isinstance(outcome.error, ZeroDivisionError)
    assert "ZeroDivisionError: oops" in outcome.value
    assert fired[1][1]["success"] is False


class Picky:
    """A bus that refuses data for which ``refuse`` is true."""

    def __init__(self, refuse):
        self.refuse = refuse
        self.kept = []

    def __call__(self, tag, data):
        if self.refuse(data):
            raise DataError("an integer out of range")
        self.kept.append(data)


def test_a_return_that_cannot_be_carried():
    """Its event says so, and the function's caller has it all the same."""
    bus = Picky(lambda data: data.get("return") == 3)
    assert run([], "demo.add", [1, 2], emit=bus).value == 3
    assert bus.kept[1]["return"] == "not carried: an integer out of range"
    assert bus.kept[1]["fun_args"] == [1, 2]


def test_arguments_that_cannot_be_carried():
    """The function runs, and its events come without them."""
    bus = Picky(lambda data: data["fun_args"] == [1 << 70])
    assert run([], "demo.add", [1 << 70], emit=bus).success
    assert [len(data["fun_args"]) for data in bus.kept] == [1, 1]
    assert "out of range" in str(bus.kept[0])


def test_a_bus_that_takes_nothing(caplog):
    """The function runs all the same; the log says that its events are missing."""
    with caplog.at_level(logging.WARNING):
        assert run([], "demo.add", [1], emit=Picky(lambda _: True)).value == 1
    assert "was not fired" in caplog.text


def test_a_bus_that_is_not_there(caplog):
    """The same."""

    def emit(_tag, _data):
        raise NotRunningError("no bus")

    with caplog.at_level(logging.WARNING):
        assert run([], "demo.add", [1], emit=emit).value == 1
    assert "was not fired: no bus" in caplog.text


def test_current_user(monkeypatch):
    """The name of who runs this process, if it has one."""
    assert current_user() == getpass.getuser()

    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(running.getpass, "getuser", nobody)
    assert current_user() == "unknown"
