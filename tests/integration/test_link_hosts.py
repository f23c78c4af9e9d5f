"""Hosts that are suspended, move, change their clock, or end: the link finds its way back.

Real processes and sockets. In the suite the link's own times are a fraction of the real ones;
`make soak` sets REACTOR_SOAK, for the real ones.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.loads import SOAK, scaled
from tests.links import LinkedMaster, LinkedMinion, World, can_mount, started, suspended
from tests.proxy import Proxy
from tests.support import wait_for

WORLD = World(quick=not SOAK)
WAIT = scaled(60, 300)
SUSPENDED_SECONDS = scaled(6, 60)
"""Longer than either end waits for a sign of the other."""

pytestmark = pytest.mark.timeout(scaled(180, 900))


@pytest.fixture
def master(place):
    """A master's bus and link."""
    made = LinkedMaster(place / "m", WORLD)
    with started(made):
        yield made


def _fire(minion, numbers, tag="up"):
    with minion.events() as events:
        for number in numbers:
            assert events.fire_master({"n": number}, tag, timeout=30_000)


def _arrived(master, tag="up"):
    return [data["data"]["n"] for data in master.events(tag)]


def _all_there(master, minion):
    """The minion is connected, and so the master says; jobs go round."""
    minion.wait_connected(WAIT)
    wait_for(lambda: master.connected() == [minion.id], "the minion", WAIT)
    wait_for(lambda: master.pings(minion.id), "a ping", WAIT)


def test_a_half_open_connection_is_found_out(place, master):
    """Both ends see that nothing comes, though no end has hung up."""
    with Proxy(master.port) as proxy:
        minion = LinkedMinion(place / "n", "web1", master, WORLD, master_port=proxy.port)
        with started(minion):
            _all_there(master, minion)
            proxy.swallow()
            wait_for(lambda: minion.link != "connected", "the minion to see it", WAIT)
            wait_for(lambda: master.connected() == [], "the master to see it", WAIT)
            _fire(minion, range(1, 21))
            assert _arrived(master) == []
            proxy.heal()
            _all_there(master, minion)
            wait_for(lambda: _arrived(master) == list(range(1, 21)), "the events", WAIT)


@pytest.mark.parametrize("who", ["minion", "master"])
def test_a_suspended_host(place, master, who):
    """It goes on where it was: nothing is lost, doubled or out of order, and jobs go round."""
    minion = LinkedMinion(place / "n", "web1", master, WORLD)
    with started(minion):
        _all_there(master, minion)
        _fire(minion, range(1, 21))
        pids = {"minion": [minion.process.pid], "master": [master.link.pid, master.bus.pid]}[who]
        with suspended(*pids):
            if who == "master":
                _fire(minion, range(21, 41))
            time.sleep(SUSPENDED_SECONDS)
        if who == "minion":
            _fire(minion, range(21, 41))
        _all_there(master, minion)
        wait_for(lambda: _arrived(master) == list(range(1, 41)), "the events", WAIT)


def test_a_job_for_a_suspended_minion_ends(place, master):
    """Those who wait are told why there is no return; what it does later is a return still."""
    minion = LinkedMinion(place / "n", "web1", master, WORLD)
    trace = place / "trace"
    with started(minion):
        _all_there(master, minion)
        with suspended(minion.process.pid):
            pub = master.publish("web1", "note.once", str(trace), "x")
            gone = f"salt/job/{pub['jid']}/gone/web1"
            assert pub["missing"] == []  # nobody can know yet
            wait_for(lambda: gone in master.tags(), "word of it", WAIT)
        _all_there(master, minion)
    assert not trace.exists() or trace.read_text().split() == ["x"]


def test_a_wrong_clock(place):
    """The wall clock of both jumps, back an hour and on a year: the link measures by another one."""
    clock = place / "clock"
    world = World(quick=not SOAK, clock=clock)
    master = LinkedMaster(place / "m", world)
    with started(master):
        minion = LinkedMinion(place / "n", "web1", master, world)
        with started(minion):
            _all_there(master, minion)
            jids, number = [], 0
            for off in (-3_600, 31_536_000, 0):
                pub = master.publish("web1", "test.sleep", 0.5)
                jids.append(pub["jid"])
                clock.write_text(str(off))
                _fire(minion, range(number + 1, number + 11))
                number += 10
                wanted = f"salt/job/{pub['jid']}/ret/web1"
                wait_for(lambda wanted=wanted: wanted in master.tags(), "the return", WAIT)
            assert jids == sorted(jids)
            assert _arrived(master) == list(range(1, number + 1))
            # It was up all the time.
            assert minion.log.count("the link to the master is connected") == 1


HOSTS = "{address} master.of.the.test\n"


def test_a_master_that_moves(place, master):
    """Its name means another address: the minion asks for it anew, and its events go there."""
    if not can_mount():
        pytest.skip(
            "the file of hosts' names can be another for one process only where it can mount"
        )
    hosts = place / "hosts"
    hosts.write_text(HOSTS.format(address="127.0.0.2"))
    before = Proxy(master.port, "127.0.0.2")
    after = Proxy(master.port, "127.0.0.3", before.port)
    minion = LinkedMinion(
        place / "n",
        "web1",
        master,
        replace(WORLD, hosts=hosts),
        master="master.of.the.test",
        master_port=before.port,
    )
    with before, after, started(minion):
        _all_there(master, minion)
        _fire(minion, range(1, 11))
        assert after.accepted == 0
        hosts.write_text(HOSTS.format(address="127.0.0.3"))
        before.cut()
        _fire(minion, range(11, 21))
        _all_there(master, minion)
        assert after.accepted
        wait_for(lambda: _arrived(master) == list(range(1, 21)), "the events", WAIT)


@pytest.fixture
def two(place):
    """Two masters with the same key, as masters for fail-over have it."""
    one = LinkedMaster(place / "a", WORLD)
    pki = Path(one.opts["pki_dir"])
    shutil.copytree(pki, place / "b" / "pki" / "master")
    other = LinkedMaster(place / "b", WORLD)
    assert one.finger == other.finger
    with started(one, other):
        yield one, other


def _masters(*masters):
    return [f"127.0.0.1:{each.port}" for each in masters]


@pytest.mark.parametrize("failback", [True, False])
def test_fail_over(place, two, failback):
    """The second serves while the first is dead; back to the first only as the options say."""
    one, other = two
    minion = LinkedMinion(
        place / "n",
        "web1",
        one,
        WORLD,
        master=_masters(one, other),
        master_type="failover",
        master_failback=failback,
        master_failback_interval=0.2,
    )
    with started(minion):
        _all_there(one, minion)
        _fire(minion, range(1, 21))
        one.link.kill()
        _fire(minion, range(21, 41))
        _all_there(other, minion)
        wait_for(lambda: _arrived(other)[-1:] == [40], "the events", WAIT)
        one.start_link()
        if failback:
            _all_there(one, minion)
            assert other.connected() == []
        else:
            other.link.kill()
            _all_there(one, minion)
            other.start_link()
        _fire(minion, range(41, 61))
        wait_for(lambda: _arrived(one)[-1:] == [60], "the events", WAIT)
    at_one, at_other = _arrived(one), _arrived(other)
    for numbers in (at_one, at_other):
        assert numbers == sorted(set(numbers))
    # What the first had taken without being able to say so is with both.
    assert set(at_one) | set(at_other) == set(range(1, 61))
