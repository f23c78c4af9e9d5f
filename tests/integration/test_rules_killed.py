"""The reactor killed with SIGKILL at random moments: what rules remember goes on as it was.

Short in the suite; `make soak` sets REACTOR_SOAK and kills fifty times.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import pytest

import bus
from bus.config import master_config
from bus.journal import JournalReader, journal_path
from bus.record import Event
from reactor.rules.deciding import Decider, Outcome
from reactor.rules.loading import RuleSet
from reactor.rules.memory import Memory
from tests.integration.test_kill import CATCH_UP, KILLS, _kill
from tests.system import running, wait_until

ONE_BY_ONE = """
throttled:
  on: load
  throttle: {once_within: 8s, by: data.n % 5}
  do: [{event: throttled}]
rated:
  on: load
  throttle: {rate: 20/30s, by: data.n % 3}
  do: [{event: rated}]
counted:
  on: load
  count: {at_least: 5, within: 12s, by: data.n % 7, reset: true}
  do: [{event: counted}]
sliding:
  on: load
  when: data.n % 2 == 0
  count: {at_least: 4, within: 9s, by: data.n % 11}
  throttle: {once_within: 3s, by: data.n % 11}
  do: [{event: sliding}]
deduped:
  on: load
  dedupe: {within: 10s, by: data.n // 4}
  do: [{event: deduped}]
queued:
  on: load
  mode: queued
  by: data.n % 3
  do: [{event: queued, data: {n: "{{ data.n }}"}}]
steps:
  on: load
  when: data.n % 10 == 0
  do:
    - {runner: test.arg, args: ["{{ data.n }}"], id: first}
    - {event: stepped, for_each: "[1, 2]", data: {n: "{{ results.first.return.args[0] }}"}}
retried:
  on: load
  when: data.n % 40 == 0
  do:
    - exec: [sh, -c, 'test -e "$0" || { : > "$0"; exit 1; }', "MARKS/{{ data.n }}"]
      retry: {times: 3, backoff: 50ms}
"""
"""Which of these act on which event follows from the stamps of the events alone."""

BROKEN = """
broken:
  on: load
  when: data.n % 60 == 0
  do: [{runner: no.such_function}]
"""

WAITING = """
gathered:
  on: load
  throttle: {once_after: 700ms, by: data.n % 3}
  do: [{event: gathered, data: {n: "{{ window.count }}", key: "{{ window.key }}"}}]
pairs:
  all_of:
    - {on: load, when: data.n % 2 == 0, name: even}
    - {on: load, when: data.n % 2 == 1, name: odd}
  within: 1h
  by: data.n // 2
  do: [{event: paired, data: {n: "{{ data.n // 2 }}"}}]
silent:
  on: load
  none_of: load
  within: SILENT
  by: data.n % 3
  do: [{event: silent, data: {n: "{{ data.n }}"}}]
ticking:
  every: 1s
  do: [{event: ticked, data: {due: "{{ data.due }}", missed: "{{ data.missed }}"}}]
"""
"""These also act when nothing comes: the moment at which they look is the clock's."""

SILENT = 20


@pytest.fixture
def start(tmp_path):
    """Start a system with these rules."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (tmp_path / "marks").mkdir()

    def system(text):
        text = text.replace("MARKS", str(tmp_path / "marks")).replace("SILENT", f"{SILENT}s")
        (rules / "r.yaml").write_text(text)
        return running(tmp_path, "--rules", str(rules))

    return system


class Load:
    """Numbered events in bursts, and a kill of the reactor somewhere in each."""

    def __init__(self, system, opts):
        self._system, self._opts = system, opts
        self._chance = random.Random(5)
        self._next = 1
        self.kept = 0
        self.kills = 0

    def run(self):
        """Kill as often as is wanted; soon after the start too, as it is still catching up."""
        while self.kills < KILLS:
            burst = threading.Thread(target=self._fire, args=(self._chance.randrange(50, 400),))
            burst.start()
            for _ in range(self._chance.choice((1, 1, 1, 2))):
                time.sleep(self._chance.uniform(0, 0.3))
                _kill(self._system, "reactor")
                self.kills += 1
            burst.join()
        self._fire(50)

    def _fire(self, count):
        numbers = range(self._next, self._next + count)
        self._next += count
        with bus.connect("master", self._opts) as events:
            self.kept += events.fire_events((("load", {"n": n}) for n in numbers), timeout=60)


def _journal(opts):
    with JournalReader(journal_path(opts["state_dir"])) as journal:
        return [Event.from_wire(raw, seq, journal.bus_id) for seq, raw in journal.scan()]


def _ends(events, how):
    """Return, by rule, how often each reaction ended so, and the events' numbers."""
    found = defaultdict(Counter)
    for event in events:
        if event.tag.startswith("reactor/reaction/") and event.tag.endswith(f"/{how}"):
            found[event.data["rule"]][event.data["id"], event.data["event"]["seq"]] += 1
    return found


def _seqs(ends, rule):
    return sorted(seq for _, seq in ends[rule])


def _assert_once(ends):
    for rule, ids in ends.items():
        assert max(ids.values()) == 1, rule


def _uninterrupted(path, events):
    """Return, by rule, the numbers of the events on which a reactor acts that nobody kills."""
    decider = Decider({}, Memory(), {}.get)
    decider.use(RuleSet(rules=[str(path)]).load(), 0.0)
    found = defaultdict(list)
    for event in events:
        for one in decider.decide(event, time.time()):
            assert isinstance(one, Outcome)
            if one.acts:
                found[one.rule.name].append(event.seq)
    return found


@pytest.mark.timeout(2400)
def test_rules_act_as_if_nobody_had_killed_the_reactor(start, tmp_path):
    """Throttles, counts, dedupe, queues, programs and retries: exactly what a single run does."""
    with start(ONE_BY_ONE + BROKEN) as system:
        opts = master_config(system.config)
        load = Load(system, opts)
        load.run()
        fired = [event for event in _journal(opts) if event.tag == "load"]
        assert load.kept == len(fired)
        due = _uninterrupted(tmp_path / "rules" / "r.yaml", fired)
        broken = due.pop("broken")
        rules = due.keys()
        assert len(rules) == 8

        def complete():
            events = _journal(opts)
            done, failed = _ends(events, "done"), _ends(events, "failed")
            return all(len(done[rule]) >= len(due[rule]) for rule in rules) and (
                len(failed["broken"]) >= len(broken)
            )

        wait_until(complete, CATCH_UP)
        events = _journal(opts)
        done, failed = _ends(events, "done"), _ends(events, "failed")
        letters = json.loads(system.run("dead", "list", "--json", "--limit", "10000").stdout)
    for rule in rules:
        assert _seqs(done, rule) == due[rule], rule
    _assert_once(done)
    _assert_once(failed)
    assert list(failed) == ["broken"]
    assert _seqs(failed, "broken") == broken
    assert sorted(letter["event"]["seq"] for letter in letters["letters"]) == broken
    stepped = Counter(event.data["n"] for event in events if event.tag == "stepped")
    assert all(count >= 2 for count in stepped.values())
    _assert_in_order([event.data["n"] for event in events if event.tag == "queued"], load.kills)


def _assert_in_order(numbers, kills):
    """One after the other for each key; only what was in flight at a kill may come again."""
    for key in range(3):
        mine = [number for number in numbers if number % 3 == key]
        firsts = list(dict.fromkeys(mine))
        assert firsts == sorted(firsts)
        assert len(mine) - len(firsts) <= kills


@pytest.mark.timeout(2400)
def test_what_waits_survives_kills(start):
    """Every event counts in one window, no time of a schedule is left out or done twice."""
    with start(WAITING) as system:
        opts = master_config(system.config)
        load = Load(system, opts)
        load.run()
        fired = [event for event in _journal(opts) if event.tag == "load"]
        lasts = {event.data["n"] % 3: event.data["n"] for event in fired}
        may, must = _silences(fired)

        def complete():
            events = _journal(opts)
            gathered = sum(_firsts(events, "gathered").values())
            silent = {event.data["n"] for event in events if event.tag == "silent"}
            return gathered >= len(fired) and set(lasts.values()) <= silent

        wait_until(complete, CATCH_UP)
        events = _journal(opts)
    done = _ends(events, "done")
    _assert_once(done)
    assert not _ends(events, "failed")
    counted = _firsts(events, "gathered")
    assert sum(counted.values()) == len(fired)
    pairs = {event.data["n"] for event in events if event.tag == "paired"}
    numbers = {event.data["n"] for event in fired}
    assert pairs == {n // 2 for n in numbers if n ^ 1 in numbers}
    assert len(done["pairs"]) == len(pairs)
    silent = {event.data["n"] for event in events if event.tag == "silent"}
    assert must <= silent <= may
    _assert_no_gap([event.data for event in events if event.tag == "ticked"])


def _firsts(events, tag):
    """Return what each reaction's event says, once if it was in flight at a kill."""
    return {
        (event.data["_cause"]["seq"], event.data["key"]): event.data["n"]
        for event in events
        if event.tag == tag
    }


def _silences(fired):
    """Return after which numbers nothing came for longer, give or take what a look may differ."""
    may, must = set(), set()
    for key in range(3):
        mine = [event for event in fired if event.data["n"] % 3 == key]
        stamps = [datetime.fromisoformat(event.stamp) for event in mine]
        for event, begin, end in zip(mine, stamps, [*stamps[1:], None], strict=True):
            gap = (end - begin).total_seconds() if end else 10 * SILENT
            if gap > SILENT * 0.9:
                may.add(event.data["n"])
            if gap > SILENT * 1.5:
                must.add(event.data["n"])
    return may, must


def _assert_no_gap(ticks):
    """Each is due one second after the one before, and those that it counts as missed."""
    assert ticks
    by_due = {datetime.fromisoformat(tick["due"]): tick["missed"] for tick in ticks}
    times = sorted(by_due)
    for before, after in itertools.pairwise(times):
        behind = after - before - timedelta(seconds=1 + by_due[before])
        assert abs(behind) < timedelta(milliseconds=5), (before, after, by_due[before])
