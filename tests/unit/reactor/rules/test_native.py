"""Native rules: typed values, conditions, and data that stays data."""

import pytest

from bus.record import Event
from bus.yamlfile import load
from reactor.errors import RuleError
from reactor.rules.model import Source
from reactor.rules.native import Builder
from reactor.rules.validation import Validator
from tests.unit.reactor.rules.rule_tools import built, errors_of


def _build(text):
    value, lines = load(text, "r.yaml")
    assert Validator().check(value, "r.yaml", lines) == []
    return Builder().build(value, "r.yaml", lines)


def _rule(text):
    rules, errors = _build(text)
    assert errors == []
    [rule] = rules
    return rule


def _plan(text, data, tag="app/x"):
    return _rule(text).plan(Event(tag, data, 7, "bus"), {})


RESTART = """
restart:
  description: Restart what is down
  on: [salt/job/*/ret/*, app/*]
  priority: 5
  when: data.fun == "service.status" and not data.return
  do:
    - local: service.restart
      tgt: "{{ data.id }}"
      args: [nginx, "{{ data.n }}"]
      kwargs: {wait: "{{ data.n + 1 }}", deep: [{a: "x-{{ data.n }}"}]}
      timeout: 2m
    - event: ops/{{ data.id }}/restarted
      data: {minion: "{{ data.id }}", all: "{{ payload }}", of: "{{ event.seq }}-{{ event.id }}"}
    - runner: state.event
      args: "{{ data.list }}"
    - wheel: key.list_all
"""
GOOD = {"fun": "service.status", "return": False, "id": "web1", "n": 3, "list": [1, 2]}


def test_a_rule_knows_what_it_is():
    """Its head, and where it stands."""
    rule = _rule(RESTART)
    assert (rule.name, rule.style, rule.priority, rule.enabled) == ("restart", "native", 5, True)
    assert rule.description == "Restart what is down"
    assert rule.patterns == ("salt/job/*/ret/*", "app/*")
    assert rule.source == Source("r.yaml", 2)


def test_calls_have_typed_values():
    """One expression keeps its type; text around it makes text."""
    local, event, runner, wheel = _plan(RESTART, GOOD).calls
    assert (local.kind, local.function, local.target) == ("local", "service.restart", "web1")
    assert local.target_type == "glob"
    assert local.args == ("nginx", 3)
    assert local.kwargs == {"wait": 4, "deep": [{"a": "x-3"}]}
    assert local.options == {"timeout": 120.0}
    assert (local.ident, local.source) == ("do[0]", Source("r.yaml", 8))
    assert event.function == "ops/web1/restarted"
    assert event.data == {"minion": "web1", "all": GOOD, "of": "7-bus-7"}
    assert runner.args == (1, 2)
    assert (wheel.function, wheel.args, wheel.kwargs) == ("key.list_all", (), {})


@pytest.mark.parametrize(
    ("data", "skipped"),
    [
        (
            {"fun": "x"},
            "when: data.fun == 'y' and data.n > 1 is false (data.fun is 'x', data.n is 1)",
        ),
        ({}, "when: data.fun == 'y' and data.n > 1 is false (data.fun is undefined)"),
        (
            {"fun": "y"},
            "when: data.fun == 'y' and data.n > 1 is false (data.n is undefined, data.fun is 'y')",
        ),
        (
            {"fun": "y", "n": 1},
            "when: data.fun == 'y' and data.n > 1 is false (data.fun is 'y', data.n is 1)",
        ),
    ],
)
def test_a_condition_that_fails_says_why(data, skipped):
    """What is undefined counts as false and is named."""
    text = "r: {on: x, when: \"data.fun == 'y' and data.n > 1\", do: [{event: x}]}"
    data = {"n": 1, **data} if data.get("fun") == "x" else data
    plan = _plan(text, data)
    assert (plan.calls, str(plan.skipped)) == ((), skipped)


def test_all_conditions_must_hold():
    """A list of conditions is an 'and'."""
    text = "r: {on: x, when: [data.a, not data.b], do: [{event: x}]}"
    assert _plan(text, {"a": 1}).calls
    assert str(_plan(text, {"a": 1, "b": 1}).skipped) == "when: not data.b is false (data.b is 1)"


def test_a_condition_that_cannot_be_worked_out():
    """A comparison of text and number is an error with its place."""
    text = "r:\n  on: x\n  when:\n    - tag\n    - data.a > 1\n  do: [{event: x}]"
    with pytest.raises(RuleError) as caught:
        _plan(text, {"a": "x"})
    assert (caught.value.line, caught.value.path) == (5, "r.when[1]")
    assert "TypeError" in str(caught.value)


@pytest.mark.parametrize(
    ("do", "data", "error"),
    [
        (
            "{event: x, data: {a: [1, '{{ data.id }}']}}",
            {},
            "r.do[0].data.a[1]: data.id is undefined, in '{{ data.id }}'",
        ),
        (
            "{event: x, data: {a: '{{ [data.id] }}'}}",
            {},
            "r.do[0].data.a: data.id is undefined, in '{{ [data.id] }}'",
        ),
        (
            "{event: x, data: {a: 'x {{ data.a.b }}'}}",
            {"a": {}},
            "r.do[0].data.a: data.a.b is undefined, in 'x {{ data.a.b }}'",
        ),
        (
            "{event: x, data: {a: '{{ data.n|map(\"string\") }}'}}",
            {"n": [1]},
            (
                "r.do[0].data.a: TypeError: this gives a generator, which is no data: "
                "add '| list'?, in '{{ data.n|map(\"string\") }}'"
            ),
        ),
        (
            "{event: x, data: {a: '{{ 1 / data.n }}'}}",
            {"n": 0},
            "r.do[0].data.a: ZeroDivisionError: division by zero, in '{{ 1 / data.n }}'",
        ),
        (
            "{event: '{{ data.t }}'}",
            {"t": "a\nb"},
            (
                "r.do[0].event: the event tag 'a\\nb' has the control character '\\n' "
                "at position 1: remove it"
            ),
        ),
        (
            "{event: '{{ data.t }}'}",
            {"t": {}},
            "r.do[0].event: an event tag is text, not dict: are tag and data the other way round?",
        ),
        (
            "{event: x, data: '{{ data.t }}'}",
            {"t": {1: 2}},
            "r.do[0].data: a mapping with texts as keys is wanted here, and this gave dict",
        ),
        (
            "{runner: a.b, args: '{{ data.t }}'}",
            {"t": "abc"},
            "r.do[0].args: a list is wanted here, and this gave str",
        ),
        (
            "{runner: a.b, kwargs: '{{ data.t }}'}",
            {"t": []},
            "r.do[0].kwargs: a mapping with texts as keys is wanted here, and this gave list",
        ),
        (
            "{local: a.b, tgt: '{{ data.t }}'}",
            {"t": {}},
            "r.do[0].tgt: text or a list of texts is wanted here, and this gave dict",
        ),
        (
            "{local: a.b, tgt: '{{ data.t }}'}",
            {"t": []},
            "r.do[0].tgt: text or a list of texts is wanted here, and this gave list",
        ),
    ],
)
def test_values_that_cannot_be_worked_out(do, data, error):
    """File, line, path and the expression."""
    with pytest.raises(RuleError) as caught:
        _plan(f"r:\n  on: x\n  do:\n    - {do}", data)
    assert str(caught.value) == f"r.yaml:4: {error}"


@pytest.mark.parametrize(
    "hostile",
    ["{{ 7 * 7 }}", "{% raw %}", "a: b\n- c", "!!python/object:x", "*", "no", "10_0_0_7", "[1, 2]"],
)
def test_data_is_never_structure(hostile):
    """What an event carries arrives as it was, whatever it looks like."""
    text = "r: {on: x, do: [{runner: a.b, args: ['{{ data.v }}'], kwargs: {k: '-{{ data.v }}'}}]}"
    [call] = _plan(text, {"v": hostile}).calls
    assert call.args == (hostile,)
    assert call.kwargs == {"k": f"-{hostile}"}


def test_plain_data_is_made_of_what_expressions_give():
    """Tuples, ranges, marked-up text and nested values become plain lists, texts and dicts."""
    text = """
r:
  on: x
  do:
    - event: x
      data:
        a: "{{ (1, range(2), {'k': [none, true, 1.5]}) }}"
        b: "{{ data.t|escape }}"
        c: "{{ data.raw }}"
"""
    [call] = _plan(text, {"t": "<", "raw": b"x"}).calls
    assert call.data == {"a": [1, [0, 1], {"k": [None, True, 1.5]}], "b": "&lt;", "c": b"x"}
    assert type(call.data["b"]) is str


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("{on: x, when: '{{ tag }}', do: [{event: x}]}", "r.when: write the expression by itself"),
        ("{on: x, when: [tag, '('], do: [{event: x}]}", "r.when[1]: "),
        ("{on: x, do: [{event: 'x {{ dat }}'}]}", "r.do[0].event: unknown name 'dat'"),
        ("{on: x, do: [{event: x, data: {a: '{% if 1 %}'}}]}", "r.do[0].data.a: {% %}"),
        ("{on: x, do: [{event: x, data: {'{{ a }}': 1}}]}", "r.do[0].data.{{ a }}: a key cannot"),
    ],
)
def test_what_is_refused_when_it_is_read(rule, error):
    """Syntax is checked at load, with the place."""
    rules, [found] = _build(f"r: {rule}")
    assert rules == []
    assert str(found).startswith(f"r.yaml:1: {error}")


def test_constants_are_not_worked_out_again():
    """Without a template the same value is given each time."""
    rule = _rule("r: {on: x, do: [{event: x, data: {a: [1, {b: 2}]}}]}")
    [first] = rule.plan(Event("x", {}, 1), {}).calls
    [second] = rule.plan(Event("x", {}, 2), {}).calls
    assert first.data is second.data == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("time", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("1h", 3600), ("2d", 172_800), (9, 9)]
)
def test_times_are_seconds(time, seconds):
    """A number with its unit, or seconds."""
    [call] = _plan(f"r: {{on: x, do: [{{local: a.b, tgt: x, timeout: {time}}}]}}", {}).calls
    assert call.options == {"timeout": seconds}


@pytest.mark.parametrize(
    ("keys", "wait"),
    [
        ("wait: true", 62.0),
        ("wait: true, timeout: 5m", 302.0),
        ("wait: 30s, timeout: 5m", 30.0),
        ("wait: 1.5", 1.5),
        ("wait: false", None),
        ("timeout: 5m", None),
        ("retry: 2", 62.0),
        ("on_failure: continue, timeout: 5m", 302.0),
        ("retry: 2, wait: 30s", 30.0),
        ("retry: 2, wait: false", None),
    ],
)
def test_how_long_a_job_is_waited_for(keys, wait):
    """As long as the job, and a moment more for it to say so; or as long as is said."""
    rules, errors = built(f"r:\n  on: x\n  do: [{{local: test.ping, tgt: a, {keys}}}]\n")
    assert errors == []
    [call] = rules[0].plan(Event("x", {}, 1, "b"), {}).calls
    assert call.options.get("wait") == wait


@pytest.mark.parametrize("wait", ["0", "soon", "'{{ data.x }}'", "-1"])
def test_a_wait_that_is_none_is_refused(wait):
    """With what may stand there."""
    [error] = errors_of(f"r:\n  on: x\n  do: [{{local: test.ping, tgt: a, wait: {wait}}}]\n")
    assert error.startswith("r.yaml:3: r.do[0].wait: wait is true or false, or a time above 0")
