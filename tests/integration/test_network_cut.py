"""The network between a minion and its master fails: events come once, in order; each job ends.

A job ends with a return, or with words that say why there is none.

Short in the suite, with a link whose times are a fraction of the real ones; `make soak` sets
REACTOR_SOAK and cuts it for a minute, with the real ones.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from tests.integration.loads import SOAK, scaled
from tests.links import LinkedMaster, LinkedMinion, World, started
from tests.proxy import Proxy
from tests.support import wait_for

CUT_SECONDS = scaled(2, 60)
CUTS = scaled(3, 5)
WAIT = scaled(60, 300)
WORLD = World(quick=not SOAK)
FAULTS = ("cut", "stall", "swallow")

pytestmark = pytest.mark.timeout(scaled(180, 1800))


@pytest.fixture
def master(place):
    """A master's bus and link."""
    made = LinkedMaster(place / "m", WORLD)
    with started(made):
        yield made


@pytest.fixture
def proxy(master):
    """The network."""
    with Proxy(master.port) as made:
        yield made


@pytest.fixture
def minion(place, master, proxy):
    """A minion that reaches its master over that network."""
    made = LinkedMinion(place / "n", "web1", master, WORLD, master_port=proxy.port)
    with started(made):
        made.wait_connected()
        yield made


class Sending(threading.Thread):
    """Sends numbered events up, one after the other and in bursts, until it is told to end."""

    def __init__(self, minion):
        super().__init__(daemon=True)
        self._minion = minion
        self._ending = threading.Event()
        self.sent = []
        self.failed = []

    def run(self):
        """Send."""
        number = 0
        with self._minion.events() as events:
            while not self._ending.is_set():
                number += 1
                # Safe with the master, or on this host's disk: either is soon, whatever is cut.
                good = events.fire_master({"n": number}, "up", timeout=30_000)
                (self.sent if good else self.failed).append(number)
                time.sleep(0.002)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self.join()


def _arrived(master):
    return [data["data"]["n"] for data in master.events("up")]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_event_arrives_once_and_in_order(master, minion, proxy, fault):
    """Whatever was on the way when it failed; and those fired meanwhile."""
    chance = random.Random(fault)
    with Sending(minion) as sending:
        for _ in range(CUTS):
            enough = len(sending.sent) + chance.randrange(20, 80)
            wait_for(lambda enough=enough: len(sending.sent) >= enough, "events", WAIT)
            getattr(proxy, fault)()
            time.sleep(CUT_SECONDS)
            proxy.heal()
            minion.wait_connected(WAIT)
    assert not sending.failed
    wait_for(lambda: len(_arrived(master)) >= len(sending.sent), "the events", WAIT)
    assert _arrived(master) == sending.sent


def _ends(master, jids):
    """Return how each job ended: ``ret`` or ``gone``, as often as that was said."""
    ends = {jid: [] for jid in jids}
    for tag in master.tags():
        _, _, jid, kind, *_ = (*tag.split("/"), "", "", "")
        if jid in ends and kind in ("ret", "gone"):
            ends[jid].append(kind)
    return ends


def _returned(master, jids):
    return [jid for jid, kinds in _ends(master, jids).items() if "ret" in kinds]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_job_ends(master, minion, proxy, place, fault):
    """With one return, or with words that say why there is none; and none runs twice."""
    trace = place / "trace"
    trace.touch()
    jids, missing = [], set()
    for cut in range(CUTS):
        for number in range(20):
            if number == 5:
                done = list(jids)
                wait_for(lambda done=done: _returned(master, done)[-5:] == done[-5:], "returns")
            if number == 10:
                getattr(proxy, fault)()
            pub = master.publish("web1", "note.once", str(trace), f"{cut}-{number}")
            jids.append(pub["jid"])
            missing |= {pub["jid"]} if pub["missing"] else set()
        time.sleep(CUT_SECONDS)
        proxy.heal()
        minion.wait_connected(WAIT)
        wait_for(lambda: master.connected() == ["web1"], "the minion", WAIT)
    sent = [jid for jid in jids if jid not in missing]
    wait_for(lambda: all(_ends(master, sent).values()), "an end of each job", WAIT)
    ends = _ends(master, jids)
    assert max(kinds.count("ret") for kinds in ends.values()) == 1
    assert max(Counter(trace.read_text().split()).values()) == 1
    assert sum("ret" in kinds for kinds in ends.values()) >= CUTS * 5
    assert not any(ends[jid] for jid in missing)
    with master.client() as client:
        for jid in jids:
            following = client.resume(jid, timeout=1)
            answered = [answer["web1"]["return"] for answer in following]
            assert answered or following.silent["web1"], jid
            assert bool(answered) == ("ret" in ends[jid])


def test_a_link_that_is_killed_with_jobs_on_the_way(master, minion, place):
    """Its successor knows what is owed: each job returns, and none runs twice."""
    trace = place / "trace"
    trace.touch()
    jids = []
    for kill in range(CUTS):
        pubs = [
            master.publish("web1", "note.once", str(trace), f"{kill}-{number}")
            for number in range(10)
        ]
        jids += [pub["jid"] for pub in pubs]
        master.link.kill()
        master.start_link()
        wait_for(lambda: master.connected() == ["web1"], "the minion", WAIT)
    wait_for(lambda: all(_ends(master, jids).values()), "an end of each job", WAIT)
    assert _ends(master, jids) == {jid: ["ret"] for jid in jids}
    assert max(Counter(trace.read_text().split()).values()) == 1


def test_a_minion_that_stays_away_from_a_new_link(master, minion, place):
    """The successor of a link that was killed gives up what will not come, and so it stays."""
    pub = master.publish("web1", "test.sleep", 3600)
    master.link.kill()
    minion.process.kill()
    master.start_link()
    gone = f"salt/job/{pub['jid']}/gone/web1"
    wait_for(lambda: gone in master.tags(), "word of it", WAIT)
    master.link.kill()
    master.start_link()
    assert master.link.call("status")["owing"] == 0
    minion.start()
