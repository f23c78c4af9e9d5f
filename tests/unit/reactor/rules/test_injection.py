"""Event data is data: whatever stands in it, a native rule's calls keep their form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.record import Event
from reactor.rules.model import Call
from reactor.rules.program import Reply
from reactor.rules.snapshot import Snapshot
from tests.unit.reactor.rules.rule_tools import built

EVERYWHERE = """
r:
  on: '*'
  vars:
    v: "{{ data.v }}"
    both: "{{ data.v }}-{{ payload.v }}"
  by: data.v
  do:
    - local: test.arg
      tgt: "{{ data.v }}"
      tgt_type: list
      args: ["{{ data.v }}", "a {{ data.v }}", {deep: ["{{ vars.v }}", "{{ vars.both }}"]}]
      kwargs: {k: "{{ data.v }}", t: "{{ tag }}", e: "{{ event.tag }}"}
    - runner: test.arg
      args: ["{{ data.v }}", "{{ results[0].jid }}"]
    - wheel: key.accept
      kwargs: {match: "{{ data.v }}"}
    - event: "ops/{{ data.n }}"
      data: {v: "{{ data.v }}", inner: {w: "x{{ data.v }}x"}, list: ["{{ data.v }}"]}
    - http: "http://127.0.0.1/{{ data.n }}"
      headers: {X-Value: "{{ data.v | urlencode }}"}
      params: {q: "{{ data.v }}"}
      json: {v: "{{ data.v }}"}
    - exec: [echo, "{{ data.v }}", "--v={{ data.v }}"]
      stdin: "{{ data.v }}"
      env: {V: "{{ data.v }}"}
    - exec: echo "$V"
      shell: true
      env: {V: "{{ data.v }}"}
    - log: "{{ data.v }} and {{ tag }}"
    - notify: ops
      text: "{{ data.v }}"
      subject: "about {{ data.v }}"
    - event: each
      for_each: data.list
      data: {item: "{{ item }}", index: "{{ index }}"}
    - event: last
      when: data.v == vars.v and data.v in data.list
      data: {v: "{{ data.v if data.v else data.v }}"}
"""
HARMLESS = "value"
HOSTILE = [
    "a: b",
    "- x\n- y",
    "{a: 1}",
    "[1, 2]",
    "{{ 7 * 7 }}",
    "{% for x in range(9) %}{{ x }}{% endfor %}",
    "{# gone #}",
    "}}{{ ''.__class__ }}{{",
    "{{ data.v }}",
    "\nrestart:\n  runner.cmd.run: []\n",
    "'; rm -rf /; echo '",
    '"\n  - exec: [reboot]\n',
    "$(reboot) `reboot` $HOME",
    "&a *a !!python/object/apply:os.system [x]",
    "!!binary aGk=",
    "null",
    "~",
    "yes",
    "1_000",
    "0x1f",
    "2026-01-01",
    "# comment",
    "| literal",
    "<<: *x",
    "\u2028\u0085",
    "%s%n{0.__class__}",
]


def _rules():
    rules, errors = built(EVERYWHERE)
    assert errors == []
    return rules[0]


RULE = _rules()


def _calls(value, tag="x/y"):
    data = {"v": value, "n": 1, "list": [value, value]}
    event = Event(tag, {**data, "more": {str(value): value}}, 1, "b")
    assert Snapshot([RULE]).match(tag)
    plan = RULE.plan(event, {})
    calls, run = [], plan.program.run("seed")
    request = next(run)
    while isinstance(request, Call):
        calls.append(request)
        request = _send(run, Reply({"jid": value}))
    assert request == ""
    return calls


def _send(run, reply):
    """Return what a program wants next, or how it ended."""
    try:
        return run.send(reply)
    except StopIteration as end:
        return end.value


def _form(value, given):
    """Return a value with ``given`` taken out: what is left is what the file says."""
    if isinstance(value, str):
        return value.replace(given, "@") if isinstance(given, str) and given else value
    if isinstance(value, dict):
        return {key: _form(item, given) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_form(item, given) for item in value]
    return value


def _head(call: Call):
    # What a line of the log says stands where other calls have their function.
    return call.kind, "" if call.kind == "log" else call.function, call.target_type


def _forms(calls: list[Call], given):
    parts = ("kind", "function", "args", "kwargs", "target", "target_type", "data", "options")
    return [{part: _form(getattr(call, part), given) for part in parts} for call in calls]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_yaml_and_jinja_in_every_field_are_text(hostile):
    """The calls are those of a harmless event, with the text where the file puts it."""
    quoted = {"X-Value"}
    harmless, found = _forms(_calls(HARMLESS), HARMLESS), _forms(_calls(hostile), hostile)
    for form in (*harmless, *found):
        for name in quoted & set(form["options"].get("headers", {})):
            form["options"]["headers"][name] = "@"
    assert found == harmless


@given(st.text(min_size=1, max_size=30))
def test_so_is_any_text(text):
    """Kinds, functions, targets and keys are the file's."""
    calls, plain = _calls(text), _calls(HARMLESS)
    assert [_head(call) for call in calls] == [_head(call) for call in plain]
    for call, other in zip(calls, plain, strict=True):
        for part in ("kwargs", "data", "options"):
            assert list(getattr(call, part)) == list(getattr(other, part))
        assert len(call.args) == len(other.args)
    assert calls[0].args[0] == calls[0].target == calls[0].kwargs["k"] == text
    assert calls[0].args[2] == {"deep": [text, f"{text}-{text}"]}


@pytest.mark.parametrize("tag", ["a{{ 1 }}", "a: b", "{a}", "- a", "[a]", "!!a", "%{}", "$(a)"])
def test_a_tag_is_text_too(tag):
    """Whatever its sender called it."""
    calls = _calls(HARMLESS, tag)
    assert (calls[0].kwargs["t"], calls[0].kwargs["e"]) == (tag, tag)
    assert any(call.kind == "log" and tag in f"{call.function} {call.options}" for call in calls)
