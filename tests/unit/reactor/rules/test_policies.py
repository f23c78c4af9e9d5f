"""Each policy on a simulated clock: when a rule acts, and why it does not."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.rules import deciding
from reactor.rules.deciding import Announcement
from reactor.rules.memory import Memory
from reactor.rules.policies import ORDER, shown
from tests.unit.reactor.rules.rule_tools import START, Core, errors_of, iso

DO = "  do: [{event: done}]\n"


def _rule(more, on="  on: x\n"):
    return f"r:\n{on}{more}{DO}"


EXAMPLE = """
restart_failed_service:
  description: Restart a service that was found down twice within five minutes
  on: salt/job/*/ret/*                       # a glob or a list of globs
  when: data.fun == "service.status" and not data.return
  count: {at_least: 2, within: 5m, by: data.id}
  throttle: {once_within: 10m, by: data.id}
  mode: queued                               # single, restart, queued, parallel
  max: 10
  do:
    - local: service.restart
      tgt: "{{ data.id }}"
      args: [nginx]
      retry: {times: 3, backoff: 2s}
    - event: ops/service/restarted
      data: {minion: "{{ data.id }}", jid: "{{ data.jid }}"}
"""


def test_the_example_of_the_manual():
    """Twice within five minutes, once in ten, for each minion."""
    core = Core(EXAMPLE)

    def down(at, minion="web1"):
        data = {"fun": "service.status", "return": False, "id": minion, "jid": "7"}
        return core.feed(at, f"salt/job/7/ret/{minion}", **data)[0]

    assert down(0).reason == "count: 1 of 2 within 5m for key web1"
    assert down(1, "web2").reason == "count: 1 of 2 within 5m for key web2"
    second = down(10)
    assert [(call.kind, call.function) for call in second.plan.calls] == [
        ("local", "service.restart"),
        ("event", "ops/service/restarted"),
    ]
    assert [name for name, _, _ in second.steps] == ["when", "count", "throttle"]
    assert down(22).reason == "throttle: fired 12s ago, once_within 10m for key web1"
    assert down(611).reason == "count: 1 of 2 within 5m for key web1"
    assert down(612).acts
    other = core.feed(613, "salt/job/7/ret/web1", fun="test.ping", id="web1")[0]
    assert other.policy == "when"
    assert "is false" in other.reason


def test_policies_are_asked_in_the_order_that_is_documented():
    """However they stand in the file."""
    text = _rule(
        "  throttle: {once_within: 1s}\n  count: {at_least: 1, within: 1s}\n"
        "  dedupe: 1s\n  expires: 1d\n  when: data.a == 1\n"
    )
    [found] = Core(text).feed(0, "x", a=1)
    asked = [name for name, _, _ in found.steps]
    assert (
        asked
        == sorted(asked, key=ORDER.index)
        == ["expires", "when", "dedupe", "count", "throttle"]
    )


def test_once_within_acts_at_once_and_again_later():
    """For each key; without `by` there is one key."""
    core = Core(_rule("  throttle: {once_within: 10s}\n"))
    assert [core.acts(at, "x") for at in (0, 5, 9.9, 10, 19, 20)] == [
        True, False, False, True, False, True,
    ]  # fmt: skip


def test_once_after_gathers_and_acts_on_the_last():
    """The window says how many there were."""
    core = Core(
        "r:\n  on: x\n  throttle: {once_after: 30s, by: data.id}\n"
        '  do: [{event: done, data: {n: "{{ data.n }}", of: "{{ window.count }}"}}]\n'
    )
    assert core.why(0, "x", id="a", n=1) == "throttle: waits 30s more, once_after 30s for key a"
    assert core.why(29, "x", id="a", n=2).startswith("throttle: waits 1s more")
    assert core.advance(29.9) == []
    [found] = core.advance(30)
    assert found.plan.calls[0].data == {"n": 2, "of": 2}
    assert core.advance(1000) == []


def test_what_is_due_comes_before_an_event_that_is_later():
    """Also where events are read long after they were fired: the order is that of the stamps."""
    core = Core(_rule("  throttle: {once_after: 30s}\n"))
    core.feed(0, "x")
    due, waits = core.feed(100, "x")
    assert (due.acts, due.event.seq, waits.acts) == (True, 1, False)


def test_an_event_that_was_waited_upon_and_is_gone_is_an_error():
    """Retention took it: the reaction fails and says so, instead of being forgotten."""
    core = Core(_rule("  throttle: {once_after: 1s}\n"))
    core.feed(0, "x")
    core.events.clear()
    [found] = core.advance(2)
    assert "no longer kept" in found.error


def test_rate_allows_bursts_up_to_its_number():
    """Tokens come back with time."""
    core = Core(_rule("  throttle: {rate: 2/10s}\n"))
    assert [core.acts(at, "x") for at in (0, 1, 2, 5, 6, 10)] == [
        True, True, False, True, False, True,
    ]  # fmt: skip
    assert core.why(10.1, "x").startswith("throttle: rate 2 per 10s is reached, the next in ")


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab")), max_size=40),
    st.integers(1, 4),
    st.integers(1, 15),
    st.booleans(),
)
def test_count_is_as_a_naive_count(steps, at_least, within, reset):
    """A sliding window by key, whatever the gaps; with `reset`, counting anew."""
    flag = "true" if reset else "false"
    core = Core(
        _rule(f"  count: {{at_least: {at_least}, within: {within}s, by: data.k, reset: {flag}}}\n")
    )
    seen, at = {"a": [], "b": []}, 0
    for gap, key in steps:
        at += gap
        seen[key] = [time for time in seen[key] if time > at - within] + [at]
        enough = len(seen[key]) >= at_least
        assert core.acts(at, "x", k=key) is enough
        if enough and reset:
            seen[key] = []


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 20))
def test_throttle_is_as_a_naive_throttle(gaps, within):
    """The last firing is all that matters."""
    core = Core(_rule(f"  throttle: {{once_within: {within}s}}\n"))
    at, fired = 0, None
    for gap in gaps:
        at += gap
        free = fired is None or at - fired >= within
        assert core.acts(at, "x") is free
        fired = at if free else fired


def test_dedupe_lets_the_first_of_equal_events_pass():
    """Equal by the whole event unless a key is named; repeats do not count."""
    core = Core(_rule("  dedupe: 10s\n"))
    assert core.acts(0, "x", n=1)
    assert core.why(4, "x", n=1).startswith("dedupe: the same came 4s ago, within 10s")
    assert core.acts(4, "x", n=2)
    assert core.acts(10, "x", n=1)
    keyed = Core(_rule("  dedupe: {within: 10s, by: data.id}\n  when: data.bad\n"))
    assert not keyed.acts(0, "x", id=1, bad=False)
    assert keyed.acts(1, "x", id=1, bad=True)
    assert not keyed.acts(2, "x", id=1, bad=True, more=1)


def test_expires_by_age_and_by_moment():
    """An age is of the event, seen from the clock; a moment is of the rule."""
    age = Core(_rule("  expires: 10m\n"))
    assert age.acts(0, "x")
    found = age.feed(0, "x")
    [late] = age.decider.decide(found[0].event, START + 700)
    assert late.reason == "expires: the event is 11m40s old, expires 10m"
    moment = Core(_rule('  expires: "2026-01-01T00:01:00Z"\n'))
    assert moment.acts(59, "x")
    assert moment.why(60, "x") == "expires: the rule ended at 2026-01-01T00:01:00+00:00"


def test_else_is_done_when_a_condition_fails():
    """With policies and without; it is neither counted nor throttled."""
    text = "r:\n  on: x\n  when: data.up\n{}  do: [{{event: up}}]\n  else: [{{event: down}}]\n"
    for more in ("", "  throttle: {once_within: 1h}\n"):
        core = Core(text.format(more))
        functions = []
        for at, up in enumerate((True, False, False)):
            [found] = core.feed(at, "x", up=up)
            functions += [call.function for call in found.plan.calls]
        assert functions == ["up", "down", "down"]


def test_vars_come_before_everything_and_may_be_missing():
    """One may use those before it; one that cannot be worked out is undefined where it is used."""
    core = Core(
        "r:\n  on: x\n  vars: {host: '{{ data.id }}', fqdn: '{{ vars.host }}.example', n: 3}\n"
        "  when: vars.fqdn != 'b.example'\n"
        "  do: [{event: done, data: {to: '{{ vars.fqdn }}', n: '{{ vars.n }}'}}]\n"
    )
    [found] = core.feed(0, "x", id="a")
    assert found.plan.calls[0].data == {"to": "a.example", "n": 3}
    assert not core.acts(1, "x", id="b")
    assert "vars.fqdn is undefined" in core.why(2, "x")


ALL = """
r:
  all_of: [a, {on: b, name: bee, when: data.ok}]
  within: 1m
  by: data.id
  do: [{event: done, data: {n: "{{ window.events.bee.data.n }}", c: "{{ window.count }}"}}]
"""


def test_all_of_acts_once_all_have_come_in_any_order():
    """By key, within the time, with conditions of their own."""
    core = Core(ALL)
    assert core.why(0, "a", id=1) == "all_of: bee has not come, 1m left for key 1"
    assert core.why(1, "b", id=2, ok=True, n=5) == "all_of: a has not come, 1m left for key 2"
    assert core.why(2, "b", id=1, ok=False) == "all_of: a condition of its pattern does not hold"
    [found] = core.feed(3, "a", id=2)
    assert found.plan.calls[0].data == {"n": 5, "c": 2}
    assert not core.acts(59, "a", id=2)
    assert not core.acts(61, "b", id=1, ok=True, n=1)
    assert core.acts(100, "a", id=1)


def test_any_of_needs_one_of_them_besides():
    """One of each group."""
    core = Core("r:\n  all_of: a\n  any_of: [b, c]\n  within: 1m\n" + DO)
    assert core.why(0, "a") == "any_of: b or c has not come, 1m left"
    assert core.acts(1, "c")
    assert not core.acts(2, "b")
    assert core.acts(3, "a")


WATCH = """
r:
  on: beat
  none_of: beat
  within: 5m
  by: data.id
  do: [{event: "silent/{{ data.id }}"}]
"""


def test_none_of_acts_when_something_has_not_come():
    """A heartbeat that ends, for each host; each beat begins the wait anew."""
    core = Core(WATCH)
    core.feed(0, "beat", id="a")
    core.feed(10, "beat", id="b")
    core.feed(200, "beat", id="a")
    assert core.advance(309) == []
    [found] = core.advance(310)
    assert found.plan.calls[0].function == "silent/b"
    [found] = core.feed(499, "other") + core.advance(500)
    assert found.plan.calls[0].function == "silent/a"
    assert found.steps[0][2] == "none_of: beat did not come within 5m for key a"
    assert core.advance(9999) == []


def test_none_of_is_kept_quiet_by_what_was_waited_for():
    """With another event that opens the wait, and conditions on it."""
    core = Core("r:\n  on: go\n  when: data.env == 'prod'\n  none_of: ok\n  within: 1m\n" + DO)
    assert not core.acts(0, "go", env="test")
    core.feed(0, "go", env="prod")
    assert core.why(30, "ok") == "none_of: ok ended the window"
    assert core.why(31, "ok") == "none_of: ok came, and no window was open"
    assert core.advance(100) == []
    core.feed(100, "go", env="prod")
    assert [found.acts for found in core.advance(160)] == [True]


def test_one_event_can_complete_two_windows():
    """Both act, as reactions of their own."""
    core = Core(
        "r:\n  all_of: [{on: x, by: data.a, name: p}, {on: x, by: data.b, name: q}]\n"
        "  within: 1m\n" + DO
    )
    core.feed(0, "x", a="1", b="2")
    found = core.feed(1, "x", a="2", b="1") + core.advance(1)
    acting = [outcome for outcome in found if outcome.acts]
    assert len({outcome.key for outcome in acting}) == len(acting) == 2


def test_one_event_can_complete_the_windows_of_many_keys():
    """Each of them acts, one at once and the others as soon as there is nothing more to read."""
    items = ", ".join(f"{{on: x, by: data.k{n}, name: n{n}}}" for n in range(5))
    core = Core(f"r:\n  all_of: [{items}]\n  within: 1m\n{DO}")
    keys = ["", "a", "b", "c", "d"]
    found = []
    for turn in range(5):
        # Each item of each key sees one of the events; the last of them completes all windows.
        assert not any(outcome.acts for outcome in found)
        values = {f"k{n}": keys[(n + turn) % 5] for n in range(5)}
        found = core.feed(turn, "x", **values) + core.advance(turn)
    acting = [outcome for outcome in found if outcome.acts]
    assert sorted(outcome.window["key"] for outcome in acting) == keys
    assert len({outcome.key for outcome in acting}) == 5
    assert core.advance(999) == []


def test_one_event_can_open_windows_that_end_for_each_key():
    """Each wait of none_of has its own end."""
    core = Core(
        "r:\n  any_of: [{on: x, by: data.a, name: p}, {on: x, by: data.b, name: q}, "
        "{on: x, by: data.c, name: s}]\n  none_of: {on: ok, by: data.a}\n  within: 1m\n" + DO
    )
    core.feed(0, "x", a="1", b="2", c="3")
    core.feed(1, "ok", a="2")
    ended = core.advance(60)
    assert sorted(outcome.window["key"] for outcome in ended if outcome.acts) == ["1", "3"]


def test_none_of_alone_watches_from_the_start():
    """No event is needed; it acts again and again while none comes."""
    core = Core("r:\n  none_of: backup/done\n  within: 1h\n" + DO)
    assert core.announced(3599) == []
    assert [found.event.tag for found in core.announced(3600)] == ["reactor/absence/r"]
    assert core.why(4000, "backup/done") == "none_of: backup/done came, 1h left"
    assert core.announced(7200) == []
    assert len(core.announced(7600)) == 1


def test_every_acts_by_its_own_event_once_for_each_time():
    """An event that comes twice, or that somebody else sends, does nothing."""
    core = Core("r:\n  every: 1h\n" + DO)
    [due] = core.advance(3600)
    assert (due.tag, due.data["missed"], core.advance(3601)) == ("reactor/schedule/r", 0, [])
    assert core.acts(3601, due.tag, **due.data)
    assert core.why(3602, due.tag, **due.data).endswith("is done")
    assert core.why(3603, due.tag, due=iso(7200)) == "schedule: the event is another's"
    [late] = core.advance(4 * 3600 + 10)
    assert late.data["missed"] == 2
    assert core.acts(4 * 3600 + 10, late.tag, **late.data)
    assert core.decider.next_due == START + 5 * 3600


@pytest.mark.parametrize(
    ("cron", "zone", "first", "times"),
    [
        # 02:00 becomes 03:00: what is left out is done at the next time that there is.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29T01:00", "30T00:30"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29T01:00", "30T01:00"]),
        ("15 2 * * *", "America/New_York", "2026-03-07T12:00Z", ["08T07:00", "09T06:15"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00Z", ["03T15:30", "04T15:15"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:10Z", ["29T00:30", "29T01:00"]),
        # 03:00 becomes 02:00: what is due once a day is done once, and each hour is an hour.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["25T00:30", "26T01:30"]),
        ("30 1 * * 0", "America/New_York", "2026-11-01T00:00Z", ["01T05:30", "08T06:30"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["25T00:00", "25T02:00", "26T01:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30Z", ["25T00:00", "25T01:00", "25T02:00"]),
        ("@hourly", "Europe/Berlin", "2026-10-24T23:30Z", ["25T00:00", "25T01:00", "25T02:00"]),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T23:30Z",
            ["25T00:00", "25T00:30", "25T01:00"],
        ),
        ("@daily", "Europe/Berlin", "2026-10-24T12:00Z", ["24T22:00", "25T23:00"]),
        ("@daily", "America/Havana", "2026-10-31T12:00Z", ["01T04:00", "02T05:00"]),
        ("30 2 * * *", "UTC", "2026-10-24T12:00Z", ["25T02:30", "26T02:30"]),
    ],
)
def test_cron_follows_its_time_zone_through_summer_time(cron, zone, first, times):
    """At the change of the clocks too, in both directions; each time is announced once."""
    at = dt.datetime.fromisoformat(first).timestamp() - START
    core = Core("r:\n  on: never\n" + DO)
    core.use(f"r:\n  cron: '{cron}'\n  timezone: {zone}\n" + DO, at)
    found = []
    while len(found) < len(times):
        due = core.decider.next_due
        assert len(core.announced(due - START)) == 1
        found.append(dt.datetime.fromtimestamp(due, dt.UTC).strftime("%dT%H:%M"))
    assert found == times


def test_match_types_of_tags():
    """As listeners have them; a regex is tried after the index."""
    for match, on, yes, no in (
        ("startswith", "a[1]/", "a[1]/b", "a1/b"),
        ("endswith", "/b", "a/b", "a/bc"),
        ("find", "mid*", "a/mid*/b", "a/mid/b"),
        ("fnmatch", "a/*", "a/b", "b/a"),
        ("regex", "a/(x|y)$", "a/x", "a/xy"),
    ):
        core = Core(_rule(f"  match: {match}\n", on=f"  on: '{on}'\n"))
        assert core.acts(0, yes), match
        assert not core.acts(0, no), match
    assert core.why(0, "a/xy") == "match: the tag does not match the regex a/(x|y)$"


def test_keys_are_bounded_and_the_oldest_goes():
    """Somebody who makes keys up fills no memory, and what is dropped is counted."""
    core = Core(_rule("  throttle: {once_within: 1h, by: data.k}\n"), max_keys=3)
    for key in range(5):
        core.feed(key, "x", k=key)
    assert list(core.memory.take_evicted().values()) == [2]
    assert core.memory.take_evicted() == {}
    assert core.acts(9, "x", k=0)
    assert not core.acts(9, "x", k=4)


def test_what_is_remembered_survives_and_can_be_written_down():
    """A core that is given the rows of another goes on where that was."""
    texts = (EXAMPLE, ALL, WATCH, _rule("  throttle: {once_after: 30s}\n"))
    for text in texts:
        whole, halves = Core(text), [Core(text)]
        for at in range(0, 700, 35):
            data = {
                "id": at % 2,
                "ok": True,
                "n": at,
                "fun": "service.status",
                "return": 0,
                "jid": 1,
            }
            rows = halves[-1].memory.take_changes()
            kept = {row[:3]: row for half in halves for row in getattr(half, "rows", ())}
            kept |= {row[:3]: row for row in rows}
            halves[-1].rows = list(kept.values())
            memory = Memory()
            memory.load(row for row in kept.values() if row[3] is not None)
            again = Core(text, memory=memory)
            again.events.update(whole.events)
            halves.append(again)
            for tag in ("salt/job/1/ret/a", "a", "b", "beat", "x"):
                one = [(o.acts, o.reason) for o in whole.feed(at, tag, **data)]
                assert [(o.acts, o.reason) for o in again.feed(at, tag, **data)] == one


def test_a_changed_policy_forgets_and_others_stay():
    """What a policy remembers belongs to its own settings, not to the rest of the rule."""
    text = _rule("  throttle: {once_within: 1h}\n")
    core = Core(text)
    core.feed(0, "x")
    core.use(text.replace("do: [", "priority: 3\n  do: ["), at=1)
    assert not core.acts(2, "x")
    core.use(text.replace("1h", "2h"), at=3)
    assert core.acts(4, "x")
    core.use(text, at=5)
    assert core.acts(6, "x")


def test_time_never_runs_back_nor_ahead_of_the_clock():
    """An event with an old or a forged stamp counts at the time it is read."""
    core = Core(_rule("  throttle: {once_within: 10s}\n"))
    assert core.acts(100, "x")
    assert not core.acts(105, "x", _stamp=iso(-5000))
    assert not core.acts(106, "x", _stamp="2099-01-01T00:00:00+00:00")
    assert not core.acts(107, "x", _stamp="nonsense")
    assert core.acts(110, "x")


def test_a_rule_that_cannot_be_worked_out_harms_no_other():
    """The error names the place; the next rule is decided as always."""
    core = Core(
        "bad:\n  on: x\n  throttle: {once_within: 1s}\n  do: [{event: '{{ data.none }}'}]\n"
        "worse:\n  on: x\n  count: {at_least: 1, within: 1s, by: 1 / data.zero}\n"
        "  do: [{event: e}]\ngood:\n  on: x\n  do: [{event: e}]\n"
    )
    bad, worse, good = core.feed(0, "x", zero=0)
    assert bad.error == "r.yaml:4: bad.do[0].event: data.none is undefined, in '{{ data.none }}'"
    assert "ZeroDivisionError" in worse.error
    assert good.acts


def test_the_core_says_announcements_with_their_rule():
    """What tests rules offline can show them."""
    [found] = Core("r:\n  every: 5s\n" + DO).advance(5)
    assert isinstance(found, Announcement)
    assert (found.rule.name, found.data["rule"]) == ("r", "r")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("r:\n" + DO, "r.yaml:1: r: the key 'on' is missing: or one of all_of, any_of, none_of, every, cron"),
        (_rule("  cron: 1 2\n"), "no cron expression"),
        (_rule("  cron: 1 2 * * *\n  timezone: Europe/Berln\n"), "unknown time zone 'Europe/Berln'"),
        (_rule("  every: 5s\n  cron: 1 2 * * *\n"), "one of 'every' and 'cron', not both"),
        (_rule("  timezone: UTC\n"), "'timezone' belongs to 'cron'"),
        (_rule("  within: 5s\n"), "'within' belongs to all_of"),
        (_rule("  none_of: y\n"), "the key 'within' is missing"),
        (_rule("  none_of: y\n  within: 5s\n  every: 5s\n"), "a schedule cannot stand beside"),
        (_rule("  none_of: y\n  within: 5s\n  by: data.id\n", on=""), "none_of alone has no key"),
        (_rule("  none_of: [{on: y, when: data.a}]\n  within: 5s\n", on=""), "a 'when' in none_of"),
        (_rule("  else: [{event: e}]\n"), "'else' is for when 'when' is false"),
        (_rule("  when: a\n  none_of: y\n  within: 5s\n"), "unknown name 'a'"),
        (_rule("  when: data.a\n  none_of: y\n  within: 5s\n  else: [{event: e}]\n"), "'else' cannot stand"),
        (_rule("  mode: single\n  max: 3\n"), "'max' belongs to"),
        (_rule("  match: regex\n", on="  on: '('\n"), "is no regular expression"),
        (_rule("  expires: soon\n"), "an age such as 10m, or a moment"),
        (_rule("  throttle: {rate: 0/s}\n"), "a rate is such as 10/m"),
        (_rule("  throttle: {rate: 5/m, once_within: 5s}\n"), "exactly one of once_within"),
        (_rule("  count: {at_least: 0, within: 5s}\n"), "a number of at least 1"),
        (_rule("  count: {at_lest: 2, within: 5s}\n"), "did you mean 'at_least'?"),
        (_rule("  count: {at_least: 2, within: 5s, by: item}\n"), "'item' is not known here"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text, error):
    """In one line, when the file is read."""
    assert any(error in found for found in errors_of(text)), errors_of(text)


def test_all_unknown_keys_of_a_rule_are_said_at_once():
    """Nobody wants to fix a file one key at a time."""
    text = "r:\n  on: x\n  whn: data.a\n  throtle: {once_within: 1s}\n  do: [{event: e, dta: {}}]\n"
    assert errors_of(text) == [
        "r.yaml:3: r.whn: unknown key 'whn': did you mean 'when'?",
        "r.yaml:4: r.throtle: unknown key 'throtle': did you mean 'throttle'?",
        "r.yaml:5: r.do[0].dta: unknown key 'dta': did you mean 'data'?",
    ]


def test_durations_are_shown_as_people_write_them():
    """Without needless precision."""
    assert [shown(s) for s in (0, 0.25, 1.26, 12.4, 754.3)] == ["0s", "250ms", "1s300ms", "12s", "12m34s"]  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [
        "all_of: [{on: x, by: data.id}, {on: y, by: data.id}]\n  within: 1h\n",
        "on: x\n  none_of: y\n  within: 1h\n  by: data.id\n",
    ],
)
def test_windows_that_ended_early_leave_no_timers_behind(policy, monkeypatch):
    """Else an hour's worth of them would fill the memory; what still waits has its own."""
    monkeypatch.setattr(deciding, "_LEAST_TIMERS", 50)
    core = Core(f"r:\n  {policy}{DO}")
    core.feed(0, "x", id="waits")
    for number in range(1_000):
        core.feed(number, "x", id=number)
        core.feed(number, "y", id=number)
        assert len(core.decider._timers) <= 51
    found = core.advance(3600)
    if "none_of" in policy:
        assert [outcome.window["key"] for outcome in found] == ["waits"]
    assert not any("waits" in dict(table.items()) for table in core.memory._tables.values())
