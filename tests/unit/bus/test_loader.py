"""Finding, loading and calling functions."""

import logging
import re
import sys
import textwrap
import threading

import pytest

from bus import loader
from bus.errors import ArgumentsError, FunctionNotFoundError, LoadError
from bus.loader import sources


@pytest.fixture
def place(tmp_path):
    """Write module files into a directory and load them."""
    return Place(tmp_path)


class Place:
    def __init__(self, path):
        self.path = path
        self.context = {}
        self.opts = {"module_dirs": [str(path / "one")], "colour": "red"}

    def write(self, name, text):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def load(self):
        return loader.execution_modules(
            self.opts,
            grains={"os": "Debian"},
            context=self.context,
            dirs=[self.path / "two"],
        )


def test_calls_a_shipped_function(place):
    """What comes with the program is found by module and function."""
    assert loader.call(place.load(), "test.ping") is True


def test_colon_is_a_dot(place):
    """A function may be written module:function."""
    assert loader.call(place.load(), "test:echo", ["x"]) == "x"


def test_dunders_are_there_before_the_module_runs(place):
    """Options, grains, context and the functions themselves are globals while it loads."""
    place.write(
        "one/mine.py",
        """
        SEEN = (__opts__["colour"], __grains__["os"])
        def seen():
            __context__["called"] = True
            return [*SEEN, __salt__["test.echo"](5)]
        """,
    )
    assert loader.call(place.load(), "mine.seen") == ["red", "Debian", 5]
    assert place.context == {"called": True}


def test_loads_only_what_is_asked_for(place):
    """A module does not run until one of its functions is looked up."""
    place.write("one/mine.py", "__context__['ran'] = True\ndef fun(): pass")
    functions = place.load()
    functions["test.ping"]
    assert place.context == {}
    assert "mine.fun" in functions
    assert place.context == {"ran": True}


def test_a_module_runs_once(place):
    """Each module is loaded once for an object, however often it is asked."""
    place.write(
        "one/mine.py",
        "__context__['n'] = __context__.get('n', 0) + 1\ndef a(): pass\ndef b(): pass",
    )
    functions = place.load()
    functions["mine.a"], functions["mine.b"], list(functions), len(functions)
    assert place.context == {"n": 1}


def test_later_directories_win(place):
    """Synced modules beat those of module_dirs, which beat the shipped ones."""
    place.write("one/test.py", "def ping(): return 'one'")
    assert loader.call(place.load(), "test.ping") == "one"
    place.write("two/test.py", "def ping(): return 'two'")
    assert loader.call(place.load(), "test.ping") == "two"


def test_a_new_object_sees_a_changed_file(place):
    """A file that changes within the same second, with the same length, is read anew."""
    place.write("two/mine.py", "def value(): return 1")
    assert loader.call(place.load(), "mine.value") == 1
    place.write("two/mine.py", "def value(): return 2")
    assert loader.call(place.load(), "mine.value") == 2


def test_writes_nothing_into_a_users_directory(place):
    """No byte code is left beside custom modules."""
    place.write("one/mine.py", "def value(): return 1")
    loader.call(place.load(), "mine.value")
    assert [path.name for path in (place.path / "one").iterdir()] == ["mine.py"]


def test_modules_do_not_shadow_others(place):
    """A module called json does not take the place of Python's."""
    import json

    place.write("one/json.py", "def value(): return 1")
    assert loader.call(place.load(), "json.value") == 1
    assert sys.modules["json"] is json


def test_hides_private_and_imported_functions(place):
    """Only what a module defines itself and does not begin with _ can be called."""
    place.write(
        "one/mine.py",
        """
        from os.path import join
        from textwrap import dedent as also
        value = 5
        class Thing: pass
        def _private(): pass
        def public(): pass
        """,
    )
    assert [name for name in place.load() if name.startswith("mine.")] == ["mine.public"]


def test_function_aliases(place):
    """__func_alias__ gives a function a name that Python would not allow as such."""
    place.write("one/mine.py", "__func_alias__ = {'list_': 'list'}\ndef list_(): return 1")
    functions = place.load()
    assert loader.call(functions, "mine.list") == 1
    assert "mine.list_" not in functions


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def __virtual__(): return 'other'", "other"),
        ("__virtualname__ = 'other'", "other"),
        ("__virtualname__ = 'other'\ndef __virtual__(): return True", "other"),
        ("__virtualname__ = 'other'\ndef __virtual__(): return 'third'", "third"),
        ("def __virtual__(): return True", "mine"),
    ],
)
def test_virtual_names(place, text, name):
    """A module may say what it is called."""
    place.write("one/mine.py", f"{text}\ndef fun(): return 1")
    functions = place.load()
    assert [full for full in functions if full.endswith(".fun")] == [f"{name}.fun"]


def test_a_virtual_name_may_take_a_shipped_one(place):
    """The order of look-ups does not decide who is meant: the later directory does."""
    place.write("one/mine.py", "__virtualname__ = 'test'\ndef ping(): return 'mine'")
    assert loader.call(place.load(), "test.ping") == "mine"


@pytest.mark.parametrize(
    ("answer", "reason"), [("False", "no reason"), ("(False, 'needs git')", "needs git")]
)
def test_a_module_that_refuses(place, answer, reason):
    """Its functions say where and why; the name that it declared stays with who serves it."""
    file = place.write(
        "one/mine.py",
        f"__virtualname__ = 'test'\ndef __virtual__(): return {answer}\ndef f(): pass",
    )
    functions = place.load()
    with pytest.raises(LoadError, match=rf"{re.escape(str(file))}:2: .*{reason}"):
        functions["mine.f"]
    assert loader.call(functions, "test.ping") is True


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\ndef f(:\n", 2, "invalid syntax"),
        ("def f(): pass\n\nimport no_such_thing\n", 3, "No module named 'no_such_thing'"),
        ("raise SystemExit(3)", 1, "SystemExit: 3"),
        ("def g():\n    raise ValueError('two\\nlines')\ng()\n", 2, "ValueError: two lines"),
        ("def __virtual__():\n    return 1 / 0\n", 2, "ZeroDivisionError"),
    ],
)
def test_a_module_that_does_not_load(place, text, line, reason):
    """The error names file, line and reason, and the other modules work."""
    file = place.write("one/mine.py", text)
    functions = place.load()
    with pytest.raises(LoadError) as caught:
        loader.call(functions, "mine.f")
    assert f"{file}:{line}: " in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine.f" not in functions
    assert loader.call(functions, "test.ping") is True
    assert list(functions.failures()) == ["mine"]


def test_a_file_that_cannot_be_read(place):
    """A module that is a dangling promise is an error of its own functions only."""
    file = place.write("one/mine.py", "def f(): pass")
    functions = place.load()
    file.unlink()
    with pytest.raises(LoadError, match="FileNotFoundError"):
        functions["mine.f"]


def test_packages_with_relative_imports(place):
    """A directory with __init__.py is a module; its parts change with it."""
    place.write("one/pack/__init__.py", "from ._part import VALUE\ndef value(): return VALUE")
    place.write("one/pack/_part.py", "VALUE = 1")
    place.write("one/no_package/readme.txt", "")
    assert loader.call(place.load(), "pack.value") == 1
    place.write("one/pack/_part.py", "VALUE = 'changed'")
    assert loader.call(place.load(), "pack.value") == "changed"


def test_dataclasses_work(place):
    """A module's classes can look their module up, as dataclasses do."""
    place.write(
        "one/mine.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass, asdict
        @dataclass
        class Pair:
            left: int
        def pair(): return asdict(Pair(1))
        """,
    )
    assert loader.call(place.load(), "mine.pair") == {"left": 1}


def test_odd_files_are_no_modules(place):
    """Private files, other endings and names with dashes are passed over."""
    for name in ("_private.py", "notes.txt", "my-module.py", ".hidden.py"):
        place.write(f"one/{name}", "def f(): pass")
    assert [name for name in place.load() if name.endswith(".f")] == []


def test_a_missing_function_names_the_nearest(place):
    """The error helps who mistyped."""
    with pytest.raises(FunctionNotFoundError, match=r"no function 'test.pin': .*test\.ping"):
        loader.call(place.load(), "test.pin")
    with pytest.raises(FunctionNotFoundError, match=r"did you mean service\.restart"):
        loader.call(place.load(), "servic.restart")
    with pytest.raises(FunctionNotFoundError, match=r"sys\.list_functions"):
        loader.call(place.load(), "qqqqqq.wwwwwwww")
    with pytest.raises(FunctionNotFoundError, match=r"write module\.function"):
        loader.call(place.load(), "ping")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("test.pin", "no function 'test.pin': did you mean test.ping?"),
        ("user.add", "no function 'user.add': sys.list_functions shows them all"),
        ("state.highstate", "no function 'state.highstate': there are no states here"),
        ("state.orchestrate", "no function 'state.orchestrate': there is no orchestration here"),
        ("pillar.get", "no function 'pillar.get': there is no pillar here"),
        ("mine.get", "no function 'mine.get': there is no mine here"),
        ("saltutil.refresh_pillar", "no function 'saltutil.refresh_pillar': there is no pillar"),
        ("event.qqqqqqqq", "no function 'event.qqqqqqqq': there are event.fire, event."),
    ],
)
def test_a_missing_function_is_not_explained_by_a_stranger(place, name, told):
    """Only what looks alike is proposed, and of what Salt has and this has not, it says so."""
    with pytest.raises(FunctionNotFoundError) as caught:
        loader.call(place.load(), name)
    assert str(caught.value).startswith(told)


def test_a_module_of_salts_name_is_the_users_own(place):
    """Whoever brings a module 'state' is told of its functions, not that there are no states."""
    place.write("one/state.py", "def apply(): pass")
    with pytest.raises(FunctionNotFoundError, match=r"did you mean state\.apply\?"):
        loader.call(place.load(), "state.aply")


def test_is_a_mapping(place):
    """Looked up as a dict, a missing function is a KeyError too."""
    functions = place.load()
    assert functions.get("no.such") is None
    with pytest.raises(KeyError) as caught:
        functions["no.such"]
    assert not str(caught.value).startswith('"')
    assert set(functions.keys()) >= {"test.ping", "cmd.run"}


def test_attributes_for_templates(place):
    """functions.module.function is the same function."""
    functions = place.load()
    assert functions.test.ping is functions["test.ping"]
    with pytest.raises(AttributeError):
        _ = functions.no_such_module
    with pytest.raises(AttributeError):
        _ = functions._private
    with pytest.raises(AttributeError):
        _ = functions.test._private


def test_plain_mappings_can_be_called_too():
    """Call works with any mapping of functions."""
    assert loader.call({"a.b": lambda x: x}, "a.b", [1]) == 1
    with pytest.raises(FunctionNotFoundError, match=r"there are a\.b"):
        loader.call({"a.b": print}, "a.c")


def test_arguments_that_do_not_fit(place):
    """The error shows the signature, without annotations."""
    with pytest.raises(ArgumentsError, match=r"missing.*'length'; it takes test\.sleep\(length\)"):
        loader.call(place.load(), "test.sleep")
    with pytest.raises(ArgumentsError, match="unexpected keyword argument 'x'"):
        loader.call(place.load(), "test.ping", [], {"x": 1})


def test_a_type_error_inside_is_not_the_callers(place):
    """Only arguments that do not fit are an ArgumentsError."""
    place.write("one/mine.py", "def f(): return len(5)")
    with pytest.raises(TypeError) as caught:
        loader.call(place.load(), "mine.f")
    assert not isinstance(caught.value, ArgumentsError)


def test_modules_may_use_each_other_while_they_load(place):
    """The lock is no trap for a module that asks for another at import."""
    place.write("one/aa.py", "VALUE = __salt__['bb.value']()\ndef value(): return VALUE")
    place.write("one/bb.py", "def value(): return 7")
    assert loader.call(place.load(), "aa.value") == 7


def test_threads_share_one_load(place):
    """Many threads that ask at once load a module once."""
    place.write("one/mine.py", "__context__['n'] = __context__.get('n', 0) + 1\ndef f(): return 1")
    functions, found = place.load(), []
    threads = [
        threading.Thread(target=lambda: found.append(functions["mine.f"]())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [1] * 8
    assert place.context == {"n": 1}


def test_runner_dirs(tmp_path):
    """Runners come from the program and from runner_dirs."""
    (tmp_path / "mine.py").write_text("def f(): return __opts__['x']")
    functions = loader.runners({"runner_dirs": (str(tmp_path),), "x": 3})
    assert loader.call(functions, "mine.f") == 3
    assert loader.call(functions, "test.ping") is True


@pytest.mark.parametrize(
    "functions",
    [
        loader.execution_modules({}, grains={}),
        loader.runners({}),
        loader.wheels({}),
    ],
    ids=["modules", "runners", "wheels"],
)
def test_everything_shipped_loads_and_is_documented(functions):
    """No shipped module fails, and every function has a docstring with an example."""
    problems = functions.failures().values()
    # A module may be of no use on this host, such as pkg where there is no package manager.
    assert [problem for problem in problems if "__virtual__() refused" not in problem] == []
    for name, function in functions.items():
        assert "CLI example: " in (function.__doc__ or ""), name


def test_grains_layers(tmp_path, caplog):
    """Custom modules, the grains file and the options win over each other in this order."""
    custom = tmp_path / "_grains"
    custom.mkdir()
    (custom / "mine.py").write_text(
        "def a(): return {'x': 'module', 'y': 'module', 'os': 'mine'}\n"
        "def b(grains): return {'seen': grains['x'], 'kernel_seen': grains['kernel']}\n"
        "def broken(): return 1 / 0\n"
        "def odd(): return 5\n"
        "def none(): return None\n"
    )
    (custom / "worse.py").write_text("def f(:")
    (tmp_path / "grains").write_text("y: file\nz: file\n")
    opts = {"config_dir": str(tmp_path), "grains": {"z": "option"}, "id": "web1"}
    with caplog.at_level(logging.ERROR):
        found = loader.grains(opts, [custom])
    assert (found["x"], found["y"], found["z"]) == ("module", "file", "option")
    assert (found["os"], found["seen"], found["id"]) == ("mine", "module", "web1")
    assert found["kernel_seen"] == found["kernel"]
    assert "mine.broken failed: ZeroDivisionError" in caplog.text
    assert "mine.odd returned no dict" in caplog.text
    assert "worse.py:1" in caplog.text


@pytest.mark.parametrize("content", [b"a: [", b"- 1\n", b"\xff\xfe\xff"])
def test_a_broken_grains_file_is_left_out(tmp_path, caplog, content):
    """It is named in the log, and the host still has its other grains."""
    (tmp_path / "grains").write_bytes(content)
    with caplog.at_level(logging.ERROR):
        found = loader.grains({"config_dir": str(tmp_path)})
    assert found["kernel"]
    assert str(tmp_path / "grains") in caplog.text


def test_an_empty_grains_file_is_none(tmp_path):
    """A file with only comments sets nothing."""
    (tmp_path / "grains").write_text("# nothing\n")
    assert "kernel" in loader.grains({"config_dir": str(tmp_path)})


def test_a_file_that_goes_away_while_it_is_listed(tmp_path):
    """Whether it would rename itself cannot be known any more."""
    assert sources._mentions_virtual(tmp_path / "gone.py") is False
