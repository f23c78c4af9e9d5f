"""Which functions a custom module has, without running it."""

import pytest

from reactor.rules.customnames import functions_of


def test_functions_are_named_as_they_are_called():
    """Public ones, under the module's virtual name and the alias of the function."""
    text = (
        "import nothing_like_it\n"
        "__virtualname__ = 'site'\n"
        "__func_alias__ = {'list_': 'list'}\n"
        "def list_(): pass\n"
        "def _own(): pass\n"
        "class C:\n    def method(self): pass\n"
    )
    assert set(functions_of(text, "mysite")) == {"site.list"}
    assert set(functions_of("def run(): pass", "backup")) == {"backup.run"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def x(:", set()),
        ("\0", set()),
        ("(" * 5000, set()),
        ("__virtualname__ = name()\ndef f(): pass", {"m.f"}),
        ("__func_alias__ = 5\ndef f(): pass", {"m.f"}),
    ],
)
def test_odd_files_are_read_as_far_as_they_go(text, names):
    """What is wrong with one is said by the minion that is to call it."""
    assert set(functions_of(text, "m")) == names


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", "()"),
        ("name", "(name)"),
        ("a, /, b, c=1, *, d, e=2", "(a, /, b, c=None, *, d, e=None)"),
        ("a=1, *rest, b, **more", "(a=None, *rest, b, **more)"),
        ("a: int = {}, *, b: str", "(a=None, *, b)"),
    ],
)
def test_the_arguments_that_a_function_takes(written, shown):
    """As the interpreter would see them, but for what their defaults are."""
    (signature,) = functions_of(f"def run({written}): pass", "m").values()
    assert str(signature) == shown


def test_a_decorated_function_may_take_anything():
    """What a decorator makes of it shows only when it is run."""
    (signature,) = functions_of("@changed\ndef run(a): pass", "m").values()
    assert str(signature) == "(*args, **kwargs)"
