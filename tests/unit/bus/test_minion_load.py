"""Loading what a worker runs."""

import pytest

from bus.errors import FunctionNotFoundError
from bus.loader.custom import synced_dir
from bus.minion.load import load


@pytest.fixture
def opts(tmp_path):
    modules = tmp_path / "cache/extmods/modules"
    modules.mkdir(parents=True)
    (modules / "mine.py").write_text(
        "def hello(name, times=1):\n"
        "    __context__['retcode'] = 3\n"
        "    return [__grains__['colour'], name * times]\n"
    )
    grains = tmp_path / "cache/extmods/grains"
    grains.mkdir()
    (grains / "paint.py").write_text("def paint():\n    return {'colour': 'red'}\n")
    return {"id": "web1", "cachedir": str(tmp_path / "cache"), "module_dirs": []}


def test_synced_files_are_loaded(opts):
    """Modules and grains that came from the master are there, and arguments are expanded."""
    context = {}
    loaded = load(opts, context)
    assert loaded.grains["colour"] == "red"
    assert loaded.available("mine.hello")
    assert not loaded.available("mine.bye")
    assert loaded.call("mine.hello", ["x", {"__kwarg__": True, "times": 2}]) == ["red", "xx"]
    assert context["retcode"] == 3
    with pytest.raises(FunctionNotFoundError):
        loaded.call("mine.bye", [])


def test_shipped_functions_are_loaded(opts):
    """The functions that come with the bus are there too."""
    assert load(opts, {}).call("test.ping", []) is True


def test_where_synced_files_are(opts, tmp_path):
    """They are under the cache directory."""
    assert synced_dir(opts, "modules") == tmp_path / "cache/extmods/modules"
