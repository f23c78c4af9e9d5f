"""The engine under events that hold anything: none ends a turn, and each is answered for."""

from __future__ import annotations

import contextlib
import random

import pytest

from bus import wire
from bus.errors import BusError
from bus.frames import Fire
from tests.unit.reactor.rules.test_injection import EVERYWHERE, HOSTILE
from tests.unit.reactor.test_engine_rules import Bench

RULES = (
    EVERYWHERE
    + """
count: {on: 'a*', count: {at_least: 2, within: 1m, by: [data.v, data.n]}, do: [{event: c}]}
rate: {on: [a, b], throttle: {rate: 5/10s, by: data.v}, do: [{event: t}]}
after: {on: '*', throttle: {once_after: 5s, by: data.list}, do: [{event: "{{ tag }}"}]}
same: {on: '*', dedupe: 5s, do: [{event: d}]}
similar: {on: '*', dedupe: {within: 5s, by: data}, do: [{event: "d{{ data.v }}"}]}
both:
  all_of: [{on: a, by: data.v}, {on: b, by: data.v, when: data.n > 1, name: bee}]
  within: 10s
  do: [{event: "{{ window.events.bee.data.v }}"}]
none: {on: a, none_of: {on: b, by: data.v}, within: 3s, by: data.v, do: [{event: n}]}
queue:
  on: '*'
  mode: queued
  max: 5
  by: data.v
  expires: 1m
  for_each: data.list
  do: [{event: "{{ item }}", data: {x: "{{ item.a | default(1) }}"}}]
when:
  on: '*'
  when: [data.v | length > 1, data.v in data.list, data.n < data.v or data.v.x.y]
  do: [{event: w}]
  else: [{event: e}]
vars:
  on: '*'
  vars: {a: "{{ data.v | int + 1 }}", b: "{{ data.v | regex_replace('(a|aa)+$', 'b') }}"}
  when: vars.a > 1
  do: [{event: "{{ vars.b }}"}]
every: {every: 7s, do: [{event: every}]}
"""
)
NUMBERS = [0, 1, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), float("nan"), True, False, None]
CAUSES = [1, {}, {"hops": "x"}, {"hops": 5, "rule": 1}, {"hops": 99, "rule": None}, [1]]
STAMPS = ["x", "", None, 5, "9999-12-31T23:59:59+00:00", "0001-01-01"]


def _value(chance, depth=0):
    kind = chance.randrange(12)
    if kind == 0:
        return chance.choice(NUMBERS)
    if kind == 1:
        return b"\xff\x00x"
    if kind == 2:
        return "a" * chance.choice([1, 5, 5, 5, 60]) + "!"
    if kind == 3 and depth < 4:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(5))]
    if kind == 4 and depth < 4:
        keys = ["a", "v", 1, None, True, 1.5, b"k", chance.choice(HOSTILE)]
        return {chance.choice(keys): _value(chance, depth + 1) for _ in range(4)}
    if kind == 5:
        value = [1]
        for _ in range(chance.choice([3, 80, 300])):
            value = [value] if chance.random() < 0.5 else {"a": value}
        return value
    return chance.choice(HOSTILE) if kind < 9 else chance.choice("abv")


def _event(chance):
    data = {key: _value(chance) for key in ("v", "n", "list") if chance.random() < 0.9}
    for name, values, share in (
        ("_cause", CAUSES, 0.1),
        ("_stamp", STAMPS, 0.1),
        ("user", ["Reactor", 1], 0.03),
        ("cmd", ["_minion_event"], 0.1),
    ):
        if chance.random() < share:
            data[name] = chance.choice(values)
    return chance.choice(["a", "b", "a/b", "x{{ 1 }}", "a: b", "é", "z" * 300]), data


@pytest.mark.parametrize("seed", range(3))
def test_no_event_ends_a_turn(tmp_path, seed):
    """What rules make of it is done, failed or turned away, and can be asked for."""
    chance, bench = random.Random(seed), Bench(tmp_path, RULES)
    fired = 0
    while fired < 250:
        bench.now += chance.choice([0, 0.1, 1, 3])
        tag, data = _event(chance)
        with contextlib.suppress(BusError, ValueError):
            raw = wire.pack_event(tag, {"_stamp": "2026-01-01T00:00:00+00:00", **data}, 1 << 20)
            fired += 1
            bench.seq += 1
            bench.journal.append([Fire(b"t", bench.seq, 0, [raw])])
            bench.feed.all.append((bench.seq, raw))
            bench.feed.ready.append((bench.seq, raw))
        assert bench.engine.turn()
        for name in list(bench.calls.open):
            while bench.calls.open[name] and chance.random() < 0.7:
                result = chance.choice([{}, {"x": 1}, None, 5])
                bench.calls.end(name, result, chance.choice([None, None, "bad"]))
    while any(bench.calls.open.values()):
        for name in list(bench.calls.open):
            while bench.calls.open[name]:
                bench.calls.end(name)
        bench.turns()
    bench.turns()
    total = bench.engine.statistics.total
    assert total["events"] == 250
    assert total["done"] > 100
    assert bench.engine.under_way == 0
    assert all(trace["state"] != "under way" for trace in bench.engine.traces.find())
    bench.state.close()
    bench.journal.close()
