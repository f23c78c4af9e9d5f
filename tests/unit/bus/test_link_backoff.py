"""A fleet that lost its master does not come back all at once."""

import random
from collections import Counter

import pytest

from bus.link import backoff

MINIONS = 10_000


def _tries(pauses, until):
    """Return when one minion tries to connect, as ZeroMQ does: it doubles, and varies nothing."""
    moment, pause = 0.0, pauses.first_ms / 1000
    while moment < until:
        moment += pause
        yield moment
        pause = min(pause * 2, pauses.longest_ms / 1000)


def _fleet():
    chance = random.Random(4)
    return [backoff.reconnect(chance.random) for _ in range(MINIONS)]


@pytest.mark.parametrize("away", [0.0, 5.0, 60.0, 600.0])
def test_ten_thousand_minions_come_back_over_a_stretch(away):
    """However long the master was away: no tenth of a second brings more than their share."""
    fleet = _fleet()
    back = [next(at for at in _tries(one, away + 10) if at > away) for one in fleet]
    busiest = Counter(int(at * 10) for at in back).most_common(1)[0][1]
    # Right after the end of a master that restarts they come within half a second, later within
    # some; in step they would be ten thousand in the same tenth.
    assert busiest <= MINIONS * (0.35 if away < 1 else 0.06)
    assert max(back) - away <= backoff.LONGEST_MS[1] / 1000


def test_while_it_is_away_their_tries_are_spread_too():
    """What a firewall, a name server or another host in its place has to bear."""
    tries = Counter(int(at * 10) for one in _fleet() for at in _tries(one, 120) if at > 20)
    assert max(tries.values()) <= 2.5 * sum(tries.values()) / len(tries)


def test_a_delay_is_a_quarter_more_or_less():
    """Never none, never twice as long."""
    assert backoff.spread(8.0, lambda: 0.0) == 6.0
    assert backoff.spread(8.0, lambda: 1.0) == 10.0


def test_a_minions_times_are_within_their_limits():
    """Both ends of the jitter."""
    assert backoff.reconnect(lambda: 0.0) == (50, 2_000)
    assert backoff.reconnect(lambda: 1.0) == (400, 6_000)
