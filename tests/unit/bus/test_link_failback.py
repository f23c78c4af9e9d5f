"""When a minion goes back to the first of its masters."""

import contextlib

import pytest
from zmq.utils import z85

from bus.link.failback import Failback
from bus.link.firstcontact import Responder
from bus.link.trust import Address
from tests.support import wait_for

KEY = b"k" * 40


@pytest.fixture
def first():
    """A first master that answers as soon as its test lets it."""
    responder = Responder("127.0.0.1", 0, z85.encode(b"\x01" * 32))
    with contextlib.closing(responder):
        yield responder


def _address(responder):
    return Address("127.0.0.1", responder.socket.getsockname()[1])


def test_it_goes_back_once_the_first_has_answered(first):
    """Not before the first question is due, and not without an answer."""
    failback = Failback(_address(first), 10.0)
    key = z85.encode(b"\x01" * 32)
    failback.begin(100.0)
    assert not failback.is_back(109.0, key)
    assert not failback.is_back(110.0, key)
    assert not failback.is_back(111.0, key)
    first.handle()
    wait_for(lambda: failback.is_back(112.0, key), "the answer")
    failback.end()


def test_an_answer_with_another_key_counts_for_nothing(first):
    """Nor does one of which nobody knows what it should be."""
    failback = Failback(_address(first), 1.0)
    failback.begin(0.0)
    for now, key in ((1.0, KEY), (2.0, None), (3.0, KEY)):
        assert not failback.is_back(now, key)
        first.handle()
        assert not failback.is_back(now, key)
    failback.end()


def test_a_name_that_means_nothing_is_asked_about_again():
    """It does no harm."""
    failback = Failback(Address("no-such-host.invalid", 4506), 1.0)
    failback.begin(0.0)
    assert not failback.is_back(1.0, KEY)
    assert not failback.is_back(2.0, KEY)
    failback.end()


def test_without_the_option_nobody_is_asked(first):
    """Zero seconds are never."""
    failback = Failback(_address(first), 0.0)
    failback.begin(0.0)
    assert not failback.is_back(1e9, KEY)
    with pytest.raises(BlockingIOError):
        first.socket.recv(1)
