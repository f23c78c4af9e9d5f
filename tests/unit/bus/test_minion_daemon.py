"""The minion daemon, with real workers and a link and a bus that are stood in for."""

import hashlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import zmq

import bus
from bus import wire
from bus.errors import AlreadyRunningError, BusError, NotRunningError, TooLargeError
from bus.minion import daemon
from bus.minion.accepted import AcceptedJobs
from bus.minion.daemon import Minion
from bus.minion.jobs import Job
from bus.minion.nursery import NurseryError
from tests.unit.bus.minion_tools import SECONDS, alive, children, entry, load, wait_for


class FakeLink:
    """A link whose other end is the test."""

    def __init__(self, hooks, grains):
        self.hooks = hooks
        self.grains = grains
        self.state = "connecting"
        self.lost = 0
        self.spool = {"events": 0}
        self.events = []
        self.returns = []
        self.safe = []
        self.hellos = []
        self.files = {}
        self.closed = False
        self.unfit = None
        self.socket, self.other = zmq.Context.instance().socket(zmq.PAIR), None
        self.socket.bind(f"inproc://{id(self)}")
        self.got = []

    @property
    def sockets(self):
        return [(self.socket, lambda: self.got.append(self.socket.recv()))]

    def have_input(self):
        """Have something to read, as when the master sends."""
        self.other = zmq.Context.instance().socket(zmq.PAIR)
        self.other.connect(f"inproc://{id(self)}")
        self.other.send(b"hello")

    def connect(self):
        self.state = "connected"
        self.hooks.on_state("connected")

    def tick(self):
        return 0.01

    def send_event(self, tag, data, on_done):
        if self.unfit:
            raise self.unfit
        self.events.append((tag, data, on_done))

    def send_return(self, ret, on_done=None):
        self.returns.append(ret)
        self.safe.append(on_done)

    def say_hello(self):
        self.hellos.append(self.grains())

    def request(self, params, on_reply):
        if "files" in params:
            prefix = params["files"] + "/"
            digests = {
                name.removeprefix(prefix): hashlib.sha256(content).hexdigest()
                for name, content in self.files.items()
                if name.startswith(prefix)
            }
            on_reply(digests, "")
        else:
            on_reply(self.files[params["file"]], "")

    def close(self):
        self.closed = True
        self.socket.close(0)
        if self.other:
            self.other.close(0)


class FakeSockets:
    """A minion's bus without sockets of ZeroMQ."""

    def __init__(self, methods, on_event):
        self.methods = methods
        self.on_event = on_event
        self.published = []
        self.handled = []
        self.closed = False
        self.end, self.other = socket.socketpair()
        self.fd = self.end.fileno()

    @property
    def sockets(self):
        return [self.fd]

    def handle(self, which):
        self.handled.append((which, self.end.recv(10)))

    def publish(self, tag, data):
        self.published.append((tag, data))
        return len(self.published)

    def status(self):
        return {"last_seq": len(self.published)}

    def close(self):
        self.closed = True
        self.end.close()
        self.other.close()

    def fire(self, request):
        """Fire ``fire_master`` and return what the acknowledgement waited for, and its outcome."""
        told = []
        deferred = self.on_event(
            "fire_master", wire.pack_event("fire_master", request), told.append
        )
        return deferred, told


class FakeParts:
    """Makes those."""

    def __init__(self, loader=load):
        self.loader = loader
        self.made_link = None
        self.made_sockets = None
        self.fail = None

    def entry(self, opts):
        return entry(self.loader)

    def sockets(self, opts, methods, on_event):
        if self.fail:
            raise self.fail
        self.made_sockets = FakeSockets(methods, on_event)
        return self.made_sockets

    def accepted(self, opts):
        return AcceptedJobs(Path(opts["cachedir"]) / "accepted.db")

    def link(self, opts, hooks, grains):
        self.made_link = FakeLink(hooks, grains)
        return self.made_link


class Script:
    """A `Stop` that runs the test between two turns of the loop, and is set at its end."""

    def __init__(self, steps):
        self._steps = steps
        self._condition = next(steps, None)
        self._deadline = time.monotonic() + SECONDS
        self._reader, self._writer = socket.socketpair()
        self._writer.send(b"x")

    def fileno(self):
        """Always readable, so that the loop goes round."""
        return self._reader.fileno()

    def drain(self):
        time.sleep(0.001)

    def is_set(self):
        assert time.monotonic() < self._deadline, "took too long"
        while self._condition is not None and self._condition():
            self._condition = next(self._steps, None)
        return self._condition is None

    def close(self):
        self._reader.close()
        self._writer.close()


@pytest.fixture
def parts():
    return FakeParts()


@pytest.fixture
def opts(tmp_path):
    return {
        "id": "web1",
        "cachedir": str(tmp_path / "cache"),
        "job_workers": 1,
        "job_workers_max": 1,
        "max_event_size": 1_048_576,
    }


@pytest.fixture
def run(parts, opts):
    """Run a minion with a script: a generator of the conditions that it waits for."""

    def start(script, **more):
        minion = Minion({**opts, **more}, parts)
        stop = Script(script(minion))
        try:
            minion.run(stop)
        finally:
            stop.close()
        return minion

    return start


def job(number, fun, *arg):
    return {"jid": f"{number:020}", "fun": fun, "arg": list(arg), "user": "root"}


def test_a_job_goes_round(run, parts):
    """A job from the master runs in a worker, and its return goes up; the same job runs once."""

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.echo", 1, {"__kwarg__": True, "a": 2}))
        parts.made_link.hooks.on_job(job(1, "test.echo", 1))
        parts.made_link.hooks.on_job({"jid": "no", "fun": ""})
        yield lambda: parts.made_link.returns
        parts.made_link.hooks.on_job(job(2, "test.ping"))
        yield lambda: len(parts.made_link.returns) > 1

    run(script)
    first, second = parts.made_link.returns
    assert first == {
        "jid": f"{1:020}",
        "fun": "test.echo",
        "fun_args": [1, {"__kwarg__": True, "a": 2}],
        "return": [1, {"__kwarg__": True, "a": 2}],
        "retcode": 0,
        "success": True,
    }
    assert second["jid"] == f"{2:020}"
    assert parts.made_link.closed
    assert parts.made_sockets.closed


def left_unfinished(opts):
    """Return the jobs that a process after this one would find."""
    noted = AcceptedJobs(Path(opts["cachedir"]) / "accepted.db")
    try:
        return [one.jid for one in noted.unfinished]
    finally:
        noted.close()


def test_a_job_is_noted_until_its_return_is_safe(run, parts, opts):
    """Not only until it was sent: what a kill loses on the way is to be missed too."""

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.ping"))
        yield lambda: parts.made_link.returns
        assert left_unfinished(opts) == [f"{1:020}"]
        parts.made_link.safe[0](True, "")
        assert left_unfinished(opts) == []
        parts.made_link.hooks.on_job(job(2, "saltutil.find_job", f"{1:020}"))
        yield lambda: len(parts.made_link.returns) > 1
        assert left_unfinished(opts) == []  # what is answered at once needs no note

    run(script)


def test_what_an_earlier_process_left_is_returned_as_failed(run, parts, opts):
    """And it does not run again if the master sends it again."""
    earlier = AcceptedJobs(Path(opts["cachedir"]) / "accepted.db")
    earlier.add(Job(f"{1:020}", "test.sleep"))
    earlier.close()

    def script(_minion):
        yield lambda: parts.made_link and parts.made_link.returns
        parts.made_link.hooks.on_job(job(1, "test.sleep", 5))
        parts.made_link.safe[0](True, "spooled")

    run(script)
    (ret,) = parts.made_link.returns
    assert (ret["jid"], ret["retcode"], ret["success"]) == (f"{1:020}", 1, False)
    assert ret["return"] == "test.sleep did not end: the minion was killed while it ran"
    assert ret["unfinished"] is True
    assert left_unfinished(opts) == []


def test_a_job_that_cannot_be_noted_runs_all_the_same(run, parts):
    """Its return is worth more than the note; that there is none is counted."""

    def script(minion):
        yield lambda: parts.made_link
        minion._accepted.close()
        parts.made_link.hooks.on_job(job(1, "test.ping"))
        yield lambda: parts.made_link.returns
        parts.made_link.safe[0](True, "")
        assert minion.status()["complaints"]["jobs_not_noted"] == 2

    run(script)
    assert parts.made_link.returns[0]["success"]


def test_signals_to_jobs(run, parts, tmp_path):
    """They are answered at once, by the minion itself, while every worker is busy."""
    started = tmp_path / "started"

    def ask(number, fun, *args):
        parts.made_link.hooks.on_job(job(number, fun, *args))
        return parts.made_link.returns[-1]

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.sleep", 600, str(started)))
        yield started.exists
        assert ask(2, "saltutil.term_job", f"{9:020}")["return"] is False
        refused = ask(3, "saltutil.signal_job", f"{1:020}", "NOTHING")
        assert (refused["success"], "is no signal" in refused["return"]) == (False, True)
        assert ask(4, "saltutil.signal_job", f"{1:020}", 15)["return"] is True
        yield lambda: parts.made_link.returns[-1]["jid"] == f"{1:020}"
        assert "SIGTERM" in parts.made_link.returns[-1]["return"]
        started.unlink()
        parts.made_link.hooks.on_job(job(5, "test.sleep", 600, str(started)))
        yield started.exists
        assert ask(6, "saltutil.kill_all_jobs")["return"] == [f"{5:020}"]
        sockets = parts.made_sockets.methods
        assert sockets["jobs.kill_all"]({}) == [f"{5:020}"]
        assert sockets["jobs.signal"]({"jid": "x", "signal": "TERM"}) is False
        yield lambda: parts.made_link.returns[-1]["jid"] == f"{5:020}"

    run(script)


def test_the_link_is_opened_with_the_grains(run, parts):
    """The minion introduces itself with what its worker found."""

    def script(_minion):
        yield lambda: parts.made_link

    run(script)
    assert parts.made_link.grains() == {"os": "Debian", "odd": [1]}
    assert parts.made_link.hellos == []


def test_new_grains_are_told(run, opts, tmp_path):
    """After a reload with other grains the minion says hello again."""
    source = tmp_path / "grain"
    source.write_text("old")

    def load_grain(context):
        loaded = load(context)
        return type(loaded)(loaded.call, loaded.available, {"mine": source.read_text()})

    parts = FakeParts(load_grain)
    minion = Minion(opts, parts)

    def script():
        yield lambda: parts.made_link
        source.write_text("new")
        parts.made_link.files = {"_grains/g.py": b"1"}
        parts.made_link.connect()
        yield lambda: parts.made_link.hellos

    stop = Script(script())
    minion.run(stop)
    stop.close()
    assert parts.made_link.hellos == [{"mine": "new"}]


def test_a_grain_that_was_set_is_told(opts, tmp_path):
    """Without the master's files: the grains alone are read anew."""
    source = tmp_path / "grain"
    source.write_text("old")

    def load_grain(context):
        loaded = load(context)
        return type(loaded)(loaded.call, loaded.available, {"mine": source.read_text()})

    parts = FakeParts(load_grain)

    def script():
        yield lambda: parts.made_link
        source.write_text("new")
        parts.made_sockets.methods["grains.refresh"]({})
        yield lambda: parts.made_link.hellos

    stop = Script(script())
    Minion(opts, parts).run(stop)
    stop.close()
    assert parts.made_link.hellos == [{"mine": "new"}]


def test_the_link_does_not_wait_for_ever(opts, monkeypatch):
    """A host whose grains hang is connected without them."""
    monkeypatch.setattr(daemon, "GRAINS_SECONDS", 0.2)
    parts = FakeParts(lambda _context: time.sleep(600))
    minion = Minion(opts, parts)

    def script():
        yield lambda: parts.made_sockets
        assert minion.status()["link"] == "starting"
        with pytest.raises(NotRunningError):
            parts.made_sockets.methods["modules.sync"]({})
        parts.made_sockets.fire({"tag": "a", "data": {"n": 1}})
        yield lambda: parts.made_link

    stop = Script(script())
    minion.run(stop)
    stop.close()
    assert parts.made_link.grains() == {}
    assert [event[:2] for event in parts.made_link.events] == [("a", {"n": 1})]


def test_too_many_events_before_the_link(run, parts, monkeypatch):
    """What can be held until the link is open is bounded."""
    monkeypatch.setattr(daemon, "MAX_HELD", 1)

    def script(_minion):
        yield lambda: parts.made_sockets
        parts.made_sockets.fire({"tag": "a"})
        deferred, told = parts.made_sockets.fire({"tag": "b"})
        assert deferred
        assert "still starting" in str(told[0])

    run(script)


def test_start_event_once(run, parts):
    """After the first sync the start event goes up; a reconnect fires none."""

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_state("pending")
        parts.made_link.connect()
        parts.made_link.connect()
        yield lambda: parts.made_link.events

    run(script)
    ((tag, data, on_done),) = parts.made_link.events
    assert tag == "salt/minion/web1/start"
    assert data["version"] == bus.__version__
    assert data["pid"] == os.getpid()
    assert data["started"].endswith("+00:00")
    on_done(True, "")
    on_done(False, "refused")


def test_modules_are_synced_and_jobs_see_them(run, parts, tmp_path):
    """The files of the master are there before the first job after a connect runs."""

    def script(minion):
        yield lambda: parts.made_link
        parts.made_link.files = {"_modules/mine.py": b"a = 1"}
        parts.made_link.connect()
        assert (tmp_path / "cache/extmods/modules/mine.py").read_bytes() == b"a = 1"
        parts.made_link.hooks.on_job(job(1, "test.ping"))
        yield lambda: parts.made_link.returns
        assert minion.status()["counters"]["workers_started"] == 2
        parts.made_link.files["_modules/mine.py"] = b"a = 2"
        parts.made_link.hooks.on_changed()
        assert (tmp_path / "cache/extmods/modules/mine.py").read_bytes() == b"a = 2"
        parts.made_link.files["_modules/mine.py"] = b"a = 4"
        for changed in (["_modules/mine.py"], []):
            number = parts.made_sockets.methods["modules.sync"]({})
            sync = parts.made_sockets.methods["status"]({})["sync"]
            assert (sync["finished"], sync["changed"]) == (number, changed)
        parts.made_link.state = "connecting"
        parts.made_link.files["_modules/mine.py"] = b"a = 3"
        parts.made_link.hooks.on_changed()
        with pytest.raises(NotRunningError, match="no connection"):
            parts.made_sockets.methods["modules.sync"]({})
        assert (tmp_path / "cache/extmods/modules/mine.py").read_bytes() == b"a = 4"

    run(script)


def test_events_go_up_and_are_acknowledged_late(run, parts):
    """A function's event.send is acknowledged when the master has the event."""

    def script(_minion):
        yield lambda: parts.made_link
        deferred, told = parts.made_sockets.fire({"tag": "my/tag", "data": {"a": 1}})
        assert deferred
        assert told == []
        ((tag, data, on_done),) = parts.made_link.events
        assert (tag, data) == ("my/tag", {"a": 1})
        on_done(True, "")
        assert told == [None]

    run(script)


def test_several_events_are_acknowledged_together(run, parts):
    """All of them are awaited, and the first failure is told."""

    def script(_minion):
        yield lambda: parts.made_link
        request = {"events": [{"tag": "a"}, {"tag": "b"}, {"tag": "c"}]}
        _, told = parts.made_sockets.fire(request)
        (_, _, first), (_, _, second), (_, _, third) = parts.made_link.events
        first(True, "")
        second(False, "the journal is full")
        third(False, "")
        assert [str(error) for error in told] == ["the journal is full"]
        assert parts.made_sockets.fire({"events": []}) == (True, [None])

    run(script)


def test_events_that_cannot_go_up(run, parts):
    """They are refused with the reason; other events of the bus are not the minion's business."""

    def script(_minion):
        yield lambda: parts.made_link
        deferred, told = parts.made_sockets.fire({"tag": ""})
        assert deferred
        assert "empty" in str(told[0])
        parts.made_link.unfit = TooLargeError("too large by far")
        _, told = parts.made_sockets.fire({"tag": "a"})
        assert isinstance(told[0], TooLargeError)  # not a failure of the moment: ValueError
        assert str(told[0]) == "too large by far"
        assert parts.made_sockets.on_event("other", b"other\n\n\x80", told.append) is False
        assert len(told) == 1

    run(script)


def test_without_a_master(run, parts):
    """Masterless, what would go up is fired on the minion's own bus."""

    def script(minion):
        yield lambda: parts.made_sockets
        assert parts.made_sockets.fire({"tag": "a", "data": {"n": 1}}) == (False, [])
        assert minion.status()["link"] == "disabled"
        assert parts.made_sockets.methods["modules.sync"]({}) == 0
        minion._on_progress(Job("1", "test.steps"), 0, "step")
        yield lambda: minion.status()["workers"].get("idle")

    run(script, master_type="disable")
    assert parts.made_link is None
    progress = {"data": "step", "id": "web1", "jid": "1"}
    assert parts.made_sockets.published == [("a", {"n": 1}), ("salt/job/1/prog/web1/0", progress)]


def test_progress_goes_up(run, parts):
    """Each step of a generator is an event."""

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.steps"))
        yield lambda: parts.made_link.returns

    run(script)
    assert [event[0] for event in parts.made_link.events] == [
        f"salt/job/{1:020}/prog/web1/0",
        f"salt/job/{1:020}/prog/web1/1",
    ]
    assert parts.made_link.events[1][1]["data"] == {"b": 2}


def test_methods(run, parts, tmp_path):
    """Status, running jobs and killing one are served on the minion's bus."""
    started = tmp_path / "started"

    def script(_minion):
        yield lambda: parts.made_link
        methods = parts.made_sockets.methods
        parts.made_link.hooks.on_job(job(1, "test.sleep", 600, str(started)))
        yield started.exists
        (row,) = methods["jobs.running"]({})
        assert row["fun"] == "test.sleep"
        status = methods["status"]({})
        assert status["role"] == "minion"
        assert status["workers"] == {"busy": 1}
        assert status["sync"]["finished"] == 0
        assert wire.unpack(wire.pack(status)) == status
        assert methods["jobs.find"]({"jid": row["jid"]})["pid"] == row["pid"]
        assert methods["jobs.kill"]({"jid": row["jid"]}) is True
        assert methods["jobs.kill"]({}) is False
        yield lambda: parts.made_link.returns

    run(script)
    assert parts.made_link.returns[0]["return"] == "test.sleep was killed on request"


def test_a_new_key_is_asked_of_the_link(run, parts):
    """On the minion's bus; before there is a link it says so."""

    def script(minion):
        yield lambda: parts.made_sockets
        with pytest.raises(BusError, match="no link to a master, or is still starting"):
            minion._needed_link()
        yield lambda: parts.made_link
        parts.made_link.rotate = lambda: 7
        parts.made_link.rotation = {"finished": 6}
        assert parts.made_sockets.methods["keys.rotate"]({}) == 7
        assert parts.made_sockets.methods["keys.rotation"]({}) == {"finished": 6}

    run(script)


def test_questions_about_jobs_need_no_worker(run, parts, tmp_path):
    """With every worker busy, jobs are found, listed and ended: nothing else could free one."""
    started = tmp_path / "started"

    def script(_minion):
        yield lambda: parts.made_link
        on_job, returns = parts.made_link.hooks.on_job, parts.made_link.returns
        on_job(job(1, "test.sleep", 600, str(started)))
        yield started.exists
        on_job(job(2, "test.ping"))
        on_job(job(3, "saltutil.running"))
        on_job(job(4, "saltutil.find_job", f"{2:020}"))
        on_job(job(5, "saltutil.find_job", f"{9:020}"))
        on_job(job(6, "saltutil.find_job", {"__kwarg__": True, "jid": "x"}))
        assert [row["fun"] for row in returns[0]["return"]] == ["test.sleep"]
        assert returns[1]["return"]["fun"] == "test.ping"
        assert returns[2]["return"] == {}
        on_job(job(7, "saltutil.kill_job", f"{1:020}"))
        assert returns[3]["return"] is True
        yield lambda: len(returns) == 7

    run(script)
    assert "killed on request" in parts.made_link.returns[4]["return"]


def test_sockets_are_polled(run, parts):
    """The bus's and the link's sockets are handled when they have input."""

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_sockets.other.send(b"input")
        yield lambda: parts.made_sockets.handled
        parts.made_link.have_input()
        yield lambda: parts.made_link.got

    run(script)
    assert parts.made_sockets.handled == [(parts.made_sockets.fd, b"input")]
    assert parts.made_link.got == [b"hello"]


def test_running_jobs_may_end_when_the_minion_stops(run, parts, tmp_path):
    """For a second; then they are killed, and both have a return."""
    started = tmp_path / "started"

    def script(_minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.sleep", 0.2, str(started)))
        parts.made_link.hooks.on_job(job(2, "test.sleep", 600))
        yield started.exists

    before = time.monotonic()
    run(script)
    assert [ret["success"] for ret in parts.made_link.returns] == [True, False]
    assert "the minion was stopped" in parts.made_link.returns[1]["return"]
    assert time.monotonic() - before < SECONDS / 2


def test_no_process_is_left_when_the_bus_cannot_be_opened(parts, opts):
    """A minion that cannot start takes its nursery with it."""
    parts.fail = AlreadyRunningError("another one")
    minion = Minion(opts, parts)
    with pytest.raises(AlreadyRunningError):
        minion.run(Script(iter(())))
    assert not alive(minion._nursery.pid)


def test_a_lost_nursery_ends_the_minion(run, parts, tmp_path):
    """It cannot work on; the supervisor starts it again. What ran has a return."""
    started = tmp_path / "started"

    def script(minion):
        yield lambda: parts.made_link
        parts.made_link.hooks.on_job(job(1, "test.sleep", 600, str(started)))
        yield started.exists
        os.kill(minion._nursery.pid, signal.SIGKILL)
        yield lambda: False

    with pytest.raises(NurseryError):
        run(script)
    assert parts.made_link.returns[0]["success"] is False
    assert parts.made_link.closed
    os.killpg(int(started.read_text()), signal.SIGKILL)


def test_main_runs_until_a_signal(opts, monkeypatch):
    """The role ends on SIGTERM, and leaves nothing behind."""
    parts = FakeParts()
    monkeypatch.setattr(daemon, "RealParts", lambda: parts)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            daemon.main(opts)
            status = 0
        finally:
            os._exit(status)
    wait_for(lambda: len(children(pid)) == 1 and children(children(pid)[0]))
    (nursery,) = children(pid)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not alive(nursery)


def test_errors_are_of_the_one_tree():
    """What ends a minion can be shown as a line."""
    assert issubclass(NurseryError, BusError)
