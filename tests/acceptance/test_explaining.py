"""Why a rule did not fire, what is dead and what is replayed: with real processes."""

import json

import pytest

from tests.system import running, wait_until

RULES = """
hello:
  on: my/hello
  when: data.n > 3
  do: [{event: my/answered, data: {n: "{{ data.n }}"}}]
fragile:
  on: my/fragile
  do:
    - event: my/first
    - runner: test.nothing
checked:
  on: my/checked
  when: [data.n > 3, data.password != "x"]
  count: {at_least: 1, within: 1h}
  do: [{event: my/was-high}]
  else: [{event: my/was-low}]
thrice:
  on: my/thrice
  count: {at_least: 3, within: 1h}
  throttle: {once_within: 1h}
  do: [{event: my/was-thrice, data: {n: "{{ data.n }}"}}]
alone:
  on: my/alone
  mode: single
  do: [{exec: ["true"]}, {event: my/was-alone}]
selfish:
  on: self/loop
  do: [{event: self/loop}]
"""

MENDED = RULES.replace("test.nothing", "test.ping")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    (folder / "r.yaml").write_text(RULES)
    with running(folder, "--rules", str(folder / "r.yaml")) as found:
        found.rules = folder / "r.yaml"
        yield found


def _json(system, *arguments, code=0):
    return json.loads(system.run(*arguments, "--json", code=code).stdout)


def test_convert_knows_the_tags_of_what_runs(tmp_path):
    """A file that only --rules brought into force needs no --on, however its path is written."""
    folder = tmp_path / "salt"
    folder.mkdir()
    (folder / "ping.sls").write_text("a: {local.test.ping: [{tgt: x}]}\n")
    (folder / "map.yaml").write_text("reactor: [{my/salts: ping.sls}]\n")
    with running(tmp_path, "--rules", str(folder / "map.yaml")) as system:
        native = system.run("convert", f"{folder}/../salt/ping.sls").stdout
    assert "on: my/salts" in native


def test_why_names_the_condition_and_its_values(system):
    """The value that made it false stands in one short line."""
    seq = system.fire("my/hello", {"n": 1, "password": "hunter2"})
    last = system.fire("my/other", {})
    wait_until(lambda: _json(system, "why", str(last))["stopped"] == "")
    told = system.run("why", "my/hello").stdout
    assert f"event {seq}" in told
    assert "hello: skipped: when: data.n > 3 is false (data.n is 1)" in told
    assert "hunter2" not in told + system.run("trace", "hello", "--json").stdout
    assert "no rule matches this tag" in system.run("why", "my/other").stdout
    assert "no event no/such" in system.run("why", "no/such").stdout
    assert system.run("why", "999999", code=1).stderr.count("\n") == 1


def test_a_trace_has_every_condition_with_its_value(system):
    """Of what acted too, and what policies said; secrets are hidden."""
    seq = system.fire("my/checked", {"n": 7, "password": "hunter2"})
    system.expect("reactor/reaction/checked/done", seq)
    [trace] = _json(system, "trace", "checked")
    assert [(step["policy"], step["passed"], step["why"]) for step in trace["steps"]] == [
        ("when", True, "when: data.n > 3 is true (data.n is 7)"),
        ("when", True, "when: data.password != '***' is true (data.password is ***)"),
        ("count", True, "count: 1 of 1 within 1h"),
    ], trace["steps"]
    told = system.run("trace", "checked").stdout
    assert "      when: data.n > 3 is true (data.n is 7)" in told
    assert "data.n is 7" in system.run("why", str(seq)).stdout
    seq = system.fire("my/checked", {"n": 1, "password": "y"})
    system.expect("my/was-low", seq)
    [trace] = [one for one in _json(system, "trace", "checked") if one["event"]["seq"] == seq]
    assert trace["steps"][0]["why"] == "when: data.n > 3 is false (data.n is 1)"
    assert not trace["steps"][0]["passed"]


def test_a_dead_reaction_is_retried_under_its_id(system):
    """Once the rule is mended it goes well, and what was done is not done again."""
    seq = system.fire("my/fragile", {})
    system.expect("reactor/reaction/fragile/failed", seq)
    wait_until(lambda: bool(_json(system, "dead", "list")["letters"]))
    [letter] = _json(system, "dead", "list")["letters"]
    assert (letter["rule"], letter["event"]["seq"], letter["done"]) == ("fragile", seq, [0])
    assert letter["id"] in system.run("why", str(seq)).stdout
    before = system.events()[-1].seq
    system.rules.write_text(MENDED)
    system.expect("reactor/rules/reloaded", before)
    system.run("dead", "retry", letter["id"])
    report = system.expect("reactor/reaction/fragile/done", before)
    assert report.payload["id"] == letter["id"]
    wait_until(lambda: not _json(system, "dead", "list")["letters"])
    assert [event.tag for event in system.events()].count("my/first") == 1
    assert system.run("dead", "retry", letter["id"], code=1).stderr
    assert system.run("dead", "drop", code=2).stderr
    assert _json(system, "dead", "drop", "--all", "--yes") == {"dropped": 0}


def test_replay_has_ids_of_its_own(system):
    """A dry run does nothing; a real one reacts once more to what was finished."""
    seq = system.fire("my/hello", {"n": 7})
    first = system.expect("reactor/reaction/hello/done", seq)
    dry = system.run("replay", "--since", str(seq), "--rule", "hello", "--dry-run").stdout
    assert "1 reactions would run" in dry
    before = system.events()[-1].seq
    told = system.run("replay", "--since", str(seq), "--until", str(seq), "--rule", "hello")
    assert "1 reactions begun" in told.stdout
    again = system.expect("reactor/reaction/hello/done", before)
    assert again.payload["id"] != first.payload["id"]
    assert again.payload["event"]["seq"] == seq
    assert system.run("replay", "--since", "1", "--rule", "no", code=1).stderr


def test_replay_asks_policies_with_a_memory_of_its_own(system):
    """As if the events came now; what the rule remembers of the present is not touched."""
    seqs = [system.fire("my/thrice", {"n": number}) for number in range(4)]
    assert system.expect("my/was-thrice", seqs[0]).payload["n"] == 2
    wanted = ("replay", "--since", str(seqs[0]), "--rule", "thrice")
    dry = system.run(*wanted, "--dry-run").stdout
    assert "1 reactions would run" in dry
    assert dry.startswith(f"{seqs[2]}  my/thrice  thrice\n")
    told = _json(system, *wanted, "--dry-run")
    assert [bool(one["calls"]) for one in told] == [False, False, True, False]
    assert told[0]["why"] == "count: 1 of 3 within 1h"
    assert "4 reactions would run" in system.run(*wanted, "--dry-run", "--conditions-only").stdout
    before = system.events()[-1].seq
    told = _json(system, *wanted, "--until", str(seqs[2]))
    assert (told["events"], told["begun"]) == (3, 1)
    again = system.expect("my/was-thrice", before)
    assert (again.payload["n"], again.data["_cause"]["seq"]) == (2, seqs[2])
    before = system.fire("my/thrice", {"n": 5})
    wait_until(lambda: _json(system, "why", str(before))["stopped"] == "")
    assert "throttle: fired" in system.run("why", str(before)).stdout


def test_a_dry_run_asks_the_mode_on_the_clock_of_the_stamps(system):
    """With actions that last as long as is said: nothing runs that could show it."""
    first, second = [system.fire("my/alone", {}) for _ in range(2)]
    wanted = ("replay", "--since", str(first), "--rule", "alone", "--dry-run")
    dry = system.run(*wanted, "--takes", "1h").stdout
    assert "1 reactions would run, and 1 were turned away or ended by their rule's mode" in dry
    assert f"{second}  my/alone" not in dry
    told = _json(system, *wanted, "--takes", "1h")
    assert [one["state"] for one in told] == ["runs", "skipped"]
    assert told[1]["why"] == "mode: single, and one is running"
    assert "2 reactions would run\n" in system.run(*wanted, "--takes", "0s").stdout
    assert "2 reactions would run\n" in system.run(*wanted, "--conditions-only").stdout
    assert "is no duration" in system.run(*wanted, "--takes", "soon", code=1).stderr


def test_a_loop_is_announced_and_explained(system):
    """A chain ends at its limit; the event at its end says so."""
    seq = system.fire("self/loop", {})
    loop = system.expect("reactor/loop", seq)
    assert loop.payload["rule"] == "selfish"
    assert "loop limit" in system.run("why", str(loop.payload["seq"])).stdout


def test_traces_and_why_while_it_is_down(tmp_path):
    """From the journal, the rule files and what was written at the end."""
    (tmp_path / "r.yaml").write_text(RULES)
    with running(tmp_path, "--rules", str(tmp_path / "r.yaml")) as system:
        seq = system.fire("my/hello", {"n": 9})
        system.expect("reactor/reaction/hello/done", seq)
    told = system.run("why", str(seq)).stdout
    assert "hello: ok" in told
    assert "the reactor is not running" in told
    assert "my/answered" in system.run("trace", "hello").stdout


def _write_good_rules(folder):
    """Write a native rule, and a reactor file with an include and its map."""
    (folder / "never.yaml").write_text(
        "never:\n  on: nv/*\n  when: data.n > 3\n  do: [{event: out/never}]\n"
    )
    (folder / "part.sls").write_text("a: {runner.test.arg: [{args: [{n: 1}]}]}\n")
    (folder / "salt.sls").write_text("{% include 'part.sls' %}\n")
    (folder / "map.yaml").write_text("reactor: [{sl/*: salt.sls}]\n")


def _states(system, what):
    return {one["rule"]: one["state"] for one in _json(system, "why", what)["rules"]}


def test_why_goes_by_the_rules_in_force_while_their_files_are_broken(tmp_path):
    """The last good versions are the running reactor's alone; ``why`` and a dry run have them."""
    with running(tmp_path) as system:
        folder = system.config / "rules"
        _write_good_rules(folder)
        wait_until(lambda: len(_json(system, "rules")["rules"]) == 2)
        seq = system.fire("nv/0", {"n": 9})
        system.expect("reactor/reaction/never/done", seq)
        for name in ("never.yaml", "salt.sls"):
            (folder / name).write_text("x: [\n{% if %}\n")
            error = system.expect("reactor/rules/error", seq, file=str(folder / name))
            assert error.payload["kept"] is True
        (folder / "part.sls").unlink()
        assert _states(system, "nv/new") == {"never": "would match"}
        assert _states(system, "sl/new") == {"salt": "would match"}
        told = system.run("why", str(seq)).stdout
        assert "never: ok" in told
        assert "no rule file" not in told
        assert told.count("its last good version is in force") == 2
        last = system.fire("nv/1", {"n": 8})
        system.expect("reactor/reaction/never/done", last)
        assert _json(system, "why", "nv/1")["rules"][0]["conditions"]
        line = ("--since", str(seq), "--rule", "never", "--dry-run")
        assert "out/never" in system.run("replay", *line).stdout
    told = system.run("why", str(last)).stdout
    assert "its file cannot be loaded now" in told
    assert "last good version is in force" not in told


def test_the_map_of_the_running_reactor(system, tmp_path):
    """An entry is in force at once, is listed, and can be taken out again."""
    file = tmp_path / "x.sls"
    file.write_text("a:\n  runner.test.arg:\n    - args:\n      - n: {{ data['n'] }}\n")
    before = system.events()[-1].seq if system.events() else 0
    assert "added" in system.run("run", "reactor.add", "map/x", str(file)).stdout
    system.expect("reactor/rules/reloaded", before)
    assert str(file) in system.run("run", "reactor.list").stdout
    assert "x: would match" in system.run("why", "map/x").stdout
    seq = system.fire("map/x", {"n": 1})
    system.expect("reactor/reaction/x/done", seq)
    before = system.events()[-1].seq
    assert "deleted" in system.run("run", "reactor.delete", "map/x").stdout
    system.expect("reactor/rules/reloaded", before)
    assert str(file) not in system.run("run", "reactor.list").stdout
