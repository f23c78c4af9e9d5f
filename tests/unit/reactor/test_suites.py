"""`reactor test`, `check` and `convert`: suites, simulated time, findings and native forms."""

import json
import os
import random
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bus.config import master_config
from reactor.cli import program
from reactor.cli.checking import findings
from reactor.errors import ReactorError
from reactor.rules.converting import convert
from reactor.rules.loading import RuleSet
from reactor.suites import run_file
from reactor.testing import RuleTest

ROOT = Path(__file__).parents[3]

RULES = """
restart:
  on: svc/down
  when: data.n > 1
  throttle: {once_within: 10m, by: data.id}
  do:
    - local: service.restart
      tgt: "{{ data.id }}"
      args: [nginx]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REACTOR_CONFIG_DIR", str(tmp_path / "conf"))
    (tmp_path / "conf").mkdir(mode=0o700)
    (tmp_path / "r.yaml").write_text(RULES)
    return tmp_path


def run(*args):
    return CliRunner().invoke(program.program, [str(arg) for arg in args])


def test_rules_in_pytest(folder):
    """Calls as a rule writes them, reasons, and a clock that only the test moves."""
    rules = RuleTest(folder / "r.yaml")
    restart = {"local": "service.restart", "tgt": "a", "args": ["nginx"]}
    assert rules.fire("svc/down", {"id": "a", "n": 2}) == [restart]
    assert rules.fire("svc/down", {"id": "a", "n": 2}, at="5m") == []
    assert "throttle" in rules.reasons["restart"]
    assert rules.fire("svc/down", {"id": "a", "n": 2}, at="11m") == [restart]
    assert rules.fire("svc/down", {"id": "a", "n": 0}, at="30m") == []
    assert "data.n is 0" in rules.reasons["restart"]
    assert rules.fire("svc/down", {"n": 2}) == []
    assert rules.errors.keys() == {"restart"}
    assert rules.wait("1h") == []
    (folder / "r.yaml").write_text("x: 1")
    with pytest.raises(ReactorError):
        RuleTest(folder / "r.yaml")


SUITE = """
tests:
  good:
    events: [{tag: svc/down, data: {id: a, n: 2}}]
    expect: [{local: service.restart, tgt: a}]
    excludes: [{local: cmd.run}]
  wrong:
    events: [{tag: svc/down, data: {id: a, n: 2}}]
    expect: [{local: service.restart, tgt: b}]
  none:
    events: [{tag: svc/down, data: {id: a, n: 0}}]
    expect: []
    skipped: {restart: data.n is 0}
  nothing said:
    events: [{tag: svc/down}]
  misspelt:
    events: [{tag: svc/down}]
    expct: []
"""


def test_a_suite_says_what_differs(folder):
    """Each test by its line; a slip of the pen is a failure, not a pass."""
    (folder / "r.test.yaml").write_text(SUITE)
    results = {result["name"]: result for result in run_file(folder / "r.test.yaml")}
    assert [name for name, result in results.items() if not result["failures"]] == ["good", "none"]
    assert "tgt is 'a', not 'b'" in results["wrong"]["failures"][0]
    assert "expects nothing" in results["nothing said"]["failures"][0]
    assert "did you mean 'expect'?" in results["misspelt"]["failures"][0]
    assert results["wrong"]["source"].endswith("r.test.yaml:7")
    ended = run("test", folder)
    assert (ended.exit_code, "2 passed, 3 failed" in ended.output) == (1, True)
    # A suite lies beside the rules and is none of them.
    assert len(RuleSet(rules=[str(folder)]).load().rules) == 1


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        ("expect: 5", "r.test.yaml:4: what 'expect' lists is a call"),
        ("includes: [[1]]", "what 'includes' lists is a call"),
        ("excludes: [{tgt: x}]", "what 'excludes' lists is a call"),
        ("skipped: [restart]", "r.test.yaml:4: 'skipped' is a mapping"),
        ("expect: []\n    results: 5", "r.test.yaml:5: 'results' is a mapping"),
        ("expect: []\n    takes: [1]", "is no duration"),
        ("expect: []\n    wait: soon", "soon"),
        ("expect: []\n  5: 6", "a test is a mapping"),
    ],
)
def test_a_test_of_another_form_is_one_failure(folder, slip, told):
    """It is named with its line, and keeps no other test from being run."""
    suite = "tests:\n  odd:\n    events: [{tag: svc/down, data: {id: a, n: 0}}]\n    " + slip
    good = "\n  fine:\n    events: [{tag: x}]\n    expect: []\n"
    (folder / "r.test.yaml").write_text(suite + good)
    results = run_file(folder / "r.test.yaml")
    assert results[-1]["name"] == "fine"
    assert results[-1]["failures"] == []
    failures = [line for result in results for line in result["failures"]]
    assert len(failures) == 1
    assert told in failures[0]


@pytest.mark.parametrize("key", ["functions", "results"])
def test_a_suite_of_another_form_is_one_failure(folder, key):
    """What counts for the whole file."""
    (folder / "r.test.yaml").write_text(f"{key}: 5\ntests: {{}}\n")
    [result] = run_file(folder / "r.test.yaml")
    assert f"r.test.yaml:1: '{key}' is a mapping" in result["failures"][0]


def test_events_of_a_file(folder):
    """What would run, why the others would not, and the exit status."""
    (folder / "e.jsonl").write_text(
        json.dumps({"tag": "svc/down", "data": {"id": "a", "n": 2}})
        + "\n"
        + json.dumps({"tag": "svc/don", "data": {}})
    )
    ended = run("test", folder / "r.yaml", "--events", folder / "e.jsonl")
    assert ended.exit_code == 0, ended.output
    assert 'local service.restart("nginx") on a' in ended.output
    assert "nearly restart: on svc/down" in ended.output
    found = json.loads(
        run("test", folder / "r.yaml", "--events", folder / "e.jsonl", "--json").output
    )
    assert found["events"][0]["rules"][0]["calls"][0]["target"] == "a"
    (folder / "bad.json").write_text("[1]")
    assert run("test", folder / "r.yaml", "--events", folder / "bad.json").exit_code == 2
    assert run("test", folder / "r.yaml").exit_code == 1


BAD = """
b:
  on: [q/1, " z"]
  do:
    - runner: test.slep
    - runner: test.sleep
      args: [1, 2, 3]
    - local: nowhere.thing
      tgt: x
    - event: w/{{ data.x }}
c:
  on: w/*
  do: [{event: q/1}]
"""


def test_check_finds_what_would_only_show_when_it_runs(folder):
    """Each with its place; a warning alone is no failure, unless it is asked for."""
    (folder / "bad.yaml").write_text(BAD)
    found = json.loads(run("check", folder / "bad.yaml", "--json").stdout)["problems"]
    texts = [f"{one['line']}:{one['column']} {one['severity']} {one['message']}" for one in found]
    assert any("3:14 error" in text and "matches no tag" in text for text in texts), texts
    assert any("5:15 error" in text and "test.sleep" in text for text in texts), texts
    assert any("6:15 error" in text and "positional" in text for text in texts), texts
    assert any("8:14 warning" in text for text in texts), texts
    assert any("a loop: b → c → b" in text for text in texts), texts
    (folder / "warn.yaml").write_text("a:\n  on: x\n  do: [{local: no.such, tgt: y}]\n")
    assert run("check", folder / "warn.yaml").exit_code == 0
    assert run("check", folder / "warn.yaml", "--strict").exit_code == 1
    assert json.loads(run("check", "--schema").output)["type"] == "object"


def test_check_of_reactor_files(folder):
    """Functions that are not there, and the old form, are named with their lines."""
    (folder / "old.sls").write_text("a:\n  cmd.test.pingg:\n    - tgt: x\n    - arg: [1]\n")
    ended = run("check", folder / "old.sls")
    assert ended.exit_code == 1
    assert "old.sls:2:3: error: no function 'test.pingg'" in ended.output
    assert "reactor convert" in ended.output


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (
            "{% if grains['os'] == 'x' %}a: wheel.key.list_all{% endif %}",
            1,
            "error: nothing gives 'grains' a value",
        ),
        ("#\n#{{ pillar.get('a') }}", 2, "error: nothing gives 'pillar' a value"),
        ("\n{{ salt['test.pin']() }}", 2, "error: no function 'test.pin': did you mean test.ping?"),
        (
            "\n{{ salt.saltutil.runner('manage.up') }}",
            2,
            "error: no function 'saltutil.runner': the master's",
        ),
        (
            "a:\n  local.test.ping:\n  - tgt: x\n  - require:\n    - local: b",
            2,
            "'require' is not known and has no effect: reactions run in the order of the file",
        ),
        (
            "{% if data.x %}\na {{ tag }}:\n  local.test.ping:\n  - tgt: x\n  - tgt_typ: list\n{% endif %}",
            3,
            "warning: a {{ tag }}: local.test.ping: 'tgt_typ' is not known and has no effect",
        ),
        ("a:\n  local.test.echo:\n  - tgt: x\n  - text: hi", 2, "belong into 'args'"),
        ("aXjinjaX9X:\n  local.test.echo:\n  - tgt: x\n  - text: hi", 2, "aXjinjaX9X: local.test"),
        ("a:\n  local.test.ping:\n  - tgt: x\n  - ret: smtp", 4, "warning: 'ret' starts nothing"),
        (
            "a:\n  local.state.apply:\n  - tgt: x",
            2,
            "warning: no function 'state.apply': there are no states here",
        ),
    ],
)
def test_check_names_what_salts_files_miss_here(folder, text, line, told):
    """Whoever brings his files learns before the first event what they cannot do."""
    (folder / "old.sls").write_text(text)
    output = run("check", folder / "old.sls").output
    assert any(
        one.startswith(f"{folder}/old.sls:{line}:") and told in one for one in output.splitlines()
    ), output


def test_check_lets_a_file_give_names_values_itself(folder):
    """By set, for, macro and import, or by asking whether they are there."""
    (folder / "m.jinja").write_text("{% macro say(x) %}{{ x }}{% endmacro %}")
    (folder / "good.sls").write_text(
        "{% from 'm.jinja' import say %}{% if data.a %}{% set found = [] %}{% endif %}\n"
        "{% for one in range(2) %}{% do found.append(one) %}{% endfor %}\n"
        "{% if grains is defined %}{{ grains.os }}{% endif %}{{ nick | default('x') }}\n"
        "{% macro loud(y) %}{{ y | upper }}{% endmacro %}\n"
        "a: {local.test.echo: [{tgt: '{{ loud(say(tag)) }}'}, {args: [{{ salt['test.ping']() }}]}]}\n"
    )
    assert run("check", folder / "good.sls").output.strip() == "1 rule, no problems"


def test_check_knows_whom_notify_may_name(folder):
    """Whom the option reactor_notify has not is found before there is an alarm to send."""
    (folder / "conf" / "master").write_text("reactor_notify:\n  ops: {via: slack, url: chat}\n")
    (folder / "n.yaml").write_text("a:\n  on: x\n  do: [{notify: oops, text: hi}]\n")
    ended = run("check", folder / "n.yaml")
    assert ended.exit_code == 1
    told = "n.yaml:3:17: error: a.do[0].notify: unknown 'oops': the option reactor_notify has ops"
    assert told in ended.stdout
    (folder / "n.yaml").write_text("a:\n  on: x\n  do: [{notify: ops, text: hi}]\n")
    assert run("check", folder / "n.yaml").exit_code == 0


def test_check_knows_the_modules_that_minions_get(folder):
    """Those below file_roots are read, not run; whoever mistypes one of theirs is still told."""
    modules = folder / "files" / "_modules"
    modules.mkdir(parents=True)
    (modules / "site.py").write_text("import no_such_thing\ndef deploy(): pass\n")
    (folder / "conf" / "master").write_text(f"file_roots: {{base: [{folder}/files]}}\n")
    rule = "a:\n  on: x\n  do: [{local: site.deploy, tgt: '*'}]\n"
    (folder / "m.yaml").write_text(rule)
    assert run("check", folder / "m.yaml").stdout == "1 rule, no problems\n"
    (folder / "m.yaml").write_text(rule.replace("deploy", "deplyo"))
    told = run("check", folder / "m.yaml").stdout
    assert "warning: a.do[0].local: no function 'site.deplyo': did you mean site.deploy?" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n{% if %}", "one.sls:2:1: error: Expected an expression"),
        ("a:\n  - [\n", "one.sls:3: error: "),
        (b"a: \xff", "one.sls:1:1: error: is no UTF-8 text"),
    ],
)
def test_check_of_a_folder_finds_broken_reactor_files(folder, text, told):
    """Also where no map names them: Jinja's syntax, and YAML's of a file without any Jinja."""
    place = folder / "salt" / "below"
    place.mkdir(parents=True)
    (place / "one.sls").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = run("check", folder / "salt")
    assert ended.exit_code == 1
    assert ended.stdout.startswith(f"{place}/{told}")
    ended = run("check", "--json", folder / "salt")
    assert (ended.exit_code, len(json.loads(ended.stdout)["problems"])) == (1, 1)


def test_check_of_a_folder_says_what_it_leaves_out(folder):
    """A folder of Salt's files may hold states too, and their map may be elsewhere."""
    (folder / "one.sls").write_text("nginx: {pkg.installed: []}\n{{ pillar.x | no_such }}\n")
    ended = run("check", folder)
    assert (ended.exit_code, ended.stdout) == (0, "1 rule, no problems\n")
    assert f"of 1 reactor file (*.sls) in {folder} that no map there names only" in ended.stderr
    assert f"as in 'reactor check {folder}/one.sls'" in ended.stderr
    (folder / "map.yaml").write_text("reactor: [{x: one.sls}]")
    ended = run("check", folder / "conf" / "..")
    assert ended.exit_code == 1
    assert "only the syntax" not in ended.stderr


def test_check_of_the_configuration_warns_of_reactor_files_that_no_map_names(folder):
    """Nothing reacts by them; named in the master's own map, they are as any other."""
    rules = folder / "conf" / "rules"
    rules.mkdir()
    (rules / "one.sls").write_text("a: {runner.test.ping: []}\n")
    (folder / "conf" / "master").write_text("rules: [rules]\n")
    ended = run("check")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{rules}: warning: nothing reacts by a reactor file here")
    assert "0 rules, no problems, 1 warning" in ended.stdout
    assert run("check", "--strict").exit_code == 1
    (folder / "conf" / "master").write_text("rules: [rules]\nreactor: [{x/*: rules/one.sls}]\n")
    assert run("check").stdout == "1 rule, no problems\n"
    (folder / "conf" / "master").write_text("rules: [rules]\n")
    (rules / "one.sls").write_text("a: [\n")
    assert run("check").exit_code == 1


STEPS = """
r:
  on: x
  do:
    - local: test.ping
      tgt: "*"
      wait: true
      id: asked
      on_failure: continue
    - event: told
      when: results.asked.ok
      data: {web1: "{{ results.asked.returns.web1 }}"}
    - exec: [check, "{{ item }}"]
      for_each: "[1, 2]"
    - event: checked
      data: {first: "{{ results[2]['items'][0].status }}"}
"""

STEPS_TEST = """
results: {asked: {returns: {web1: 5}}, "do[2]": {status: 0}}
tests:
  goes well:
    events: [{tag: x}]
    includes: [{event: told, data: {web1: 5}}, {event: checked, data: {first: 0}}]
  nobody answers:
    events: [{tag: x}]
    results: {asked: {error: silence}, "do[2][0]": {status: 3}}
    excludes: [{event: told}]
    includes: [{event: checked, data: {first: 3}}]
  a program fails:
    events: [{tag: x}]
    results: {"do[2]": {error: no such program}}
    fails: {r: no such program}
    excludes: [{event: checked}]
"""


def test_suites_say_what_actions_give(folder):
    """By id or path, for the file or a test; without it a value that needs a result fails."""
    (folder / "steps.yaml").write_text(STEPS)
    (folder / "steps.test.yaml").write_text(STEPS_TEST)
    results = run_file(folder / "steps.test.yaml")
    assert [(one["name"], one["failures"]) for one in results] == [
        ("goes well", []),
        ("nobody answers", []),
        ("a program fails", []),
    ]
    rules = RuleTest(folder / "steps.yaml")
    rules.fire("x")
    assert "web1" in rules.errors["r"]
    rules = RuleTest(folder / "steps.yaml", results={"asked": {"returns": {"web1": 1}}, "do[2]": 7})
    assert rules.fire("x")[1] == {"event": "told", "data": {"web1": 1}}


PATTERNS = """
r:
  match: fnmatch
  all_of: ["a ", {on: [b, "c\\u0007"], name: q}]
  none_of: {on: "d[z-a]"}
  within: 1m
  do: [{event: out}]
s:
  match: regex
  on: "x "
  do: [{event: out}]
"""


def test_check_looks_at_every_pattern(folder):
    """Those of several events too, with their paths; regular expressions are another matter."""
    (folder / "p.yaml").write_text(PATTERNS)
    ended = run("check", folder / "p.yaml")
    texts = [line.split(": error: ")[1] for line in ended.stdout.splitlines()]
    assert sorted(texts) == [
        "r.all_of[0]: 'a ' matches no tag: it begins or ends with a blank",
        "r.all_of[1].on[1]: 'c\\x07' matches no tag: a tag has no control characters",
        "r.none_of.on: 'd[z-a]' matches no tag: a range in it runs backwards",
    ], ended.output


KINDS = """
r:
  on: x
  do:
    - caller: test.echo
      args: [1]
    - runner: test.arg
      on_failure:
        do:
          - wheel: key.list_all
    - local: test.ping
      tgt: x
"""


def test_check_refuses_what_runs_elsewhere(folder):
    """`caller` in a master's rules, the others in a minion's; with what to do instead."""
    (folder / "r.yaml").write_text(KINDS)
    ended = run("check", folder / "r.yaml")
    assert ended.exit_code == 1
    [line] = ended.stdout.splitlines()
    assert line.startswith(
        f"{folder}/r.yaml:5:7: error: r.do[0].caller: 'caller' runs on the minion"
    )
    assert "use 'local' with a target" in line
    assert "--minion" in line
    ended = run("check", "--minion", folder / "r.yaml")
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert [line.removeprefix(f"{folder}/r.yaml:").partition(" runs on")[0] for line in lines] == [
        "7:7: error: r.do[1].runner: 'runner'",
        "10:13: error: r.do[1].on_failure.do[0].wheel: 'wheel'",
        "11:7: error: r.do[2].local: 'local'",
    ]
    assert all("use 'caller'" in line and "event.send" in line for line in lines)


def test_check_of_a_minion_knows_its_functions(folder):
    """Its modules are at hand, so that an unknown one is an error; its configuration counts."""
    bad = "r:\n  on: x\n  do: [{caller: test.pong}]\n"
    (folder / "conf" / "minion").write_text("id: m1\nmaster: 127.0.0.1\nrules: [r.yaml]\n")
    (folder / "conf" / "r.yaml").write_text(bad)
    for arguments in ([], ["--minion"]):  # there is no master's file, so the role is plain
        ended = run("check", *arguments)
        assert ended.exit_code == 1, ended.output
        assert "r.yaml:3:17: error: r.do[0].caller: no function 'test.pong'" in ended.stdout
    (folder / "conf" / "master").write_text("rules: [r.yaml]\n")
    assert "'caller' runs on the minion" in run("check").stdout
    (folder / "conf" / "r.yaml").write_text(bad.replace("pong", "ping"))
    assert run("check", "--minion").stdout == "1 rule, no problems\n"


CUSTOM_CALLS = """
one: {on: x, do: [{local: mine.hello, tgt: "*", args: [a, b]}]}
two: {on: x, do: [{local: mine.helo, tgt: "*"}]}
three: {on: x, do: [{local: theirs.run, tgt: "*"}]}
four: {on: x, do: [{local: mine.hello, tgt: "*", args: [a]}]}
"""


def test_check_knows_what_minions_fetch(folder):
    """Functions in `_modules` of the master; one that does not load here may do so elsewhere."""
    roots = [folder / "first", folder / "second"]
    for root in roots:
        (root / "_modules").mkdir(parents=True)
    (roots[0] / "_modules" / "mine.py").write_text("def hello(name):\n    return name\n")
    (roots[1] / "_modules" / "mine.py").write_text("def helo():\n    return None\n")
    (roots[1] / "_modules" / "theirs.py").write_text("import nowhere_at_all\n")
    (folder / "r.yaml").write_text(CUSTOM_CALLS)
    named = json.dumps([str(root) for root in roots])
    (folder / "conf" / "master").write_text(f"file_roots: {{base: {named}}}\n")
    ended = run("check", folder / "r.yaml")
    assert ended.exit_code == 1
    one, two, three = ended.stdout.splitlines()
    assert one.startswith(f"{folder}/r.yaml:2:27: error: one.do[0].local: mine.hello")
    assert two.startswith(
        f"{folder}/r.yaml:3:27: warning: two.do[0].local: no function 'mine.helo'"
    )
    assert three.startswith(f"{folder}/r.yaml:4:29: warning: three.do[0].local: no function")
    assert three.endswith("(on the master: the minions may have it)")


def test_check_of_a_minion_knows_what_it_has_fetched(folder):
    """Modules that came from the master count, and those of its own without one."""
    cache = folder / "cache"
    (cache / "extmods" / "modules").mkdir(parents=True)
    (cache / "extmods" / "modules" / "mine.py").write_text("def hello():\n    return 1\n")
    (folder / "r.yaml").write_text("r: {on: x, do: [{caller: mine.hello}]}\n")
    (folder / "conf" / "minion").write_text(f"id: m1\nmaster: 127.0.0.1\ncachedir: {cache}\n")
    ended = run("check", "--minion", folder / "r.yaml")
    assert ended.stdout == "1 rule, no problems\n"


def test_check_refuses_reactor_files_of_the_other_side(folder):
    """In Salt's form as well, in both spellings of local."""
    (folder / "m.sls").write_text(
        "a:\n  caller.test.ping: []\nb:\n  cmd.test.ping:\n    - tgt: x\n"
    )
    assert "m.sls:2:3: error: 'caller' runs on the minion" in run("check", folder / "m.sls").stdout
    ended = run("check", folder / "m.sls", "--minion")
    assert "m.sls:4:3: error: 'local' runs on the master" in ended.stdout
    assert "m.sls:2" not in ended.stdout


SLS = """\
{# a comment #}
{% set id = data['id'] %}
{% if data['ok'] or data.get('x') == 2 %}
ping:
  local.test.ping:
    - tgt: {{ id }}
{% else %}
say:
  runner.test.arg:
    - args:
      - who: {{ data['id'] }}
      - "a-{{ data['n'] }}-b"
{% endif %}
{% for x in [1] %}
z: {local.test.ping: [{tgt: a}]}
{% endfor %}
"""


def test_the_native_form_does_the_same(folder):
    """The same events lead to the same calls; what cannot be said is named with its line."""
    text, troubles = convert(SLS, "s.sls", ["a/b"], "start")
    assert [(trouble.line, "for" in trouble.problem) for trouble in troubles] == [(14, True)]
    (folder / "s.sls").write_text(SLS.partition("{% for")[0])
    (folder / "n.yaml").write_text(text)
    for data in ({"id": "m", "ok": True, "n": 1}, {"id": "m", "ok": False, "n": 1}):
        salt = RuleTest(folder / "s.sls", on="a/b").fire("a/b", data)
        assert salt == RuleTest(folder / "n.yaml").fire("a/b", data) != []
    ended = run("convert", folder / "s.sls", "--on", "a/b")
    printed = list(yaml.safe_load(ended.stdout).values())
    assert (ended.exit_code, printed) == (0, list(yaml.safe_load(text).values()))
    assert run("convert", folder / "s.sls").exit_code == 2


_AWKWARD = {
    "id": "web1",
    "tricky": 'a "b": {c} #d',
    "digits": "10_0_0_7",
    "number": 5,
    "list": ["a", "no", 1],
    "map": {"on": True, "none": None},
}


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  local.test.arg:\n  - tgt: {{ data.id | yaml_dquote }}\n  - arg: [{{ data.tricky | tojson }}]\n",
        "a:\n  runner.test.arg:\n  - args:\n    - all: {{ data | json }}\n    - n: {{ data.number | yaml_encode }}\n",
        "a:\n  runner.test.arg:\n  - args:\n    - deep:\n        {{ data.map | yaml(False) | indent(8) }}\n",
        "a:\n  runner.test.arg:\n  - args: [{{ data.list | tojson }}, {{ data.digits | yaml_squote }}]\n",
        "a:\n  runner.test.arg:\n  - args:\n    - text: '{{ data.list | json }}'\n    - n: {{ data.number | yaml_dquote }}\n",
        "a:\n  runner.test.arg:\n  - args:\n    - text: |-\n        {{ data.list | json }}\n",
        "{% set m = data.map %}\na: {runner.test.arg: [{args: [{{ m['on'] | tojson }}, [{{ m | tojson(indent=1) }}]]}]}\n",
        "a:\n  local.cmd.run:\n  - tgt: web1\n  - args: ['echo {{ data.number }} {{ data.id | quote }}']\n",
    ],
)
def test_what_is_converted_does_the_same(folder, text):
    """The values that arrive are those of the reactor file, whatever filter wrote them as YAML."""
    (folder / "old.sls").write_text(text)
    native, troubles = convert(text, "old.sls", ["a/b"], "old")
    assert troubles == []
    (folder / "new.yaml").write_text(native)
    old = RuleTest(folder / "old.sls", on="a/b").fire("a/b", _AWKWARD)
    assert len(old) == 1
    assert RuleTest(folder / "new.yaml").fire("a/b", _AWKWARD) == old


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples").rglob("*.sls")), ids=lambda file: file.stem
)
def test_examples_convert_faithfully(folder, file):
    """Each reactor file that ships has a native form, and that loads and acts alike."""
    event = json.loads((file.parent / "event.json").read_text())
    native, troubles = convert(file.read_text(), str(file), ["*"], file.stem)
    assert troubles == []
    (folder / "new.yaml").write_text(native)
    old, new = RuleTest(file, on="*"), RuleTest(folder / "new.yaml")
    assert new.fire(event["tag"], event["data"]) == old.fire(event["tag"], event["data"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n  local.test.ping: [{tgt: {{ salt['x.y']() }}}]\n", "calls a function"),
        ("a:\n  caller.test.ping: []\n", "caller"),
        ("a:\n  local.test.ping: [{tgt: x, ret: redis}]\n", "'ret' has no native form"),
        ("{% include 'x' %}\n", "include"),
        ("a: [\n", "must stand in one branch"),
        ("a:\n  local.test.ping: []\n", "'tgt' is missing"),
    ],
)
def test_what_cannot_be_converted_is_said(text, problem):
    """Nothing is guessed."""
    _, troubles = convert(text, "s.sls", ["a"], "s")
    assert any(problem in trouble.problem for trouble in troubles), troubles


def test_mutated_files_end_nothing_and_keep_the_last_good_version(folder):
    """Whatever stands in a file, a load returns, and what was good stays in force."""
    count = 10_000 if os.environ.get("REACTOR_SOAK") else 150
    random_ = random.Random(5)
    opts = master_config(folder / "conf")
    texts = (RULES, BAD, SLS)
    for number in range(count):
        text = _mutated(random_, random_.choice(texts))
        rules = RuleSet(rules=[str(folder / "r.yaml")])
        (folder / "r.yaml").write_text(RULES)
        good = rules.load()
        (folder / "r.yaml").write_bytes(text)
        after = rules.load(good)
        if after.problems and any(problem.kept for problem in after.problems):
            assert [rule.name for rule in after.rules] == ["restart"]
        if number % 5 == 0:
            findings(after, opts, ())
            convert(text.decode(errors="replace"), "s.sls", ["a"], "s")


def _mutated(random_, text):
    data = bytearray(text.encode())
    for _ in range(random_.randint(1, 8)):
        at = random_.randrange(len(data))
        kind = random_.randrange(4)
        if kind == 0:
            data[at] = random_.randrange(256)
        elif kind == 1:
            del data[at : at + random_.randint(1, 10)]
        elif kind == 2:
            data[at:at] = random_.choice(
                (b"{{", b"}}", b"{%", b": ", b"- ", b"[", b"\t", b"&a", b"*a")
            )
        else:
            data[at:at] = data[at : at + 20]
        data = data or bytearray(b"x")
    return bytes(data)


def test_a_slip_in_the_masters_file_is_a_warning_to_clients(folder):
    """What says where the daemons are is an error even so; the daemons refuse any slip."""
    conf = folder / "conf" / "master"
    conf.write_text("auto_acept: true\n")
    ended = run("journal", "stats")
    assert "warning" in ended.stderr
    assert "did you mean auto_accept?" in ended.stderr
    assert "has the master run here?" in ended.stderr
    assert "warning" not in run("check").stderr
    assert run("check").exit_code == 1
    conf.write_text("sock_dir: 3\n")
    assert "warning" not in run("journal", "stats").stderr


def test_the_hook_of_pre_commit_checks_what_a_commit_holds(folder):
    """The files that it is for, by the command that it runs: good ones pass, a slip does not."""
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    changed = [
        "rules/r.yaml",
        "deep/reactors/web.yml",
        "reactor/start.sls",
        "rules/r.test.yaml",
        "docs/rules.yaml",
        "states/top.sls",
        "rules/readme.md",
    ]
    wanted, unwanted = re.compile(hook["files"]), re.compile(hook["exclude"])
    passed = [name for name in changed if wanted.search(name) and not unwanted.search(name)]
    assert passed == changed[:3]
    for name, text in zip(passed, (RULES, RULES, SLS), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = hook["entry"].split()
    assert command[0] == "reactor"
    files = [folder / name for name in passed]
    ended = run(*command[1:], *files)
    assert ended.exit_code == 0, ended.output
    files[1].write_text(RULES.replace("when:", "whn:"))
    ended = run(*command[1:], *files)
    assert ended.exit_code == 1
    assert "web.yml:4:" in ended.output
    assert "did you mean 'when'?" in ended.output
