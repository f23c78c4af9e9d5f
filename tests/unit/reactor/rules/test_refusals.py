"""Why a condition does not hold: noted small, and put into words when somebody reads it."""

from __future__ import annotations

import pickle

import pytest

from reactor.rules import refusals
from reactor.rules.wording import Later
from tests.unit.reactor.rules.rule_tools import Core


def _core(when):
    return Core(f"r:\n  on: x\n  when: {when}\n  do: [{{event: y}}]\n")


def _said(when, **data):
    [found] = _core(when).feed(0, "x", **data)
    return found.said


def test_nothing_is_worded_until_it_is_read(monkeypatch):
    """Which is what most of them never are."""
    made = []
    monkeypatch.setattr(refusals, "_worded", lambda *_facts: made.append(1) or "worded")
    said = _said("data.n > 3", n=1)
    assert made == []
    assert (str(said), made) == ("worded", [1])


def test_it_says_what_was_seen_then():
    """Also when the event's data is no longer what it was."""
    core = _core("data.a.n > 3")
    inner = {"n": 1}
    [found] = core.feed(0, "x", a=inner)
    inner["n"] = 5
    assert found.reason == "when: data.a.n > 3 is false (data.a.n is 1)"


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("data.list|length > 9", "(data.list is [0, 1, 2])"),
        ("data.text == 1", '(data.text is "' + "x" * 78 + "…)"),
        ("data.big == 1", "(data.big is 1" + "0" * 78 + "…)"),
        ("data.no.more", "(data.no is undefined)"),
        ("data|length > 99", "data|length > 99 is false"),
        ("data.password == 1", "is false (data.password is ***)"),
        ("data.f == 1 or data.t or data.n", "(data.f is 1.5, data.t is false, data.n is null)"),
        ("tag == 'z'", "(tag is 'x')"),
        ("data.f > 2 and data.u", "(data.u is undefined, data.f is 1.5)"),
    ],
)
def test_what_is_noted_is_small_and_says_the_same(when, reason):
    """Whatever the event holds: a trace keeps thousands of them."""
    said = _said(
        when,
        list=[0, 1, 2],
        text="x" * 100_000,
        big=10**200,
        password="hunter2",
        f=1.5,
        t=False,
        n=None,
        rest="y" * 100_000,
    )
    assert isinstance(said, Later)
    assert reason in str(said)
    facts = [fact for fact in said._facts if isinstance(fact, tuple)]
    assert len(pickle.dumps(facts)) < 1_000


def test_reasons_of_policies_say_the_numbers_of_then():
    """A count that went on says what it was when it stopped the event."""
    core = Core("r:\n  on: x\n  count: {at_least: 3, within: 1m}\n  do: [{event: y}]\n")
    first, second = core.feed(0, "x")[0], core.feed(1, "x")[0]
    assert (first.reason, second.reason) == ("count: 1 of 3 within 1m", "count: 2 of 3 within 1m")
    assert repr(first.said) == "Later('count: 1 of 3 within 1m')"
