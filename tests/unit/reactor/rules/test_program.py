"""Programs of actions: conditions, loops, retries and failures, with replies of the test's own."""

from __future__ import annotations

import pytest

from bus.record import Event
from reactor.rules.program import MAX_ITEMS, Pause, Reply, Retry
from tests.unit.reactor.rules.rule_tools import built, errors_of


def _program(actions, data, more=""):
    rules, errors = built(f"r:\n  on: x\n{more}  do:\n{actions}")
    assert errors == []
    return rules[0].plan(Event("x", data, 1, "b"), {}).program


def _play(actions, data=None, replies=None, more=""):
    """Run a program; return what was asked for, in order, and how it ended."""
    replies = replies or {}
    asked = []
    run = _program(actions, data or {}, more).run("seed")
    try:
        request = next(run)
        while True:
            if isinstance(request, Pause):
                asked.append(("pause", round(request.seconds, 3), request.why))
                request = run.send(Reply())
                continue
            asked.append((request.ident, request.function, dict(request.data), request.attempt))
            answer = replies.get(request.function, Reply({}))
            request = run.send(answer.pop(0) if isinstance(answer, list) else answer)
    except StopIteration as end:
        return asked, end.value


def _idents(asked):
    return [item[0] for item in asked]


def test_later_actions_see_what_earlier_ones_gave():
    """By id and by number, with whether it was done."""
    asked, error = _play(
        "    - {runner: a.b, id: first}\n"
        "    - event: e\n"
        "      data: {x: '{{ results.first.jid }}', ok: '{{ results[0].ok }}'}\n",
        replies={"a.b": Reply({"jid": 7})},
    )
    assert error == ""
    assert asked[1] == ("do[1]", "e", {"x": 7, "ok": True}, 1)


def test_an_action_may_have_a_condition():
    """One that is left out has a result that says so."""
    asked, error = _play(
        "    - {event: a, id: a, when: data.yes}\n    - {event: b, when: results.a.skipped}\n"
        "    - {event: c, when: not results.a.skipped}\n",
        {"yes": False},
    )
    assert (_idents(asked), error) == (["do[1]"], "")


def test_for_each_over_a_list_and_a_mapping():
    """For one action, and for all; items keep their numbers."""
    asked, _ = _play(
        "    - event: '{{ item }}-{{ index }}'\n      for_each: data.names\n"
        "    - event: '{{ item.key }}={{ item.value }}'\n      for_each: '{{ data.map }}'\n"
        "    - {event: x, for_each: [1, 2], id: all}\n"
        "    - {event: end, data: {n: '{{ results.all[\"items\"] | length }}'}}\n",
        {"names": ["a", "b"], "map": {"k": 1}},
    )
    assert [(ident, function) for ident, function, *_ in asked] == [
        ("do[0][0]", "a-0"),
        ("do[0][1]", "b-1"),
        ("do[1][0]", "k=1"),
        ("do[2][0]", "x"),
        ("do[2][1]", "x"),
        ("do[3]", "end"),
    ]
    assert asked[-1][2] == {"n": 2}


def test_for_each_of_a_rule_keeps_its_items_apart():
    """One that fails does not keep the others from their actions; the reaction has failed."""
    asked, error = _play(
        "    - event: 'go-{{ item }}'\n    - event: 'end-{{ item }}'\n",
        {"names": ["a", "b"]},
        {"go-a": Reply(error="no")},
        more="  for_each: data.names\n",
    )
    assert [function for _, function, *_ in asked] == ["go-a", "go-b", "end-b"]
    assert _idents(asked) == ["for_each[0].do[0]", "for_each[1].do[0]", "for_each[1].do[1]"]
    assert error == "no"


@pytest.mark.parametrize(
    ("value", "error"),
    [("text", "wants a list or a mapping"), (list(range(MAX_ITEMS + 1)), "takes at most 1000")],
)
def test_for_each_of_what_is_no_list_is_an_error(value, error):
    """Wherever it stands; it names its place."""
    for actions, more in (
        ("    - {event: e, for_each: data.names}\n", ""),
        ("    - {event: e}\n", "  for_each: data.names\n"),
    ):
        asked, found = _play(actions, {"names": value}, more=more)
        assert asked == []
        assert error in found


def test_a_failed_action_is_tried_again_with_growing_pauses():
    """`times` more, doubling up to `max`; the error of the last counts."""
    asked, error = _play(
        "    - {event: e, retry: {times: 3, backoff: 2s, max: 5s, jitter: 0}}\n",
        replies={"e": [Reply(error="1"), Reply(error="2"), Reply(error="3"), Reply(error="4")]},
    )
    assert asked == [
        ("do[0]", "e", {}, 1),
        ("pause", 2.0, "1"),
        ("do[0]", "e", {}, 2),
        ("pause", 4.0, "2"),
        ("do[0]", "e", {}, 3),
        ("pause", 5.0, "3"),
        ("do[0]", "e", {}, 4),
    ]
    assert error == "4"


def test_a_retry_that_succeeds_goes_on():
    """Nothing of the failure is left."""
    asked, error = _play(
        "    - {event: e, retry: 1}\n    - {event: f}\n",
        replies={"e": [Reply(error="1"), Reply({})]},
    )
    assert (_idents(asked), error) == (["do[0]", "pause", "do[0]", "do[1]"], "")


def test_jitter_is_foretold_by_the_reaction():
    """Reactions differ, within the bounds; the same one has the same pauses."""
    retry = Retry(times=3, backoff=10, max=100, jitter=0.5)
    pauses = {retry.pause(1, f"seed{number}") for number in range(100)}
    assert len(pauses) == 100
    assert min(pauses) >= 5
    assert max(pauses) <= 15
    assert retry.pause(2, "a") == retry.pause(2, "a")


@pytest.mark.parametrize(
    ("on_failure", "done", "failed"),
    [
        ("stop", ["do[0]"], "no"),
        ("continue", ["do[0]", "do[1]"], ""),
        ("[{event: told, data: {e: '{{ failure.error }}'}}]", ["do[0]", "do[0].on_failure[0]"], "no"),
        ("{do: [{event: told}], then: continue}", ["do[0]", "do[0].on_failure.do[0]", "do[1]"], ""),
        ("{then: continue}", ["do[0]", "do[1]"], ""),
    ],
)  # fmt: skip
def test_what_happens_when_an_action_fails(on_failure, done, failed):
    """The reaction stops and has failed, goes on, or does what is said."""
    asked, error = _play(
        f"    - {{event: e, retry: 0, on_failure: {on_failure}}}\n    - event: f\n",
        replies={"e": Reply(error="no")},
    )
    assert (_idents(asked), error) == (done, failed)
    for _, function, data, _ in asked:
        if function == "told" and data:
            assert data == {"e": "no"}


def test_failures_of_items_are_told_apart():
    """Each item's actions on failure have names of their own, by which they are remembered."""
    asked, error = _play(
        "    - event: e\n      for_each: [1, 2]\n"
        "      on_failure: {do: [{event: t, data: {n: '{{ item }}', a: '{{ failure.action }}'}}],"
        " then: continue}\n",
        replies={"e": Reply(error="no")},
    )
    assert _idents(asked) == [
        "do[0][0]", "do[0][0].on_failure.do[0]", "do[0][1]", "do[0][1].on_failure.do[0]",
    ]  # fmt: skip
    assert [item[2] for item in asked if item[1] == "t"] == [
        {"n": 1, "a": "event"},
        {"n": 2, "a": "event"},
    ]
    assert error == ""


def test_a_value_that_cannot_be_worked_out_fails_its_action():
    """One that needs results fails when its turn comes; the action before it was done."""
    asked, error = _play("    - event: a\n    - {event: b, data: {x: '{{ results[0].none }}'}}\n")
    assert _idents(asked) == ["do[0]"]
    assert "results[0].none is undefined" in error


def test_other_values_are_worked_out_before_anything_is_done():
    """So that a mistake in the second action does not leave half of them done."""
    rules, _ = built("r:\n  on: x\n  do: [{event: a, retry: 1}, {event: '{{ data.no }}'}]\n")
    with pytest.raises(Exception, match=r"data\.no is undefined"):
        rules[0].plan(Event("x", {}, 1, "b"), {})


def test_known_calls_stand_in_the_plan():
    """What explains a rule can show them before they run."""
    rules, _ = built("r:\n  on: x\n  do: [{event: a, retry: 1}, {event: '{{ results[0].x }}'}]\n")
    plan = rules[0].plan(Event("x", {}, 1, "b"), {})
    assert [call.function for call in plan.calls] == ["a"]
    assert plan.acts


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("{event: e, data: {x: '{{ item }}'}}", "'item' is not known here"),
        ("{event: e, data: {x: '{{ failure.error }}'}}", "'failure' is not known here"),
        ("{event: e, data: {x: '{{ vars.a }}'}}", "'vars' is not known here"),
        ("{event: e, id: a b}", "an id has 1 to 100 letters"),
        ("{event: e, on_failure: ignore}", "unknown value"),
        ("{event: e, retry: {tims: 3}}", "did you mean 'times'?"),
        ("{exec: ls -l}", "with 'shell: true' exec is one text"),
        ("{exec: [ls], shell: true}", "with 'shell: true' exec is one text"),
        ("{exec: 'ls {{ data.a }}', shell: true}", "event data would become commands"),
        ("{exec: ['{{ data.a }}']}", "the program to run cannot be a template"),
        ("{notify: '{{ data.a }}', text: x}", "whom to notify cannot be a template"),
        ("{http: 'http://x/', method: PSOT}", "did you mean 'POST'?"),
        ("{log: x, level: warn}", "did you mean 'warning'?"),
    ],
)
def test_what_cannot_be_meant_is_refused(action, error):
    """In one line, when the file is read."""
    found = errors_of(f"r:\n  on: x\n  do:\n    - {action}\n")
    assert any(error in text for text in found), found


def test_two_actions_of_one_id_are_refused():
    """A result has one place."""
    [error] = errors_of("r:\n  on: x\n  do: [{event: a, id: i}, {event: b, id: i}]\n")
    assert "the id 'i' is there twice" in error
