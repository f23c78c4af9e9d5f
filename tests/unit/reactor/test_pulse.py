"""Whether a process comes round: what counts, and what does not."""

import math

from reactor.pulse import Pulse


class Asking:
    """A pulse with a clock of the test's."""

    def __init__(self, patience=80.0):
        self.pulse, self.now = Pulse(patience), 1_000.0

    def look(self, *, answers, after=0.0):
        self.now += after
        assert self.pulse.due(self.now) == 0.0
        return self.pulse.look(self.now, has_answered=answers)


def test_one_that_answers():
    """It is asked eight times within the patience, and once at a time."""
    asking = Asking()
    assert asking.look(answers=False)
    assert asking.pulse.due(asking.now) == 10.0
    for _ in range(50):
        assert asking.look(answers=True, after=10)
        assert not asking.pulse.hangs


def test_one_that_does_not_answer_any_more():
    """After its patience, and not again asked meanwhile."""
    asking = Asking()
    asking.look(answers=False)
    asking.look(answers=True, after=10)
    for _ in range(8):
        assert not asking.look(answers=False, after=10)
        assert not asking.pulse.hangs
    asking.look(answers=False, after=10)
    assert asking.pulse.hangs


def test_a_late_answer_is_one():
    """What was silent for almost too long begins anew."""
    asking = Asking()
    asking.look(answers=False)
    asking.look(answers=True, after=10)
    for _ in range(5):
        for _ in range(7):
            asking.look(answers=False, after=10)
        asking.look(answers=True, after=10)
    assert not asking.pulse.hangs


def test_one_that_has_not_begun_yet():
    """It may take as long as it likes."""
    asking = Asking()
    for _ in range(100):
        asking.look(answers=False, after=10)
    assert not asking.pulse.hangs


def test_a_host_that_stood_still():
    """An hour in which the asker did not run either counts as two looks."""
    asking = Asking()
    asking.look(answers=False)
    asking.look(answers=True, after=10)
    asking.look(answers=False, after=3_600)
    assert not asking.pulse.hangs


def test_never():
    """Without a patience it is not even asked."""
    assert Pulse(0).due(5.0) == math.inf
    assert not Pulse(0).hangs


def test_looks_are_not_far_apart():
    """However patient one is."""
    asking = Asking(36_000)
    asking.look(answers=False)
    assert asking.pulse.due(asking.now) == 15.0
