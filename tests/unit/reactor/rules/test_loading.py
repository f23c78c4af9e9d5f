"""Loading: where rules come from, what changed, and what a broken file does not do."""

import os
from pathlib import Path

import pytest

from bus.record import Event
from reactor.errors import RuleError
from reactor.rules.converting import convert
from reactor.rules.loading import RuleSet
from reactor.rules.model import Source
from reactor.rules.native import Builder

RULE = "{name}:\n  on: {on}\n  do:\n    - event: done/{name}\n"


class _Folder:
    """A configuration's folder, and the rules that are read from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ticks = 0

    def write(self, name: str, text: str) -> str:
        """Write a file, each time with another time of change, all of them long ago."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self._ticks += 1
        os.utime(file, ns=(self._ticks, self._ticks))
        return str(file)

    def rule(self, file: str, name: str, on: str = "x") -> str:
        return self.write(file, RULE.format(name=name, on=on))

    def rule_set(self, **options) -> RuleSet:
        return RuleSet(conf_dir=str(self.path), **options)


@pytest.fixture
def folder(tmp_path):
    return _Folder(tmp_path)


def _names(snapshot):
    return [rule.name for rule in snapshot.rules]


def _problems(snapshot, folder):
    return [str(problem).replace(f"{folder.path}/", "") for problem in snapshot.problems]


def _run(snapshot, tag="x", data=None, functions=None):
    plans = [rule.plan(Event(tag, data or {}, 1), functions or {}) for rule in snapshot.match(tag)]
    return [call for plan in plans for call in plan.calls]


def test_files_folders_and_globs(folder):
    """Each form, in order; hidden ones are skipped, a file that comes twice counts once."""
    for name in ("b.yaml", "a.yml", "sub/c.yaml", "g/one.conf", "g/two.conf"):
        folder.rule(f"r/{name}", name.replace("/", "_"))
    for name in (".hidden.yaml", ".git/x.yaml", "notes.txt"):
        folder.write(f"r/{name}", "[broken")
    single = folder.rule("single.txt", "single")
    loop = folder.path / "r/sub/loop"
    loop.symlink_to(folder.path / "r")
    rules = folder.rule_set(rules=[single, "r", "r/g/*.conf", "r/b.yaml"])
    snapshot = rules.load()
    assert _problems(snapshot, folder) == []
    assert _names(snapshot) == [
        "single",
        "a.yml",
        "b.yaml",
        "sub_c.yaml",
        "g_one.conf",
        "g_two.conf",
    ]
    watched = {os.path.relpath(path, folder.path) for path in rules.watch_paths()}
    assert {".", "r", "r/sub", "r/g", "r/b.yaml", "single.txt", "r/g/one.conf"} <= watched
    assert not any(".git" in path for path in watched)


def test_a_link_to_itself_spares_its_neighbours(folder):
    """It is a problem of its own, and no folder to walk."""
    folder.rule("r/a.yaml", "a")
    (folder.path / "r/me.yaml").symlink_to(folder.path / "r/me.yaml")
    snapshot = folder.rule_set(rules=["r"]).load()
    assert _names(snapshot) == ["a"]
    [problem] = _problems(snapshot, folder)
    assert problem.startswith("r/me.yaml: cannot be read: Too many levels of symbolic links")


def test_a_glob_of_folders(folder):
    """A folder that a glob finds is walked."""
    folder.rule("roles/web/a.yaml", "web")
    folder.rule("roles/db/b.yaml", "db")
    assert _names(folder.rule_set(rules=["roles/*"]).load()) == ["db", "web"]


def test_what_is_not_there_is_a_problem_of_what_names_it(folder):
    """The place in the configuration, if it is known."""
    folder.rule("a.yaml", "a")
    rules = folder.rule_set(
        rules=["nope", "a.yaml", "none*.yaml"], rules_place=lambda n: Source("master", n + 1)
    )
    snapshot = rules.load()
    assert _names(snapshot) == ["a"]
    assert _problems(snapshot, folder) == [
        "master:1: rules: 'nope': there is no such file or folder"
    ]
    assert str(folder.path) in rules.watch_paths()
    assert RuleSet(rules=["/nope/nope"]).load().problems[0].source.line == 0


def test_a_map_in_a_file(folder):
    """Its entries and files in order; paths from its own folder; its files are no native rules."""
    folder.write("r/react/one.yaml", "{% if tag %}a: {runner.x.one: []}{% endif %}")
    folder.write("r/react/two.sls", "a: {runner.x.two: []}")
    folder.write(
        "r/map.yaml",
        "reactor:\n  - 'x': react/*.sls\n  - '*':\n    - react/one.yaml\n    - react/nope.sls\n",
    )
    snapshot = folder.rule_set(rules=["r"]).load()
    assert [(rule.name, rule.style, rule.patterns) for rule in snapshot.rules] == [
        ("two", "salt", ("x",)),
        ("one", "salt", ("*",)),
    ]
    assert [call.function for call in _run(snapshot)] == ["x.two", "x.one"]
    [problem] = _problems(snapshot, folder)
    assert problem.startswith("r/map.yaml:5: reactor: *: 'react/nope.sls': there is no such file")


def test_reactor_files_that_no_map_names(folder):
    """A warning for their folder, until a map names them; what those include is named too."""
    folder.write("r/below/one.sls", "{% include 'part.sls' %}")
    folder.write("r/below/part.sls", "a: {runner.x.one: []}")
    folder.write("r/.hidden/two.sls", "")
    rules = folder.rule_set(rules=["r"])
    first = rules.load()
    assert (first.rules, first.problems) == ((), ())
    [warning] = first.warnings
    told = (
        f"{folder.path}/r: nothing reacts by 2 reactor files here (below/one.sls, below/part.sls)"
    )
    assert str(warning).startswith(told)
    assert rules.load(first).same_as(first)
    folder.write("r/map.yaml", "reactor: [{x: below/one.sls}]\n")
    second = rules.load(first)
    assert (_names(second), second.warnings) == (["one"], ())
    (folder.path / "r/map.yaml").unlink()
    assert rules.load(second).warnings == (warning,)


def test_a_new_reactor_file_alone_is_news(folder):
    """So that whoever saves one where the reactor runs is told that it needs a map."""
    folder.rule("r/a.yaml", "a")
    rules = folder.rule_set(rules=["r"])
    before = rules.load()
    folder.write("r/one.sls", "")
    after = rules.load(before)
    assert not after.same_as(before)
    assert after.version == before.version + 1


def test_the_map_of_the_configuration(folder):
    """Before the files of rules; relative to the configuration; salt:// under the roots."""
    folder.write("one.sls", "a: {runner.x.one: []}")
    folder.write("base/react/two.sls", "a: {runner.x.two: []}")
    folder.write("dev/react/two.sls", "a: {runner.x.dev: []}")
    folder.rule("r.yaml", "native")
    base, dev = str(folder.path / "base"), str(folder.path / "dev")
    rules = folder.rule_set(
        reactor_map=[
            {"x": ["one.sls", "salt://react/*.sls"]},
            {"x": "salt://react/two.sls?saltenv=dev"},
            {"x": "salt://../one.sls"},
            {"x": "salt://none/*.sls"},
        ],
        rules=["r.yaml"],
        file_roots={"dev": [dev], "base": [base]},
        map_place=lambda n: Source("master", n + 10),
    )
    snapshot = rules.load()
    functions = [call.function for call in _run(snapshot)]
    assert functions == ["x.one", "x.two", "x.dev", "done/native"]
    assert _problems(snapshot, folder) == [
        "master:12: reactor: x: 'salt://../one.sls': there is no such file"
    ]


def test_a_map_that_is_no_map(folder):
    """One bad entry of the configuration leaves the others."""
    folder.write("one.sls", "a: {runner.x.one: []}")
    snapshot = folder.rule_set(reactor_map=[{"x": "one.sls"}, "bad"]).load()
    assert _names(snapshot) == ["one"]
    assert "reactor[1]" in str(snapshot.problems[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "r/b.yaml:2: did not find expected node content"),
        ("a: {on: x}", "r/b.yaml:1: a: the key 'do' is missing"),
        ("a: {on: x, do: [{event: '{{ q }}'}]}", "r/b.yaml:1: a.do[0].event: unknown name 'q'"),
        ("---\na: 1\n---\nb: 1\n", "r/b.yaml:3: "),
        ("reactor: 5", "r/b.yaml:1: reactor: a list of"),
        ("a: \x01", "r/b.yaml:1: a character that YAML does not allow"),
    ],
)
def test_a_broken_file_takes_no_other_with_it(folder, text, problem):
    """It is absent at first; later its last good version stays; mended, it is in force."""
    folder.rule("r/a.yaml", "a")
    folder.write("r/b.yaml", text)
    folder.rule("r/c.yaml", "c")
    rules = folder.rule_set(rules=["r"])
    first = rules.load()
    assert _names(first) == ["a", "c"]
    assert _problems(first, folder)[0].startswith(problem)
    assert not first.problems[0].kept

    folder.rule("r/b.yaml", "good")
    good = rules.load(first)
    assert (_names(good), good.problems) == (["a", "good", "c"], ())

    folder.write("r/b.yaml", text)
    broken = rules.load(good)
    assert _names(broken) == ["a", "good", "c"]
    assert broken.problems[0].kept
    assert rules.load(broken).same_as(broken)

    folder.write("r/b.yaml", "")
    assert _names(rules.load(broken)) == ["a", "c"]


def test_one_broken_rule_breaks_its_file(folder):
    """Half a file is worse than the old one."""
    folder.write("r.yaml", RULE.format(name="a", on="x") + "b: {on: x, do: [{event: '{{ q }}'}]}")
    snapshot = folder.rule_set(rules=["r.yaml"]).load()
    assert _names(snapshot) == []


def test_a_broken_reactor_file(folder):
    """The same for Salt's files: absent, kept, mended; what is wrong is said once."""
    folder.write("a.sls", "{% if %}")
    folder.write("b.sls", "b: {runner.x.b: []}")
    rules = folder.rule_set(reactor_map=[{"x": ["a.sls", "b.sls"]}, {"y": "a.sls"}])
    first = rules.load()
    assert _names(first) == ["b"]
    assert len(first.problems) == 1
    assert _problems(first, folder)[0].startswith("a.sls:1: Expected an expression")

    folder.write("a.sls", "a: {runner.x.a: []}")
    good = rules.load(first)
    assert (_names(good), good.problems) == (["a", "b", "a"], ())

    folder.write("a.sls", "{{ x|nope }}")
    broken = rules.load(good)
    assert [call.function for call in _run(broken)] == ["x.a", "x.b"]
    assert broken.problems[0].kept
    assert rules.load(broken).same_as(broken)


def test_files_that_cannot_be_read(folder):
    """No text, too large, no file at all: each is a problem of its own."""
    folder.rule("r/a.yaml", "a")
    (folder.path / "r/b.yaml").write_bytes(b"a: 1\n\xff")
    (folder.path / "r/c.yaml").write_bytes(b"#" * 1_048_577)
    os.mkfifo(folder.path / "r/d.yaml")
    (folder.path / "r/e.yaml").symlink_to("gone")
    (folder.path / "r/f.sls").write_bytes(b"\xff")
    snapshot = folder.rule_set(rules=["r"], reactor_map=[{"x": "r/f.sls"}]).load()
    assert _names(snapshot) == ["a"]
    assert _problems(snapshot, folder) == [
        "r/f.sls:1: is no UTF-8 text",
        "r/b.yaml:2: is no UTF-8 text",
        "r/c.yaml: has 1048577 bytes: at most 1048576 are read",
        "r/d.yaml: is no regular file",
        "r/e.yaml: is gone",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(folder):
    """It is a problem, and the other folders are walked."""
    folder.rule("r/a/a.yaml", "a")
    (folder.path / "r/b").mkdir(mode=0)
    snapshot = folder.rule_set(rules=["r"]).load()
    assert _names(snapshot) == ["a"]
    assert _problems(snapshot, folder) == ["r/b: cannot be read: Permission denied"]


def test_includes(folder):
    """Beside the file, in the roots, one within another; a change of any counts."""
    folder.write("react/a.sls", "{% from 'map.jinja' import name %}a: {runner.x.{{ name }}: []}")
    folder.write("react/map.jinja", "{% include 'salt://inner.jinja' %}{% set name = 'one' %}")
    folder.write("base/inner.jinja", "")
    rules = folder.rule_set(
        reactor_map=[{"x": "react/a.sls"}], file_roots={"base": [str(folder.path / "base")]}
    )
    first = rules.load()
    assert _problems(first, folder) == []
    assert [call.function for call in _run(first)] == ["x.one"]
    watched = {os.path.relpath(path, folder.path) for path in rules.watch_paths()}
    assert {"react/map.jinja", "base/inner.jinja", "react", "base"} <= watched

    folder.write("react/map.jinja", "{% set name = 'two' %}")
    second = rules.load(first)
    assert [call.function for call in _run(second)] == ["x.two"]
    assert [call.function for call in _run(first)] == ["x.one"]

    folder.write("react/map.jinja", "{% set %}")
    third = rules.load(second)
    assert _problems(third, folder)[0].startswith("react/map.jinja:1: ")
    assert [call.function for call in _run(third)] == ["x.two"]


def test_a_missing_include(folder):
    """It breaks the file, unless it may be missing."""
    folder.write("a.sls", "\n{% include 'nope' %}")
    folder.write("b.sls", "{% include 'nope' ignore missing %}\na: {runner.x.b: []}")
    rules = folder.rule_set(reactor_map=[{"x": ["a.sls", "b.sls"]}])
    snapshot = rules.load()
    assert _problems(snapshot, folder) == [
        "a.sls:2: the include 'nope' is not found: it is looked for beside the file and in file_roots"
    ]
    assert [call.function for call in _run(snapshot)] == ["x.b"]
    folder.write("nope", "c: {runner.x.c: []}\n")
    assert [call.function for call in _run(rules.load(snapshot))] == ["x.c", "x.c", "x.b"]


def test_unchanged_files_are_not_made_again(folder):
    """The same rule objects, the same version; only what changed is new."""
    for number in range(5):
        folder.rule(f"r/{number}.yaml", f"r{number}")
    folder.write("a.sls", "a: {runner.x.a: []}")
    rules = folder.rule_set(rules=["r"], reactor_map=[{"x": "a.sls"}])
    first = rules.load()
    again = rules.load(first)
    assert again.same_as(first)
    assert (first.version, again.version) == (1, 1)
    folder.rule("r/3.yaml", "other")
    second = rules.load(again)
    assert second.version == 2
    same = [rule for rule in second.rules if any(rule is old for old in first.rules)]
    assert [rule.name for rule in same] == ["r0", "r1", "r2", "r4"]


def test_a_touched_file_is_the_same(folder):
    """Another time of change, the same text: nothing is new."""
    path = folder.rule("a.yaml", "a")
    rules = folder.rule_set(rules=["a.yaml"])
    first = rules.load()
    os.utime(path, ns=(10**9, 10**9))
    assert rules.load(first).rules[0] is first.rules[0]


def test_a_file_that_is_written_twice_in_one_tick(folder):
    """Young files are read again, for their time of change may not tell two writes apart."""
    path = folder.rule("a.yaml", "a")
    os.utime(path, ns=(10**9, 10**9))
    rules = folder.rule_set(rules=["a.yaml"], clock=lambda: 10**9 + 5)
    first = rules.load()
    assert first.state.texts[path].stamp is None
    folder.rule("a.yaml", "b")
    os.utime(path, ns=(10**9, 10**9))
    assert _names(rules.load(first)) == ["b"]


def test_what_is_deleted_is_gone(folder):
    """No rule outlives its file, and a map says what it misses."""
    path = folder.rule("r/a.yaml", "a")
    reaction = folder.write("a.sls", "a: {runner.x.a: []}")
    rules = folder.rule_set(rules=["r"], reactor_map=[{"x": "a.sls"}])
    first = rules.load()
    Path(path).unlink()
    Path(reaction).unlink()
    second = rules.load(first)
    assert _names(second) == []
    assert len(second.problems) == 1
    assert not second.problems[0].kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("y: {lcal.test.ping: [{tgt: x}]}", "unknown reaction type 'lcal': did you mean 'local'?"),
        ("y: {local.test.ping: []}", "the option 'tgt' is missing"),
        ("y:\n  local.test.ping: [\n", "did not find expected"),
    ],
)
def test_a_reactor_file_without_jinja_is_read_whole_at_load(folder, text, problem):
    """It is the same for every event, so it can be refused, and the last good version stays."""
    folder.write("a.sls", "y: {local.test.ping: [{tgt: good}]}")
    rule_set = folder.rule_set(reactor_map=[{"x": "a.sls"}])
    first = rule_set.load()
    folder.write("a.sls", text)
    second = rule_set.load(first)
    (found,) = _problems(second, folder)
    assert found.startswith("a.sls:")
    assert problem in found
    assert second.problems[0].kept
    assert [call.target for call in _run(second)] == ["good"]


def test_what_an_event_decides_waits_for_one(folder):
    """With Jinja in it, a file may be right for some events and wrong for others."""
    folder.write("a.sls", "y: {{ '{' }}lcal.test.ping: [{tgt: x}]}")
    snapshot = folder.rule_set(reactor_map=[{"x": "a.sls"}]).load()
    assert not snapshot.problems


DEEP = [
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "not " * 20_000 + "1 }}",
    "{{ data" + ".a" * 20_000 + " }}",
    "{{ 1" + "|string" * 20_000 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "{% for i in [1] %}" * 100 + "{{ i }}" + "{% endfor %}" * 100,
    "{% include 'f.sls' %}",
    "a: " + "[" * 20_000 + "]" * 20_000,
]
DEEP_WHEN = [
    "(" * 5000 + "1" + ")" * 5000,
    "data.x" + " and data.x" * 20_000,
    "not " * 20_000 + "1",
]


@pytest.mark.parametrize("text", DEEP)
def test_a_reactor_file_that_nests_too_deeply_harms_no_other(tmp_path, text):
    """It is refused when it is read, or fails for its event: it ends no load."""
    (tmp_path / "f.sls").write_text(text)
    (tmp_path / "good.yaml").write_text("good: {on: x, do: [{event: y}]}\n")
    one = RuleSet(
        reactor_map=[{"x": str(tmp_path / "f.sls")}],
        rules=[str(tmp_path / "good.yaml")],
        conf_dir=str(tmp_path),
    )
    snapshot = one.load()
    assert "good" in [rule.name for rule in snapshot.rules]
    event = Event("x", {"x": 1}, 1, "b")
    failed = [str(problem) for problem in snapshot.problems]
    for rule in snapshot.rules:
        if rule.style == "salt":
            with pytest.raises(RuleError) as caught:
                rule.plan(event, {})
            failed.append(str(caught.value))
    assert len(failed) == 1
    assert failed[0].startswith(str(tmp_path / "f.sls"))
    convert(text, "f.sls", ["x"], "f")


@pytest.mark.parametrize("text", DEEP_WHEN)
def test_a_condition_that_nests_too_deeply_is_an_error_with_its_place(tmp_path, text):
    """And a file of before stays in force."""
    path = tmp_path / "r.yaml"
    path.write_text("r: {on: x, do: [{event: y}]}\n")
    one = RuleSet(rules=[str(path)], conf_dir=str(tmp_path))
    good = one.load()
    path.write_text(f"r:\n  on: x\n  when: {text}\n  do: [{{event: y}}]\n")
    after = one.load(good)
    [problem] = after.problems
    assert str(problem).startswith(f"{path}:3: r.when: it nests too deeply")
    assert problem.kept
    assert [rule.name for rule in after.rules] == ["r"]


def test_an_error_that_nobody_thought_of_is_one_of_its_file(tmp_path, monkeypatch):
    """Whatever goes wrong with it: the other files are read."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"{name}: {{on: x, do: [{{event: y}}]}}\n")
    one = RuleSet(rules=[str(tmp_path)], conf_dir=str(tmp_path))
    build = Builder.build

    def failing(self, value, file, lines):
        if "a" in value:
            raise KeyError("odd")
        return build(self, value, file, lines)

    monkeypatch.setattr(Builder, "build", failing)
    snapshot = one.load()
    assert [rule.name for rule in snapshot.rules] == ["b"]
    [problem] = snapshot.problems
    assert str(problem) == f"{tmp_path / 'a.yaml'}: it cannot be read: KeyError: 'odd'"
