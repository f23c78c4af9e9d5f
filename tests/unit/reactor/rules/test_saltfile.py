"""A reactor file from event to calls."""

import logging

import pytest

from bus.record import Event
from reactor.errors import RuleError
from reactor.rules.model import Source
from reactor.rules.saltfile import EMPTY, ReactorFile, SaltRule
from reactor.rules.templates import Sources, Templates

PATH = "/r/restart.sls"


def _rule(text):
    file = ReactorFile(Templates().template(Sources(PATH, {PATH: text}, {})))
    return SaltRule("restart", Source(PATH, 1), ("*",), file)


def _calls(text, data=None, functions=None, tag="x"):
    return _rule(text).plan(Event(tag, data or {}, 1), functions or {}).calls


def test_a_file_of_the_documentation():
    """Jinja first, then YAML, then calls."""
    text = """{% if data['data']['state'] == 'down' %}
# who it was
restart_it:
  local.service.restart:
    - tgt: {{ data['id'] }}
    - args:
      - name: {{ payload.service }}
{% endif %}
"""
    data = {
        "id": "web1",
        "cmd": "_minion_event",
        "data": {"state": "down", "service": "nginx"},
    }
    [call] = _calls(text, data)
    assert (call.target, call.kwargs) == ("web1", {"name": "nginx"})
    assert call.source == Source(PATH, 3)


@pytest.mark.parametrize("text", ["", "  \n", "{% if false %}a: b{% endif %}", "# only words"])
def test_nothing_is_no_error(text):
    """A file that renders to nothing does nothing, and says so."""
    plan = _rule(text).plan(Event("x", {}, 1), {})
    assert (plan.calls, plan.skipped) == ((), EMPTY)


def test_functions_of_the_master():
    """``salt`` reaches them, ``tag`` is the event's."""
    text = "a: {runner.x.y: [{who: {{ salt['keys.first']() }}}, {tag: {{ tag }}}]}"
    [call] = _calls(text, functions={"keys.first": lambda: "web1"}, tag="a/b")
    assert call.kwargs == {"who": "web1", "tag": "a/b"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [1", "line 2 of the rendered file: "),
        ("a: runner.x.y\na: runner.x.y", "the key 'a' is here twice, first on line 1"),
        ("{{ data.zz }}", "/r/restart.sls:1: "),
    ],
)
def test_what_cannot_be_read(text, error):
    """Broken YAML, an ID twice, a name that is not there."""
    with pytest.raises(RuleError, match=error):
        _calls(text)


def test_what_was_read_is_remembered():
    """The same text is parsed once; a long one is not kept."""
    rule = _rule("a: {runner.x.y: [{n: {{ data.n }}}]}")
    first, again, other = (rule.plan(Event("x", {"n": n}, 1), {}).calls[0] for n in (1, 1, 2))
    assert first is again
    assert other.kwargs == {"n": 2}
    long = "x" * 5000
    one, two = (rule.plan(Event("x", {"n": long}, 1), {}).calls[0] for _ in range(2))
    assert one == two
    assert one is not two


def test_a_warning_comes_once(caplog):
    """Events come by the thousand, a warning only once for each version of the file."""
    rule = _rule("a: {runner.x.y: [{args: [{{ data.n }}]}, {arg: [2]}]}")
    with caplog.at_level(logging.WARNING, "reactor"):
        for n in range(3):
            rule.plan(Event("x", {"n": n}, 1), {})
    assert [record.getMessage() for record in caplog.records] == [
        "/r/restart.sls: a: runner.x.y: 'args' is used, 'arg' and 'kwarg' beside it are not"
    ]
