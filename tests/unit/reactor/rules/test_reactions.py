"""Both schemas and all four types of Salt's reactions."""

import pytest

from bus.yamlfile import load
from reactor.errors import RuleError
from reactor.rules.model import Source
from reactor.rules.reactions import read_calls


def _read(text, warnings=None):
    value, lines = load(text, "r.sls")
    warn = (warnings if warnings is not None else []).append
    return read_calls(value, lines, "r.sls", {"a": 9}, warn)


def _one(text):
    [call] = _read(text)
    return call


@pytest.mark.parametrize("kind", ["local", "cmd"])
def test_local_in_the_old_schema(kind):
    """arg, kwarg, expr_form; other options go with the job."""
    call = _one(
        f"a: {{{kind}.cmd.run: [{{tgt: 'web*'}}, {{expr_form: pcre}}, {{arg: [ls, 5]}}, "
        "{kwarg: {cwd: /}}, {ret: smtp}, {timeout: 9}]}"
    )
    assert (call.kind, call.function, call.ident) == ("local", "cmd.run", "a")
    assert (call.target, call.target_type) == ("web*", "pcre")
    assert (call.args, call.kwargs) == (("ls", 5), {"cwd": "/"})
    assert call.options == {"ret": "smtp"}  # a timeout is the client's, and ends no job
    assert call.source == Source("r.sls", 9)


def test_local_in_the_new_schema():
    """args: mappings are keywords, all else is positional."""
    call = _one("a: {local.cmd.run: [{tgt: [x, y]}, {tgt_type: list}, {args: [{cmd: ls}, 5]}]}")
    assert (call.target, call.target_type) == (["x", "y"], "list")
    assert (call.args, call.kwargs) == ((5,), {"cmd": "ls"})


def test_single_values_stand_for_lists():
    """Salt takes arg: x, args: {..} and kwarg as a list, too."""
    assert _one("a: {local.x.y: [{tgt: 5}, {arg: ls}]}").args == ("ls",)
    assert _one("a: {local.x.y: [{tgt: 5}, {arg: ls}]}").target == "5"
    assert _one("a: {local.x.y: [{tgt: x}, {args: {b: 1}}]}").kwargs == {"b": 1}
    assert _one("a: {local.x.y: [{tgt: x}, {kwarg: [{b: 1}, {c: 2}]}]}").kwargs == {"b": 1, "c": 2}
    assert _one("a: {local.x.y: {tgt: x}}").target == "x"


@pytest.mark.parametrize("kind", ["runner", "wheel"])
def test_master_functions(kind):
    """Arguments beside the function, arg and kwarg, or args."""
    old = _one(f"a: {{{kind}.x.y: [{{mods: orch}}, {{pillar: {{b: 1}}}}]}}")
    assert (old.kind, old.args, old.kwargs) == (kind, (), {"mods": "orch", "pillar": {"b": 1}})
    older = _one(f"a: {{{kind}.x.y: [{{arg: [1]}}, {{kwarg: {{b: 2}}}}]}}")
    assert (older.args, older.kwargs) == ((1,), {"b": 2})
    new = _one(f"a: {{{kind}.x.y: [{{args: [{{mods: orch}}, 3]}}]}}")
    assert (new.args, new.kwargs) == ((3,), {"mods": "orch"})


@pytest.mark.parametrize(
    ("args", "given", "named"),
    [
        ("[1, x]", (1, "x"), {}),
        ("[{a: 1}, {b: [2]}]", (), {"a": 1, "b": [2]}),
        ("{a: 1, b: 2}", (), {"a": 1, "b": 2}),
        ("[1, {b: 2}]", (1, {"b": 2}), {}),
        ("[{a: 1, b: 2}]", ({"a": 1, "b": 2},), {}),
        ("[]", (), {}),
    ],
)
def test_caller_functions(args, given, named):
    """A list of one-key mappings is the new schema, any other the old, where all is positional."""
    call = _one(f"a: {{caller.x.y: [{{args: {args}}}]}}")
    assert (call.kind, call.function) == ("caller", "x.y")
    assert (call.args, call.kwargs, call.options) == (given, named, {})


def test_caller_beside_arg_and_kwarg():
    """Args is all that counts."""
    call = _one("a: {caller.x.y: [{args: [1]}, {arg: [2]}, {kwarg: {b: 3}}]}")
    assert (call.args, call.kwargs, call.options) == ((1,), {}, {})
    call = _one("a: {caller.x.y: [{arg: [2]}, {kwarg: {b: 3}}]}")
    assert (call.args, call.kwargs) == ((2,), {"b": 3})


@pytest.mark.parametrize(
    "text",
    [
        "a: {local: [cmd.run, {tgt: web1}, {arg: [ls]}, {order: 3}]}",
        "a: {cmd: [{tgt: web1}, {arg: [ls]}, cmd.run]}",
        "a: {local.cmd.run: [{tgt: web1}, {arg: [ls]}]}",
    ],
)
def test_the_long_form(text):
    """The function may stand among its options, as in any of Salt's files."""
    call = _one(text)
    assert (call.kind, call.function, call.target, call.args) == (
        "local",
        "cmd.run",
        "web1",
        ("ls",),
    )


def test_the_long_form_of_the_others():
    """Without options too."""
    assert _one("a: {wheel: [key.list_all]}").function == "key.list_all"
    call = _one("a: {runner: [state.orch, {mods: x}]}")
    assert (call.function, call.kwargs) == ("state.orch", {"mods": "x"})


def test_short_forms():
    """A function without arguments."""
    assert _one("a: wheel.key.list_all").function == "key.list_all"
    assert _one("a: {wheel.key.list_all: }").kind == "wheel"
    assert _one("a: {wheel.key.list_all: []}").kwargs == {}


def test_args_beats_arg_and_kwarg():
    """With a word about it."""
    warnings = []
    [call] = _read("a: {local.x.y: [{tgt: x}, {args: [1]}, {arg: [2]}, {kwarg: {b: 3}}]}", warnings)
    assert (call.args, call.kwargs) == ((1,), {})
    [warning] = warnings
    assert (warning.file, warning.line, warning.path) == ("r.sls", 1, "a: local.x.y")
    assert warning.problem == "'args' is used, 'arg' and 'kwarg' beside it are not"


def test_the_order():
    """As declared, unless an order says otherwise."""
    text = """
a: {runner.x.a: [{order: last}]}
b: {runner.x.b: [], wheel.x.c: []}
d: {runner.x.d: [{order: 2}]}
e: {runner.x.e: [{order: first}]}
f: {runner.x.f: [{order: -1}]}
g: {runner.x.g: [{order: 1}]}
h: {runner.x.h: [{order: -2}]}
i: {runner.x.i: [{order: 1.5}]}
j: {runner.x.j: [{order: 5000}]}
"""
    assert [call.function[-1] for call in _read(text)] == list("egidjbchfa")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- a", "line 1 of the rendered file: a reactor file is a mapping of IDs, not list"),
        ("\na: 5", "line 2 of the rendered file: a: a reaction is a mapping"),
        ("a: {}", "line 1 of the rendered file: a: a reaction is a mapping"),
        (
            "a:\n  locl.x.y: []",
            (
                "line 2 of the rendered file: a: locl.x.y: unknown reaction type 'locl': "
                "did you mean 'local'?"
            ),
        ),
        ("a: zzz.x.y", "unknown reaction type 'zzz': there are local, cmd, runner, wheel, caller"),
        ("a: {local.ping: []}", "'local.ping' names no function"),
        ("a: {local.x.y: [{arg: 1}]}", "the option 'tgt' is missing"),
        ("a: {local.x.y: [{tgt: {b: 1}}]}", "tgt is text or a list, not dict"),
        ("a: {runner.x.y: [b]}", "'b' is no 'name: value'"),
        ("a: {runner.x.y: [{order: soon}]}", "order is a number"),
        ("a: {runner.x.y: [{kwarg: 5}]}", "kwarg is a mapping"),
    ],
)
def test_what_cannot_be_read(text, error):
    """File, line of the rendered text, ID and function."""
    with pytest.raises(RuleError) as caught:
        _read(text)
    assert str(caught.value).startswith("r.sls: line")
    assert error in str(caught.value)
    assert caught.value.rendered


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: {local.x.y: [{tgt: x}, {arggs: [1]}]}", "'arggs' is not known and has no effect: did"),
        ("a: {local.x.y: [{tgt: x}, {tgt_typ: list}]}", "did you mean 'tgt_type'?"),
        ("a: {runner.x.y: [{args: [1]}, {zzz: 2}]}", "arguments belong into 'args'"),
    ],
)
def test_a_key_that_means_nothing(text, word):
    """It is passed on as Salt does, and said: mostly it is a slip of the finger."""
    warnings = []
    _read(text, warnings)
    [warning] = warnings
    assert (warning.file, warning.path.partition(":")[0]) == ("r.sls", "a")
    assert word in warning.problem
