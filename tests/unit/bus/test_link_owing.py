"""Who owes which return."""

import pytest

from bus.link.owing import AWAY_SECONDS, RESTARTED, STAYED_AWAY, Lost, Owing

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def owing():
    made = Owing()
    made.sent("1", "test.sleep", "web1", A)
    made.sent("2", "test.ping", "web1", A)
    made.sent("1", "test.sleep", "web2", A)
    return made


def test_a_return_settles_it(owing):
    """What has returned is not given up later; an unknown return is none of ours."""
    owing.returned("1", "web1")
    owing.returned("1", "web1")
    owing.returned("7", "web9")
    assert [one.jid for one in owing.greeted("web1", B)] == ["2"]
    assert owing.minions == ["web2"]
    assert owing.jobs == {"1"}
    assert len(owing) == 1


def test_the_same_process_on_another_connection(owing):
    """Its jobs still run."""
    assert owing.greeted("web1", A) == []
    assert len(owing) == 3


def test_another_process(owing):
    """What went to the earlier one is given up, once; what went to this one is not."""
    owing.sent("3", "test.ping", "web1", B)
    assert owing.greeted("web1", B) == [
        Lost("1", "web1", "test.sleep", RESTARTED),
        Lost("2", "web1", "test.ping", RESTARTED),
    ]
    assert owing.greeted("web1", B) == []
    assert len(owing) == 2


def test_one_that_stays_away(owing):
    """It is given up when it has been away for long enough, counted anew when it was back."""
    assert owing.look({"web1"}, 100.0) == []
    assert owing.look({"web1", "web2"}, 101.0) == []
    assert owing.look({"web1"}, 102.0) == []
    assert owing.look({"web1"}, 101.9 + AWAY_SECONDS) == []
    assert owing.look({"web1"}, 102.0 + AWAY_SECONDS) == [
        Lost("1", "web2", "test.sleep", STAYED_AWAY)
    ]
    assert owing.minions == ["web1"]


def test_a_hello_ends_an_absence(owing):
    """Even one that no look has seen."""
    owing.look(set(), 0.0)
    owing.greeted("web1", A)
    assert {one.id for one in owing.look({"web1"}, AWAY_SECONDS)} == {"web2"}
    assert owing.look(set(), AWAY_SECONDS + 1) == []


def test_it_has_a_limit():
    """The oldest make room."""
    owing = Owing(limit=2)
    for jid in "123":
        owing.sent(jid, "f", "web1", A)
    assert [one.jid for one in owing.greeted("web1", B)] == ["2", "3"]


def test_what_a_connection_may_have_lost(owing):
    """All that the same process owes at its hello, in order and so many at a time, once."""
    assert owing.unsure(10) == {}
    owing.sent("3", "test.ping", "web1", A)
    assert owing.greeted("web1", A) == []
    owing.sent("4", "test.ping", "web1", A)
    owing.returned("2", "web1")
    assert owing.unsure(2) == {"web1": ["1"]}
    assert owing.unsure(2) == {"web1": ["3"]}
    assert owing.unsure(2) == {}
    assert owing.greeted("web2", B) == [Lost("1", "web2", "test.sleep", RESTARTED)]
    assert owing.unsure(2) == {}
