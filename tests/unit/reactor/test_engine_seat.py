"""One reactor among several: standing by, taking over, leaving; and what the bus hears of it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

import bus
from bus import endpoints, rpc, wire
from bus.client import RunnerClient
from bus.config import private_dir
from bus.errors import AlreadyRunningError, BusError, ConfigError, NotRunningError
from bus.publisher import Publisher
from bus.stopping import Stop
from reactor.engine import process
from reactor.engine.fencing import fence
from reactor.engine.lease import lease_path, look
from reactor.engine.pool import WorkerPool
from reactor.engine.seat import Seat
from reactor.engine.state import State, prepare, state_path
from reactor.errors import DeposedError, ReactorError
from tests.support import master_options, running_bus, wait_for


@pytest.fixture
def opts(place):
    """The options of a master with its directories made."""
    opts = master_options(place, reactor_take_over_after=1.0)
    for name in ("state_dir", "sock_dir"):
        private_dir(opts[name])
    prepare(opts["state_dir"])
    return opts


class TestTheDatabase:
    """Only the present term writes."""

    def test_who_was_replaced_is_refused(self, tmp_path):
        """By every transaction; nothing of it is written."""
        first, second = State(tmp_path / "r.db"), State(tmp_path / "r.db")
        assert first.take_over("a", b"1") == 1
        first.save(bus_id="b", seq=1)
        assert second.take_over("b", b"2") == 2
        with pytest.raises(DeposedError, match="after term 1"):
            first.save(bus_id="b", seq=2, begun=[(2, "r")])
        for refused in (first.forget_events, first.check_term):
            with pytest.raises(DeposedError):
                refused()
        second.save(bus_id="b", seq=3)
        assert (first.cursor(), first.unfinished()) == (("b", 3), [])
        first.close()
        second.close()

    def test_a_take_over_that_fails_changes_nothing(self, tmp_path):
        """The one before goes on."""
        first, second = State(tmp_path / "r.db"), State(tmp_path / "r.db")
        first.take_over("a", b"1")

        def refuse(_term):
            raise ReactorError("no")

        with pytest.raises(ReactorError, match="no"):
            second.take_over("b", b"2", refuse)
        first.save(bus_id="b", seq=1)
        assert first.producers() == [b"1"]
        first.forget_producers([b"1"])
        assert first.producers() == []
        first.close()
        second.close()


class TestSeats:
    """Two reactors, one lease."""

    def test_the_first_leads(self, opts):
        """The second one does not, until the first one leaves."""
        one, two = Seat(opts, "one"), Seat(opts, "two")
        term = one.try_lead()
        assert (term.lease.holder.name, term.lease.holder.term, term.before) == ("one", 1, None)
        assert two.try_lead() is None
        one.leave()
        term = two.try_lead()
        assert (term.lease.holder.term, term.before.name) == (2, "one")
        assert two.describe()["leader"]["name"] == "two"
        two.leave()

    def test_two_that_are_as_fast(self, opts, monkeypatch):
        """One of them leads."""
        one, two = Seat(opts, "one"), Seat(opts, "two")
        real, terms = State.take_over, []

        def take_over(state, *args):
            monkeypatch.setattr(State, "take_over", real)
            terms.append(two.try_lead())  # after the look of the first one
            return real(state, *args)

        monkeypatch.setattr(State, "take_over", take_over)
        assert one.try_lead() is None
        assert terms[0] is not None
        terms[0].state.save(bus_id="b", seq=1)
        two.leave()

    def test_a_database_that_takes_nothing(self, opts, monkeypatch):
        """The lease is not kept."""

        def refuse(state, name, producer, seal):
            seal(1)
            raise ReactorError("disk full")

        monkeypatch.setattr(State, "take_over", refuse)
        with pytest.raises(ReactorError, match="disk full"):
            Seat(opts, "one").try_lead()
        assert look(lease_path(opts["state_dir"])).is_free

    def test_a_holder_that_cannot_be_ended(self, opts, caplog):
        """It is said, now and then, and nobody takes over."""
        now = [0.0]
        one, two = Seat(opts, "one"), Seat(opts, "two", lambda: now[0])
        assert one.try_lead()  # its socket is not open, so nobody is sure who it is
        for _ in range(12):
            assert two.try_lead() is None
            now[0] += 0.25
        assert caplog.text.count("does not move, and cannot be ended from here") == 1
        one.leave()

    def test_names(self, opts):
        """A name is one reactor's, short and plain."""
        one, again = Seat(opts, "one"), Seat(opts, "one")
        one.open()
        with pytest.raises(AlreadyRunningError):
            again.open()
        assert list(endpoints.master_reactors(opts)) == ["one"]
        one.close()
        for name in ("", "Upper", "a/b", "x" * 10):
            with pytest.raises(ConfigError, match="cannot be a reactor's name"):
                endpoints.master_reactor_named(opts, name)

    def test_with_tcp_there_is_one(self, opts):
        """Nothing to be asked at, nobody to list."""
        tcp = opts.with_(ipc_mode="tcp")
        seat = Seat(tcp, "reactor")
        seat.open()
        assert seat.socket is None
        seat.handle()
        assert seat.try_lead()
        seat.leave()
        seat.close()
        assert endpoints.master_reactors(tcp) == {}
        with pytest.raises(ConfigError, match="ipc_mode: ipc"):
            endpoints.master_reactor_named(tcp, "reactor")


def test_what_may_not_be_begun_is_dropped():
    """By threads that wake with a queue full of it."""
    allowed, ran, pool = [False], [], WorkerPool(1, 10, lambda: allowed[0])
    pool.submit(lambda: ran.append("refused"))
    wait_for(lambda: not pool.waiting, "the thread")
    pool.submit(lambda: None)
    wait_for(lambda: not pool.waiting, "the thread")
    allowed[0] = True
    over = threading.Event()
    pool.submit(over.set)
    assert over.wait(10)
    assert ran == []
    pool.close(1)


class TestTheBus:
    """What a reactor that is gone has fired, and what of it comes too late."""

    EVENT = wire.pack_event("reactor/leader/active", {}, 1000)

    def test_what_comes_after_the_last_fire_is_not_kept(self, opts):
        """What came before it is, once; the bus answers both."""
        with running_bus(opts) as running:
            gone, now = Publisher(running.address), Publisher(running.address)
            gone.fire([wire.pack_event("early", {}, 1000)])
            fence(now, [gone.producer, b"another"], self.EVENT, lambda: False, 10)
            gone.fire([wire.pack_event("late", {}, 1000)], timeout=10)
            now.fire([wire.pack_event("mine", {}, 1000)])
            with bus.connect("master", opts) as events:
                tags = [event.tag for event in events.listen("*", since=0, timeout=0.3)]
            assert sorted(tags) == ["early", *["mine"], *["reactor/leader/active"] * 2]
            gone.close()
            now.close()

    def test_a_bus_that_is_not_there(self, opts):
        """Nobody leads without knowing what was fired."""
        publisher = Publisher(endpoints.master_pull(opts))
        with pytest.raises(NotRunningError):
            fence(publisher, [b"gone"], self.EVENT, lambda: False, 0.1)
        assert not publisher.pending
        publisher.close()

    def test_a_bus_that_refuses(self, opts):
        """Its reason is the caller's."""
        with running_bus(opts.with_(max_event_size=1024)) as running:
            publisher = Publisher(running.address)
            large = wire.pack_event("large", {"text": "x" * 2000}, 10_000)
            with pytest.raises(BusError):
                fence(publisher, [b"gone"], large, lambda: False, 10)
            publisher.close()


class Reactor:
    """One of several, in a thread."""

    def __init__(self, opts, name, *, waits=False):
        self.opts, self.name, self._stop, self.error = opts, name, Stop(), None
        self._waits = waits
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            process.run(self.opts, self._stop, self.name, waits=self._waits)
        except BusError as error:
            self.error = error

    def ask(self, method="leader", **params):
        with contextlib.suppress(BusError):
            address = endpoints.master_reactor_named(self.opts, self.name)
            return rpc.call(address, method, params, timeout=2)
        return {}

    @property
    def is_active(self):
        return self.ask().get("active") is True

    @property
    def stands_by(self):
        return self.ask().get("active") is False

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._stop.close()


@pytest.fixture
def reactors(opts):
    """A bus, and two reactors of its master; the first is active."""
    rules = Path(opts["config_dir"], "r.yaml")
    rules.write_text("out: {on: my/out, do: [{event: out/done, data: {n: '{{ data.n }}'}}]}\n")
    opts = opts.with_(rules=[str(rules)])
    with running_bus(opts):
        first = Reactor(opts, "reactor")
        wait_for(lambda: first.is_active, "the first one")
        second = Reactor(opts, "standby", waits=True)
        wait_for(lambda: second.stands_by, "the second one")
        yield first, second
        second.stop()
        first.stop()


def _expect(opts, glob, after):
    with bus.connect("master", opts) as events:
        event = events.listen(glob, since=after).next(20)
    assert event, glob
    return event


def _fire(opts, tag, **data):
    with bus.connect("master", opts) as events:
        return events.fire(tag, data)


def _runner(opts):
    return RunnerClient(opts)


class TestTwo:
    """Both run, one acts."""

    def test_the_end_of_one_is_the_others_turn(self, reactors):
        """What was fired meanwhile is not lost, and it is said who leads."""
        first, second = reactors
        seq = _fire(first.opts, "my/out", n=1)
        _expect(first.opts, "reactor/reaction/out/done", seq)
        first.stop()
        seq = _fire(first.opts, "my/out", n=2)
        assert _expect(first.opts, "out/done", seq).payload == {"n": 2}
        assert second.is_active
        told = _expect(first.opts, "reactor/leader/active", 0).payload
        assert (told["name"], told["term"], told["before"]["name"]) == ("standby", 2, "reactor")
        first.__init__(first.opts, "reactor")
        wait_for(lambda: first.stands_by, "the first one")

    def test_leading_by_request(self, reactors):
        """The one that is named leads; the other one takes over from it again when it ends."""
        first, second = reactors
        runner = _runner(first.opts)
        assert runner.cmd("reactor.is_leader") is True
        assert runner.cmd("reactor.is_leader", kwarg={"name": "standby"}) is False
        assert runner.cmd("reactor.set_leader", kwarg={"name": "standby"}) is True
        assert runner.cmd("reactor.is_leader") is False
        assert _expect(first.opts, "reactor/leader/left", 0).payload["to"] == "standby"
        seq = _fire(first.opts, "my/out", n=3)
        _expect(first.opts, "out/done", seq)
        second.stop()
        wait_for(lambda: first.is_active, "the first one")
        second.__init__(second.opts, "standby", waits=True)
        wait_for(lambda: second.stands_by, "the second one")

    def test_told_not_to_lead(self, reactors):
        """Neither of them does: events wait, and are reacted to when one is told to lead."""
        first, second = reactors
        runner = _runner(first.opts)
        assert runner.cmd("reactor.set_leader", [False, "standby"]) is False
        assert runner.cmd("reactor.set_leader", [False]) is False
        seq = _fire(first.opts, "my/out", n=4)
        assert first.ask()["may_lead"] is second.ask()["may_lead"] is False
        assert first.ask()["leader"] == {}
        assert runner.cmd("reactor.set_leader") is True
        assert _expect(first.opts, "out/done", seq).payload == {"n": 4}
        told = _expect(first.opts, "reactor/leader/active", seq).payload
        assert told["before"]["name"] == told["name"] == "reactor"

    def test_who_was_deposed_stands_by(self, reactors):
        """It writes nothing, reports nothing, and is there for the next time."""
        first, second = reactors
        other = State(state_path(first.opts["state_dir"]))
        other.take_over("third", b"third")
        other.close()
        seq = _fire(first.opts, "my/out", n=5)
        assert _expect(first.opts, "out/done", seq).payload == {"n": 5}
        wait_for(lambda: first.is_active != second.is_active, "one of them")
        with bus.connect("master", first.opts) as events:
            tags = [event.tag for event in events.listen("*", since=seq, timeout=0.5)]
        assert tags.count("reactor/reaction/out/done") == 1
        assert tags.count("out/done") == 1


def test_one_that_waits_for_its_bus(opts, monkeypatch):
    """A further reactor may be there before the master; the master's own says what is missing."""
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    monkeypatch.setattr(process, "_TRY_AGAIN", 0.05)
    waiting = Reactor(opts, "standby", waits=True)
    path = lease_path(opts["state_dir"])
    wait_for(lambda: (seen := look(path)).holder and seen.holder.term > 1, "a second try")
    with running_bus(opts):
        wait_for(lambda: waiting.is_active, "it")
        waiting.stop()
    assert waiting.error is None
