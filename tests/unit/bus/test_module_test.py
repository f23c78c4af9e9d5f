"""The execution module test."""

import time

import pytest

import bus
from bus.errors import BusError
from tests.unit.bus.loader_tools import execution


@pytest.fixture
def test():
    """The module."""
    return execution("test")


def test_constants(test):
    """What answers with a fixed value."""
    assert test.ping() is True
    assert test.true() is True
    assert test.false() is False
    assert test.version() == bus.__version__


def test_what_was_given_comes_back(test):
    """Arguments arrive as they were sent."""
    assert test.echo({"a": [1]}) == {"a": [1]}
    assert test.arg(1, "two", three=3) == {"args": [1, "two"], "kwargs": {"three": 3}}
    assert test.kwarg(a=1) == {"a": 1}


def test_sleeps(test):
    """It takes as long as was asked."""
    begin = time.monotonic()
    assert test.sleep("0.05") is True
    assert time.monotonic() - begin >= 0.05


def test_exception(test):
    """The error has the text."""
    with pytest.raises(BusError, match="Oh no!"):
        test.exception("Oh no!")


def test_rand_str(test):
    """Random letters of the wanted length, within bounds."""
    assert len(test.rand_str(20)) == 20
    assert test.rand_str() != test.rand_str()
    with pytest.raises(ValueError, match="from 1 to 4096"):
        test.rand_str(0)
