"""The runners, against real buses and a stand-in for the link server."""

import io
import json
import re
import threading
import time

import pytest

from bus import loader
from bus.client import LocalClient
from bus.config import master_config, private_dir
from bus.errors import ArgumentsError, DataError, NotRunningError
from bus.event import MinionEvent, get_event
from bus.keys import KeyStore
from bus.modules._errors import InvocationError
from bus.runners import state as state_module
from tests.unit.bus.loader_tools import link, master_bus, minion_bus, runner
from tests.unit.bus.test_client import master  # noqa: F401 - a fixture


@pytest.fixture
def opts(tmp_path):
    """A master's options."""
    places = {"sock_dir": "s", "pki_dir": "pki", "state_dir": "state"}
    return master_config({name: str(tmp_path / place) for name, place in places.items()})


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


def test_doc(opts):
    """Of each kind of function, by module, glob or all."""
    doc = runner("doc", opts)
    told = doc.runner("jobs", "test.ping")
    assert {name.partition(".")[0] for name in told} == {"jobs", "test"}
    assert "``reactor run" in told["test.ping"]
    assert set(doc.wheel("key.accept*")) >= {"key.accept"}
    assert set(doc.execution("test.ping")) == {"test.ping"}
    assert "doc.runner" in doc.runner()


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


def matching(*minions):
    """Return a method that stands for the master's targets: those named, or all."""

    def match(params):
        target = params["tgt"]
        return list(minions) if target == "*" else [one for one in minions if one in target]

    return match


def test_manage(opts):
    """Accepted minions are up or down, by each name that Salt has for it."""
    manage = runner("manage", opts)
    with pytest.raises(NotRunningError):
        manage.up()
    methods = {
        "minions.connected": lambda _: ["b", "stranger"],
        "minions.match": matching("a", "b", "c"),
    }
    with link(opts, methods):
        assert manage.status() == {"up": ["b"], "down": ["a", "c"]}
        assert manage.status(["a"], "list") == {"up": [], "down": ["a"]}
        assert manage.up() == manage.present() == manage.alived() == ["b"]
        assert manage.down() == manage.not_present() == manage.not_alived() == ["a", "c"]
        assert manage.present(subset=["a"]) == []
        assert manage.not_alived("c") == ["c"]
        assert manage.up(timeout=3, gather_job_timeout=3) == ["b"]


def test_manage_down_removes_keys(opts):
    """Only of the minions that are down, and only if that is asked for."""
    store = KeyStore(opts["pki_dir"])
    for ident in ("a", "b", "c"):
        store.add(ident, b"0" * 40)
    methods = {"minions.connected": lambda _: ["b"], "minions.match": matching("a", "b", "c")}
    with link(opts, methods):
        assert runner("manage", opts).down(["a"], "list", removekeys=True) == ["a"]
        assert store.list()["minions"] == ["b", "c"]
        assert runner("manage", opts).down() == ["a", "c"]
    assert store.list()["minions"] == ["b", "c"]


def test_manage_versions(master_opts, master, monkeypatch):  # noqa: F811 - the fixture
    """By what is to be done about them."""
    monkeypatch.setattr("bus.__version__", "1.10.0")
    versions = {"a": "1.10.0", "b": "1.9.5", "c": "2.0.0rc1"}
    master.answers["test.version"] = versions.get
    assert runner("manage", master_opts).versions() == {
        "Master": "1.10.0",
        "Up to date": {"a": "1.10.0"},
        "Minion requires update": {"b": "1.9.5"},
        "Minion newer than master": {"c": "2.0.0rc1"},
    }


def test_cache_grains(opts):
    """Grains by target; a minion that never came has none."""
    grains = {"web1": {"os": "Debian"}, "db1": {"os": "Arch"}}
    methods = {
        "minions.grains": lambda _: grains,
        "minions.match": matching("web1", "web2", "db1"),
    }
    with link(opts, methods):
        assert runner("cache", opts).grains("web1,web2", "list") == {"web1": {"os": "Debian"}}
        assert list(runner("cache", opts).grains()) == ["db1", "web1"]


def test_cache_clear_grains(opts):
    """Of those that the target means; who they were is the answer."""
    asked = []
    methods = {
        "minions.forget_grains": lambda params: asked.append(params) or ["web1"],
        "minions.match": matching("web1", "web2", "db1"),
    }
    with link(opts, methods):
        assert runner("cache", opts).clear_grains("web1,web2", "list") == ["web1"]
    assert asked == [{"ids": ["web1", "web2"]}]


def test_cache_keeps_values(opts):
    """By bank and key; what is not there is an empty dict, as in Salt."""
    cache = runner("cache", opts)
    assert cache.store("deploys/web", "last", {"at": 1}) is True
    assert cache.fetch("deploys/web", "last") == {"at": 1}
    assert cache.list("deploys") == ["web"]
    assert cache.flush("deploys/web", "last") is True
    assert cache.fetch("deploys/web", "last") == {}
    with pytest.raises(DataError, match="bank"):
        cache.store("", "k", 1)


def test_salt_execute(master_opts, master):  # noqa: F811 - the fixture
    """On minions; what Salt hands over besides is no argument of the job."""
    salt = runner("salt", master_opts)
    assert salt.execute("*", "test.ping") == dict.fromkeys("abc", True)
    found = salt.execute(["a"], "test.ping", "x", tgt_type="list", kwarg={"k": 1}, __pub_user="y")
    assert found == {"a": True}
    assert master.jobs[-1]["arg"] == ["x", {"__kwarg__": True, "k": 1}]


ONE, TWO, THREE = "20261122090000000001", "20261122093000000002", "20261123090000000003"
JOBS = {
    TWO: {"fun": "test.ping", "tgt": "*", "minions": ["a", "b", "c"], "missing": ["c"]},
    ONE: {"fun": "cmd.run", "arg": ["id"], "tgt": ["a"], "tgt_type": "list", "minions": ["a"]},
    THREE: {"fun": "cmd.script", "tgt": "nobody", "user": "jane"},
}
RETURNS = {
    ONE: {"a": {"return": "root", "retcode": 0, "success": True}},
    TWO: {
        "a": {"return": True, "retcode": 0, "success": True},
        "b": {"return": "no", "retcode": 2, "success": False},
    },
}


@pytest.fixture
def jobs(opts):
    """The runner, with a master that knows three jobs; ``asked`` has what it was asked."""
    module = runner("jobs", opts)
    module.asked = []

    def get(params):
        jid = params["jid"]
        return {**JOBS[jid], "returns": RETURNS.get(jid, {})} if jid in JOBS else {}

    methods = {
        "jobs.list": lambda params: module.asked.append(params) or JOBS,
        "jobs.get": get,
        "jobs.lookup": lambda params: {
            minion: ret["return"] for minion, ret in RETURNS.get(params["jid"], {}).items()
        },
    }
    with link(opts, methods):
        yield module


def test_jobs_listed(jobs):
    """In Salt's form, the oldest first."""
    found = jobs.list_jobs()
    assert list(found) == [ONE, TWO, THREE]
    assert found[ONE] == {
        "Function": "cmd.run",
        "Arguments": ["id"],
        "Target": ["a"],
        "Target-type": "list",
        "User": "",
        "StartTime": "2026, Nov 22 09:00:00.000001",
    }
    jobs.list_jobs(limit=2)
    assert jobs.asked == [{}, {"limit": 2}]


@pytest.mark.parametrize(
    ("filters", "jids"),
    [
        ({"search_function": "cmd.*"}, [ONE, THREE]),
        ({"search_function": ["test.*", "cmd.run"]}, [ONE, TWO]),
        ({"search_target": "b"}, [TWO]),
        ({"search_target": ["nobod?"]}, [THREE]),
        ({"search_target": "a", "limit": 1}, [TWO]),
        ({"start_time": "2026-11-22T09:30:00+00:00"}, [TWO, THREE]),
        ({"end_time": "2026-11-22T09:30:00+00:00"}, [ONE]),
        ({"start_time": "2000-01-01", "end_time": "1999-01-01"}, []),
        ({"start_time": "9000w"}, [ONE, TWO, THREE]),
    ],
)
def test_jobs_filtered(jobs, filters, jids):
    """By function, target and time; filters look at all that the master lists."""
    assert list(jobs.list_jobs(**filters)) == jids
    assert jobs.asked == [{"limit": 10_000}]


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "99999999w"])
def test_jobs_of_no_time(jobs, text):
    """One line with the forms that there are."""
    with pytest.raises(InvocationError, match=r"end_time is .* an age such as 2h"):
        jobs.list_jobs(end_time=text)


def test_one_job(jobs):
    """With its returns; by its id, the newest, or the newest that matches."""
    found = jobs.list_job(TWO)
    assert (found["jid"], found["Function"], found["Minions"]) == (TWO, "test.ping", list("abc"))
    assert found["Result"]["b"]["retcode"] == 2
    assert jobs.print_job(TWO) == {TWO: found}
    assert list(jobs.last_run()) == [THREE]
    assert jobs.last_run(function="test.*") == {TWO: found}
    assert jobs.last_run(target="z") == {}
    assert jobs.lookup_jid(TWO) == {"a": True, "b": "no"}
    assert jobs.exit_success(TWO) == {"a": True, "b": False, "c": False}
    with pytest.raises(ArgumentsError, match="there is no job 5: see"):
        jobs.exit_success("5")


def test_jobs_active(master_opts, master):  # noqa: F811 - the fixture
    """What minions run, with what the master knows of it."""
    master.answers["x.y"] = lambda minion: 1 if minion == "c" else master.QUIET
    with LocalClient(mopts=master_opts) as client:
        jid = client.run_job("*", "x.y", [5])["jid"]
    foreign = {"jid": "mine", "fun": "own.job", "pid": 9}
    row = {"jid": jid, "fun": "x.y", "pid": 7}
    master.answers["saltutil.running"] = {"a": [row], "b": [row, foreign], "c": []}.get
    found = runner("jobs", master_opts).active()
    assert list(found) == [jid, "mine"]
    assert found[jid]["Function"] == "x.y"
    assert found[jid]["Running"] == [{"a": 7}, {"b": 7}]
    assert found[jid]["Returned"] == ["c"]
    assert (found["mine"]["Function"], found["mine"]["StartTime"]) == ("own.job", "")


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
