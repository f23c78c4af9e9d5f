"""The runners, against real buses and a stand-in for the link server."""

import io
import json
import re
import threading
import time

import pytest

from bus import loader
from bus.config import master_config, private_dir
from bus.errors import NotRunningError
from bus.event import MinionEvent, get_event
from bus.keys import KeyStore
from bus.modules._errors import InvocationError
from bus.runners import state as state_module
from tests.unit.bus.loader_tools import link, master_bus, minion_bus, runner

KEY = b"0" * 40


@pytest.fixture
def opts(tmp_path):
    """A master's options."""
    return master_config({"sock_dir": str(tmp_path / "s"), "pki_dir": str(tmp_path / "pki")})


@pytest.fixture(autouse=True)
def sock_dir(tmp_path):
    """The directory of the sockets."""
    (tmp_path / "s").mkdir(mode=0o700)


@pytest.fixture
def hear(opts):
    """The master's bus."""
    with master_bus(opts) as heard:
        yield heard


def test_test(opts):
    """What proves that runners run."""
    test = runner("test", opts)
    assert test.ping() is True
    assert test.arg(1, a=2) == {"args": [1], "kwargs": {"a": 2}}
    assert test.sleep(0) is True


def test_event_send(opts, hear):
    """The data is fired flat; explicit data beats keywords."""
    assert runner("event", opts).send("my/tag", {"a": 1}, a=2, b=2, __pub_user="x") is True
    assert hear() == ("my/tag", {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="data is list"):
        runner("event", opts).send("my/tag", [1])


def test_event_send_without_a_bus(opts, monkeypatch):
    """Nobody there: the error says so."""
    event = runner("event", opts)
    monkeypatch.setitem(event.functions["event.send"].__globals__, "_MILLISECONDS", 100)
    with pytest.raises(NotRunningError):
        event.send("my/tag")


def test_salt_cmd(opts):
    """Execution functions run on the master, loaded once."""
    salt = runner("salt", opts)
    assert salt.cmd("test.echo", "x") == "x"
    assert salt.cmd("grains.get", "kernel") == "Linux"
    made = salt.functions["salt.cmd"].__globals__["_functions"]
    assert made() is made()


class Output(io.StringIO):
    """Standard output that remembers how often it was flushed."""

    flushes = 0

    def flush(self):
        self.flushes += 1


@pytest.fixture
def output(monkeypatch):
    """What is printed."""
    made = Output()
    stdout = type("Sys", (), {"stdout": made})
    load = loader.runners
    monkeypatch.setattr(loader, "runners", lambda opts: _with_sys(load(opts), stdout))
    return made


def _with_sys(functions, sys_):
    """Let state.event write elsewhere; pytest itself changes sys.stdout between phases."""
    functions["state.event"].__globals__["sys"] = sys_
    return functions


class Watching:
    """A runner state.event in a thread, and a way to fire until it has seen enough."""

    def __init__(self, opts, *args, **kwargs):
        self.opts = opts
        self.thread = threading.Thread(
            target=runner("state", opts).event, args=args, kwargs=kwargs, daemon=True
        )
        self.thread.start()

    def fire_until_done(self, *tags):
        deadline = time.monotonic() + 20
        with get_event("master", opts=self.opts, listen=False) as event:
            while self.thread.is_alive() and time.monotonic() < deadline:
                for tag in tags:
                    event.fire_event({"z": b"\xff", "a": {"n": 1}, "_stamp": "s"}, tag)
                self.thread.join(0.05)
        assert not self.thread.is_alive()


def test_state_event(opts, hear, output):
    """A line an event: tag, tab, JSON; each flushed; those that match only."""
    Watching(opts, "my/*", count=2).fire_until_done("other/x", "my/tag")
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    tag, _, text = lines[0].partition("\t")
    assert tag == "my/tag"
    assert json.loads(text) == {"z": "\N{REPLACEMENT CHARACTER}", "a": {"n": 1}, "_stamp": "s"}
    assert text.index('"z"') < text.index('"a"')
    assert output.flushes == 2


def test_state_event_pretty(opts, hear, output):
    """Sorted keys, indented by four."""
    Watching(opts, count=1, pretty=True, sock_dir=opts["sock_dir"]).fire_until_done("t")
    assert re.match(r't\t\{\n    "_stamp": "s",\n    "a": \{\n        "n": 1', output.getvalue())


def test_state_event_quiet(opts, hear, output):
    """It only waits."""
    Watching(opts, "salt/(a|b)", count=1, quiet=True).fire_until_done("salt/ab", "salt/b")
    assert output.getvalue() == ""


def test_state_event_count_zero(opts, hear, output):
    """No events are waited for."""
    assert runner("state", opts).event(count=0) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_state_event_ends_clean(opts, hear, monkeypatch, error):
    """Ctrl-C and a closed pipe are no errors."""
    state = runner("state", opts)

    def interrupt(*_args, **_kwargs):
        raise error

    names = state.functions["state.event"].__globals__
    monkeypatch.setitem(names, "_show", interrupt)
    monkeypatch.setattr("bus.event.SaltEvent.get_event", lambda *_a, **_k: {"tag": "t", "data": {}})
    assert state.event() is None


@pytest.mark.parametrize(
    ("pattern", "tag", "expected"),
    [
        ("salt/*", "salt/a/b", True),
        ("salt/\\d+", "salt/123", True),
        ("salt/\\d+", "salt/123x", False),
        ("*", "x", True),
        ("[", "[", True),
    ],
)
def test_state_event_matching(pattern, tag, expected):
    """A glob, else an expression for the whole tag."""
    assert state_module._matcher(pattern)(tag) is expected


def test_values_that_json_cannot_hold():
    """What is neither is shown as Python would."""
    assert state_module._as_text(1 + 2j) == "(1+2j)"


def test_manage(opts):
    """Accepted minions are up or down."""
    store = KeyStore(opts["pki_dir"])
    for ident in ("a", "b", "c"):
        store.submit(ident, KEY, auto_accept=ident != "c")
    manage = runner("manage", opts)
    with pytest.raises(NotRunningError):
        manage.up()
    with link(opts, {"minions.connected": lambda _: ["b", "stranger"]}):
        assert manage.status() == {"up": ["b"], "down": ["a"]}
        assert manage.up() == ["b"]
        assert manage.down() == ["a"]


def test_cache_grains(opts):
    """Grains by glob."""
    grains = {"web1": {"os": "Debian"}, "db1": {"os": "Arch"}}
    with link(opts, {"minions.grains": lambda _: grains}):
        assert runner("cache", opts).grains("web*") == {"web1": {"os": "Debian"}}
        assert list(runner("cache", opts).grains()) == ["db1", "web1"]


def test_jobs(opts):
    """Jobs, their returns, and those that are not over."""
    known = {
        "2": {"fun": "test.ping", "minions": ["a", "b", "c"], "missing": ["c"]},
        "1": {"fun": "cmd.run", "minions": ["a"], "missing": []},
        "3": {"fun": "cmd.run"},
    }
    asked = []
    returns = {"1": {"a": True}, "2": {"a": True}}
    methods = {
        "jobs.list": lambda params: asked.append(params) or known,
        "jobs.lookup": lambda params: returns.get(params["jid"], {}),
    }
    jobs = runner("jobs", opts)
    with link(opts, methods):
        assert list(jobs.list_jobs()) == ["1", "2", "3"]
        jobs.list_jobs(limit=2)
        assert asked[-1] == {"limit": 2}
        assert jobs.lookup_jid(2) == {"a": True}
        assert jobs.active() == {"2": {**known["2"], "Running": ["b"]}}


def test_state_event_of_the_minion(opts, minion_opts, output):
    """``node=minion`` finds the minion's bus by the configuration beside the master's."""
    state = runner("state", opts)
    names = state.functions["state.event"].__globals__
    names["minion_config"] = lambda directory: {str(opts["config_dir"]): minion_opts}[directory]
    private_dir(minion_opts["sock_dir"])
    with minion_bus(minion_opts):
        with pytest.raises(NotRunningError):
            runner("state", opts.with_(sock_dir=f"{opts['sock_dir']}/no")).event()
        thread = threading.Thread(
            target=state.event, kwargs={"node": "minion", "count": 1, "as_json": True}, daemon=True
        )
        thread.start()
        with MinionEvent(minion_opts, listen=False) as event:
            while thread.is_alive():
                event.fire_event({"a": 1, "_stamp": "s"}, "t")
                thread.join(0.05)
    assert json.loads(output.getvalue()) == {"tag": "t", "data": {"a": 1, "_stamp": "s"}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"node": "foo"}, "'master' or 'minion', not 'foo'"), ({"count": "x"}, "number of events")],
)
def test_state_event_refuses(opts, arguments, words):
    """One line that says what it takes."""
    with pytest.raises(InvocationError, match=words):
        runner("state", opts).event(**arguments)
