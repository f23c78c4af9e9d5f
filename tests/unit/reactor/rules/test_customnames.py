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
    assert functions_of(text, "mysite") == {"site.list"}
    assert functions_of("def run(): pass", "backup") == {"backup.run"}


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
    assert functions_of(text, "m") == names
