"""Each thing that a rule file can have wrong, as a person reads it."""

import pytest

from bus.yamlfile import load
from reactor.rules.validation import Validator, load_schema


@pytest.fixture(scope="module")
def validator():
    """One validator for all: making it reads the schema."""
    return Validator()


def _errors(validator, text):
    value, lines = load(text, "r.yaml")
    return [str(error) for error in validator.check(value, "r.yaml", lines)]


def _rule(do="[{event: x}]", more=""):
    return f"r:\n  on: x\n  do: {do}\n{more}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("5", "r.yaml:1: a mapping is wanted here, not 5"),
        ("- a", "r.yaml:1: a file of rules is a mapping, NAME: {on: ..., do: ...}, not a list"),
        (
            "on: x\ndo: []",
            "r.yaml:1: on: stands outside of a rule: write a name above, NAME:, and indent the rest",
        ),
        (
            "x: 1\nreactor: [{a: b}]",
            "r.yaml:2: reactor: a reactor map stands alone in its file: 'reactor' is its only key",
        ),
        (_rule(more="  if: a"), "r.yaml:4: r.if: unknown key 'if': did you mean 'when'?"),
        (
            _rule("[{local: a.b, target: x}]"),
            "r.yaml:3: r.do[0].target: unknown key 'target': did you mean 'tgt'?",
        ),
        ("r: 5", "r.yaml:1: r: a mapping is wanted here, not 5"),
        ("r: {on: x}", "r.yaml:1: r: the key 'do' is missing"),
        (_rule(more="  whn: a"), "r.yaml:4: r.whn: unknown key 'whn': did you mean 'when'?"),
        (
            _rule(more="  quota: {once_within: 5m}"),
            (
                "r.yaml:4: r.quota: unknown key 'quota': "
                "there are all_of, any_of, by, count, cron, dedupe, description, do, else, enabled, every, expires, for_each, match, max, mode, none_of, on, priority, throttle, timezone, vars, when, within"
            ),
        ),
        (_rule(more="  when: ''"), "r.yaml:4: r.when: an empty text"),
        (_rule(more="  when: []"), "r.yaml:4: r.when: an empty list: give at least one item"),
        (_rule(more="  when: [a, 5]"), "r.yaml:4: r.when[1]: text is wanted here, not 5"),
        (
            _rule(more="  enabled: 'x'"),
            'r.yaml:4: r.enabled: true or false is wanted here, not "x"',
        ),
        (
            _rule(more="  priority: 9999999999"),
            "r.yaml:4: r.priority: a number of at most 1000000",
        ),
        (
            _rule(more="  priority: -9999999999"),
            "r.yaml:4: r.priority: a number of at least -1000000",
        ),
        (
            _rule("[{}]"),
            "r.yaml:3: r.do[0]: an action has exactly one of local, runner, wheel, caller, event, http, exec, log, notify",
        ),
        (
            _rule("[{locl: a.b, tgt: x}]"),
            "r.yaml:3: r.do[0].locl: unknown key 'locl': did you mean 'local'?",
        ),
        (
            _rule("[{local: a.b, event: x, tgt: x}]"),
            "r.yaml:3: r.do[0]: an action has exactly one of local, runner, wheel, caller, event, http, exec, log, notify",
        ),
        (_rule("[{local: a.b}]"), "r.yaml:3: r.do[0]: the key 'tgt' is missing"),
        (
            _rule("[{local: a.b, tgt: x, tgt_type: globb}]"),
            "r.yaml:3: r.do[0].tgt_type: unknown value \"globb\": did you mean 'glob'?",
        ),
        (
            _rule("[{local: a.b, tgt: x, tgt_type: [1]}]"),
            (
                "r.yaml:3: r.do[0].tgt_type: unknown value a list: use one of glob, pcre, list, "
                "grain, grain_pcre, nodegroup, compound, ipcidr"
            ),
        ),
        (
            _rule("[{local: '{{ tag }}', tgt: x}]"),
            (
                "r.yaml:3: r.do[0].local: a function's name is such as service.restart, and never "
                'a template, not "{{ tag }}"'
            ),
        ),
        (
            _rule("[{runner: a.b, args: x}]"),
            'r.yaml:3: r.do[0].args: args is a list, or one {{ }} that gives a list, not "x"',
        ),
        (
            _rule("[{event: x, data: [1]}]"),
            (
                "r.yaml:3: r.do[0].data: this is a mapping, or one {{ }} that gives a mapping, "
                "not a list"
            ),
        ),
        (
            _rule("[{local: a.b, tgt: x, timeout: 0s}]"),
            (
                "r.yaml:3: r.do[0].timeout: a time is a number of seconds above 0, or such as "
                '500ms, 30s, 5m, 1h30m, 1d, not "0s"'
            ),
        ),
        ("a: {1: 2}", "r.yaml:1: a[1]: the key 1 is no text: put it in quotes"),
        (
            "r:\n  on: x\n  do:\n    - event: y\n      data: {a: !!set {x}}",
            "r.yaml:5: r.do[0].data.a: a value of the type set cannot stand here",
        ),
        (
            "a b: {on: x, do: [{event: x}]}",
            (
                "r.yaml:1: a b: a rule's name has 1 to 100 letters, digits and _ . - "
                "and begins with a letter, digit or _"
            ),
        ),
    ],
)
def test_each_mistake_is_one_clear_line(validator, text, error):
    """File, line, path within the file, and what to do."""
    assert _errors(validator, text) == [error]


def test_long_values_are_shortened(validator):
    """An error stays one line that fits a terminal."""
    [error] = _errors(validator, f"r: {'x' * 500}")
    assert error.endswith("...")
    assert len(error) < 150


def test_errors_come_by_line_and_not_without_end(validator):
    """Twenty at most, the first first."""
    text = "\n".join(f"r{number}: 5" for number in range(50))
    errors = _errors(validator, text)
    assert len(errors) == 20
    assert errors[0].startswith("r.yaml:1:")


@pytest.mark.parametrize(
    "do",
    [
        "[{local: a.b, tgt: [a], tgt_type: list, args: [1], kwargs: {a: 1}, timeout: 5m}]",
        "[{local: a.b, tgt: '{{ data.id }}', timeout: 1.5}]",
        "[{runner: a.b.c, args: '{{ data.l }}', kwargs: '{{ data.k }}'}, {wheel: key.list_all}]",
        "[{event: 'a/{{ tag }}', data: {a: [1, null, .inf, 2.5]}}]",
    ],
)
def test_what_is_right_has_no_errors(validator, do):
    """Every form of an action that the reference describes."""
    assert _errors(validator, _rule(do)) == []


def test_the_schema_ships():
    """The file is beside the code, and is a JSON Schema."""
    assert load_schema()["$schema"].startswith("https://json-schema.org/")
