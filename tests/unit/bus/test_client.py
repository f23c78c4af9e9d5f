"""Salt's clients, against servers that are stood in for."""

import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus import client as client_module
from bus import endpoints, frames, wire
from bus.broker.server import EventSockets
from bus.client import Caller, LocalClient, RunnerClient, WheelClient
from bus.direct import framing
from bus.errors import (
    ArgumentsError,
    FunctionNotFoundError,
    NotRunningError,
    TargetError,
)
from bus.event import get_event
from bus.publisher import Publisher
from bus.returns import batch_size
from bus.store import MemoryStore
from tests.support import wait_for
from tests.unit.bus.loader_tools import Answers, serving

FIRST = 20261122083014438000


class Master:
    """A link server and a bus whose minions answer as a test has them answer.

    Attributes:
        answers: what a minion returns for a function: ``answers[fun](minion)``; ``QUIET``
            says that nothing comes.
        lost: functions whose returns the bus does not publish, though the master has them.
    """

    QUIET = object()

    def __init__(self, opts):
        self.jobs = []
        self.returns = {}
        self.retcodes = {}
        self.minions = ["a", "b", "c"]
        self.missing = []
        self.lost = set()
        self.answers = {"test.ping": lambda _: True}
        self.bus = EventSockets(
            pull=endpoints.master_pull(opts),
            pub=endpoints.master_pub(opts),
            fires=endpoints.master_fires(opts),
            store=MemoryStore(),
        )
        methods = {
            "jobs.publish": self.publish,
            "jobs.get": self.get,
            "minions.connected": lambda _: [m for m in self.minions if m not in self.missing],
            "jobs.lookup": lambda params: {
                minion: ret["return"] for minion, ret in self.returns[params["jid"]].items()
            },
            "minions.match": lambda params: list(reversed(self.match(params["tgt"]))),
        }
        self.link = Answers(endpoints.master_link(opts), methods)

    def match(self, tgt):
        if isinstance(tgt, list):
            return tgt
        return self.minions if tgt == "*" else [tgt] if tgt in self.minions else []

    def publish(self, params):
        jid = str(FIRST + len(self.jobs))
        self.jobs.append(params)
        self.returns[jid] = {}
        minions = self.match(params["tgt"])
        missing = [minion for minion in minions if minion in self.missing]
        self.bus.publish(f"salt/job/{jid}/new", {"fun": params["fun"]})
        self.bus.publish("salt/job/other/ret/a", {"id": "a", "return": "of another job"})
        for minion in sorted(set(minions) - set(missing)):
            value = self.answers[params["fun"]](minion)
            if value is not self.QUIET:
                self.give(jid, params["fun"], minion, value)
        return {"jid": jid, "minions": minions, "missing": missing}

    def give(self, jid, fun, minion, value):
        retcode = self.retcodes.get(minion, 0)
        ret = {"return": value, "retcode": retcode, "success": not retcode}
        self.returns[jid][minion] = ret
        if fun not in self.lost:
            data = {"id": minion, "jid": jid, "fun": fun, **ret}
            self.bus.publish(f"salt/job/{jid}/ret/{minion}", data)

    def get(self, params):
        number = int(params["jid"]) - FIRST
        if not 0 <= number < len(self.jobs):
            return {}
        job = self.jobs[number]
        return {
            "fun": job["fun"],
            "arg": job["arg"],
            "minions": self.match(job["tgt"]),
            "missing": self.missing,
            "returns": self.returns[params["jid"]],
        }


@pytest.fixture
def master(master_opts):
    """A master that answers."""
    Path(master_opts["sock_dir"]).mkdir(parents=True, exist_ok=True)
    made = Master(master_opts)
    with serving(made.bus, made.link):
        yield made
    made.bus.close()
    made.link.server.close()


@pytest.fixture
def client(master_opts, master):
    """A client of that master."""
    with LocalClient(mopts=master_opts) as made:
        yield made


class TestLocalClient:
    """Jobs on minions."""

    def test_cmd(self, client, master):
        """Each minion's return; arguments go in Salt's condensed form."""
        assert client.cmd("*", "test.ping", [1], kwarg={"k": 2}) == dict.fromkeys("abc", True)
        assert master.jobs[0]["arg"] == [1, {"__kwarg__": True, "k": 2}]
        assert master.jobs[0]["user"] == client_module.current_user()

    def test_full_return(self, client):
        """With the return code and the job's id."""
        answer = client.cmd("a", "test.ping", full_return=True)
        assert answer == {"a": {"ret": True, "retcode": 0, "jid": str(FIRST)}}

    def test_nobody(self, client):
        """No minion: nothing to wait for."""
        assert client.cmd("x", "test.ping") == {}
        assert client.cmd_async("x", "test.ping") == ""

    def test_cmd_async(self, client):
        """The id at once; what came back can be asked for later."""
        jid = client.cmd_async("*", "test.ping", user="jane", job_timeout=3)
        assert client.get_cache_returns(jid) == {m: {"ret": True} for m in "abc"}

    def test_cmd_iter(self, client):
        """One at a time."""
        answers = list(client.cmd_iter(["a", "b"], "test.ping", tgt_type="list"))
        assert [list(answer) for answer in answers] == [["a"], ["b"]]

    def test_cmd_batch(self, client, master):
        """Some at a time."""
        answers = list(client.cmd_batch("*", "test.ping", batch="50%"))
        assert answers == [{"a": True}, {"b": True}, {"c": True}]
        assert [job["tgt"] for job in master.jobs] == [["a", "b"], ["c"]]

    def test_cmd_batch_is_a_sliding_window(self, client, master):
        """As one returns the next begins, while another is still at it."""
        master.answers["x.y"] = lambda minion: master.QUIET if minion == "a" else minion
        answers = client.cmd_batch("*", "x.y", batch=2, timeout=3600)
        assert next(answers) == {"b": "b"}
        assert next(answers) == {"c": "c"}
        assert [job["tgt"] for job in master.jobs] == [["a", "b"], ["c"]]
        master.give(str(FIRST), "x.y", "a", "at last")
        assert list(answers) == [{"a": "at last"}]

    def test_cmd_batch_stops_at_a_failure(self, client, master):
        """With failhard no more begin; who did not is named."""
        master.retcodes = {"a": 3}
        answers = client.follow_batch("*", "test.ping", batch=1, failhard=True)
        assert [list(answer) for answer in answers] == [["a"]]
        assert answers.silent == dict.fromkeys(
            "bc", "was not sent the job, since another one failed"
        )
        assert len(list(client.cmd_batch("*", "test.ping", batch=1))) == 3

    def test_cmd_batch_stops_at_one_that_is_not_connected(self, client, master):
        """That is a failure too; without failhard it takes no place."""
        master.missing = ["a"]
        answers = client.follow_batch("*", "test.ping", batch=1, failhard=True)
        assert list(answers) == []
        assert sorted(answers.silent) == ["a", "b", "c"]
        assert list(client.cmd_batch("*", "test.ping", batch=1)) == [{"b": True}, {"c": True}]

    def test_cmd_batch_raw(self, client):
        """The whole return."""
        (answer,) = client.cmd_batch("a", "test.ping", batch=1, raw=True)
        assert (answer["a"]["return"], answer["a"]["fun"]) == (True, "test.ping")

    def test_cmd_subset(self, client, master):
        """Some of those that are connected."""
        master.missing = ["b"]
        assert len(client.cmd_subset("*", "test.ping", sub=1)) == 1
        assert client.cmd_subset("*", "test.ping", subset=5) == {"a": True, "c": True}
        full = {"ret": True, "retcode": 0}
        for answer in client.cmd_subset("*", "test.ping", cli=True):
            assert [data | full for data in answer.values()] == list(answer.values())
        with pytest.raises(TargetError, match="a number from 1 upward"):
            client.cmd_subset("*", "test.ping", sub=0)

    def test_cmd_iter_no_block(self, client, master):
        """None as long as nothing is there."""
        master.answers["x.y"] = lambda _: master.QUIET
        answers = client.cmd_iter_no_block("a", "x.y", timeout=3600)
        assert next(answers) is None
        master.give(str(FIRST), "x.y", "a", 1)
        assert [one for one in answers if one] == [
            {"a": {"ret": 1, "retcode": 0, "jid": str(FIRST)}}
        ]

    def test_cmd_full_return(self, client, master):
        """Those that did not answer are in it, and say so."""
        master.missing = ["b"]
        found = client.cmd_full_return(["a", "b"], "test.ping", tgt_type="list")
        assert found["a"] == {"ret": True, "retcode": 0, "jid": str(FIRST)}
        assert found["b"] == {
            "ret": "no return: the minion is not connected",
            "out": "no_return",
            "retcode": 1,
            "jid": str(FIRST),
        }

    def test_the_returns_of_a_job_that_was_sent_before(self, client, master):
        """What has come already, and what comes still."""
        master.answers["x.y"] = lambda minion: master.QUIET if minion == "b" else minion
        pub = client.run_job("*", "x.y")
        answers = client.get_cli_returns(pub["jid"], ["a", "b"], timeout=3600)
        assert next(answers) == {"a": {"ret": "a", "retcode": 0, "jid": str(FIRST)}}
        master.give(pub["jid"], "x.y", "b", "late")
        assert next(answers)["b"]["ret"] == "late"
        assert list(answers) == []
        assert client.get_full_returns(pub["jid"], "c")["c"]["ret"] == "c"
        assert client.get_returns(pub["jid"]) == {"a": "a", "b": "late", "c": "c"}

    def test_a_job_that_nobody_knows(self, client):
        """It is said where to look."""
        with pytest.raises(ArgumentsError, match="reactor jobs list"):
            client.get_full_returns("20200101000000000000")

    def test_the_timeout_of_a_job_is_passed_on(self, client, master):
        """It is the minion's affair; the client's own is not."""
        client.run_job("a", "test.ping", timeout=5, job_timeout=7, user="jane")
        assert (master.jobs[0]["timeout"], master.jobs[0]["user"]) == (7, "jane")

    def test_minions_that_are_not_connected(self, client, master):
        """They are not waited for."""
        master.missing = ["b"]
        assert sorted(client.cmd("*", "test.ping")) == ["a", "c"]

    def test_who_does_not_run_it_is_not_waited_for(self, client, master):
        """The minion was asked, and knows nothing of the job."""
        master.answers |= {"x.y": lambda _: master.QUIET, "saltutil.find_job": lambda _: {}}
        assert client.cmd("a", "x.y", timeout=0.05) == {}
        assert master.jobs[1]["arg"] == [str(FIRST)]

    def test_who_does_not_answer_is_not_waited_for(self, client, master, monkeypatch):
        """Not even that question."""
        monkeypatch.setattr(client_module, "GATHER_TIMEOUT", 0.05)
        quiet = lambda _: master.QUIET  # noqa: E731 - the shortest form of it
        master.answers |= {"x.y": quiet, "saltutil.find_job": quiet}
        assert client.cmd("a", "x.y", timeout=0.05) == {}

    def test_a_minion_that_went_away_is_not_waited_for(self, client, master):
        """The master's word is enough: no question, no time-out; the reason is kept."""

        def leave(minion):
            data = {"jid": str(FIRST), "id": minion, "reason": "the minion went away, and so on"}
            master.bus.publish(f"salt/job/{FIRST}/gone/{minion}", data)
            return master.QUIET

        master.answers["x.y"] = leave
        answers = client.follow("a", "x.y", timeout=3600)
        assert list(answers) == []
        assert answers.silent == {"a": "went away, and so on"}
        assert len(master.jobs) == 1

    def test_the_return_of_one_that_went_away(self, client, master):
        """What the master has of it counts."""

        def leave(minion):
            master.lost = {"x.y"}
            master.give(str(FIRST), "x.y", minion, "made it")
            master.bus.publish(f"salt/job/{FIRST}/gone/{minion}", {"id": minion})
            return master.QUIET

        master.answers["x.y"] = leave
        assert client.cmd("a", "x.y", timeout=3600) == {"a": "made it"}

    def test_why_minions_are_silent(self, client, master, monkeypatch):
        """Not connected, not running, no answer."""
        monkeypatch.setattr(client_module, "GATHER_TIMEOUT", 0.05)
        master.missing = ["c"]
        asked = lambda minion: {} if minion == "a" else master.QUIET  # noqa: E731 - short
        master.answers |= {"x.y": lambda _: master.QUIET, "saltutil.find_job": asked}
        answers = client.follow("*", "x.y", timeout=0.05)
        assert list(answers) == []
        assert answers.silent == {
            "a": "returned nothing and does not run the job",
            "b": "did not answer in time",
            "c": "is not connected",
        }

    def test_one_that_is_no_longer_connected_when_it_is_asked(self, client, master):
        """It is not waited for."""

        def leave(_minion):
            master.missing = ["a"]
            return master.QUIET

        master.answers["x.y"] = leave
        answers = client.follow("a", "x.y", timeout=0.05)
        assert list(answers) == []
        assert answers.silent == {"a": "went away: it is not connected any more"}

    def test_a_master_that_goes_away_meanwhile(self, client, master):
        """The error names the job."""

        def gone(_params):
            raise NotRunningError("the master is not running")

        master.answers["x.y"] = lambda _: master.QUIET
        answers = client.follow("a", "x.y", timeout=0.05)
        master.publish = gone
        master.link.server._methods = {**master.link.server._methods, "jobs.publish": gone}
        with pytest.raises(NotRunningError, match=f"job {FIRST} may go on: 'reactor jobs show"):
            list(answers)

    def test_who_still_runs_it_is_waited_for(self, client, master):
        """However long it takes."""

        def asked(minion):
            if len(master.jobs) > 3:
                master.give(str(FIRST), "x.y", minion, "late")
            return {"jid": str(FIRST)}

        master.answers |= {"x.y": lambda _: master.QUIET, "saltutil.find_job": asked}
        assert client.cmd("a", "x.y", timeout=0.05) == {"a": "late"}
        assert len(master.jobs) == 4

    def test_a_job_that_ends_while_its_minion_is_asked(self, client, master):
        """Its return is not lost between the question and the answer."""

        def asked(minion):
            master.give(str(FIRST), "x.y", minion, "just now")
            return {}

        master.answers |= {"x.y": lambda _: master.QUIET, "saltutil.find_job": asked}
        assert client.cmd("a", "x.y", timeout=0.05) == {"a": "just now"}

    def test_a_return_that_was_not_heard(self, client, master):
        """The master has it."""
        master.lost = {"test.ping"}
        master.answers["saltutil.find_job"] = lambda _: {}
        found = list(client.get_returns_iter(_listened(client, "*", "test.ping"), 0.05))
        assert [list(one) for one in found] == [["a"], ["b"], ["c"]]
        assert found[0]["a"]["fun"] == "test.ping"
        assert found[0]["a"]["success"] is True

    def test_returns_that_come_together(self, client, master):
        """Each of them counts, though the bus publishes them as one message."""
        master.answers["x.y"] = lambda _: master.QUIET
        pub = _listened(client, "*", "x.y")
        events = [
            wire.pack_event(
                f"salt/job/{pub['jid']}/ret/{minion}",
                {"id": minion, "jid": pub["jid"], "return": minion, "retcode": 0, "success": True},
            )
            for minion in pub["minions"]
        ]
        fired = Publisher(endpoints.master_pull(client.opts))
        fired.fire(events, 5)
        fired.close()
        found = [list(answer) for answer in client.get_returns_iter(pub, 60)]
        assert found == [[minion] for minion in pub["minions"]]

    def test_what_is_no_event_is_passed_over(self, client, master):
        """A return that cannot be read is as one that did not come."""
        master.answers["x.y"] = lambda _: master.QUIET
        pub = _listened(client, "a", "x.y")
        event = f"salt/job/{pub['jid']}/ret/a\n\n\xc1".encode("latin-1")
        group = frames.Group(wire.pack([[1], [event]]), 1, 1, 1)
        audience = master.bus._audience
        audience._send(audience._clients[b"salt/job/"], group, framing.CHOSEN)
        master.give(pub["jid"], "x.y", "a", 5)
        (answer,) = client.get_returns_iter(pub, 5)
        assert answer["a"]["return"] == 5

    def test_an_error_of_the_master(self, client, master):
        """It is raised as what it is."""

        def refuse(_tgt):
            raise TargetError("unknown nodegroup")

        master.match = refuse
        with pytest.raises(TargetError, match="unknown nodegroup"):
            client.cmd("x", "test.ping", tgt_type="nodegroup")

    def test_one_connection_serves_all_calls(self, client, master):
        """Each call names the same connection."""
        senders = set()
        answer = master.link.server._answer
        master.link.server._answer = lambda who, *said: (senders.add(who), answer(who, *said))
        for _ in range(5):
            client.cmd("*", "test.ping")
        assert len(senders) == 1

    def test_closed_it_can_be_used_again(self, client):
        """It connects anew."""
        assert client.cmd("a", "test.ping") == {"a": True}
        client.close()
        assert client.cmd("a", "test.ping") == {"a": True}

    def test_in_threads(self, master_opts, master):
        """A client each."""
        found = []

        def ask(minion):
            with LocalClient(mopts=master_opts) as mine:
                found.extend(mine.cmd(minion, "test.ping") == {minion: True} for _ in range(5))

        threads = [threading.Thread(target=ask, args=(minion,)) for minion in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 15

    def test_after_a_fork(self, client):
        """The child connects anew, and the parent's connection is as it was."""
        client.cmd("a", "test.ping")
        child = os.fork()
        if child == 0:
            os._exit(0 if client.cmd("b", "test.ping") == {"b": True} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.cmd("a", "test.ping") == {"a": True}

    def test_closed_by_a_child(self, client):
        """A child that closes it takes nothing from its parent."""
        client.cmd("a", "test.ping")
        child = os.fork()
        if child == 0:
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert client.cmd("a", "test.ping") == {"a": True}

    def test_without_a_master(self, place):
        """The error says that nothing runs there."""
        with LocalClient(place) as alone:
            with pytest.raises(NotRunningError):
                alone.cmd_async("*", "test.ping")
            with pytest.raises(NotRunningError):
                alone.cmd("*", "test.ping")


def _listened(client, tgt, fun):
    client.listen()
    return client.run_job(tgt, fun)


@pytest.mark.parametrize(
    ("batch", "count", "size"),
    [
        ("3", 10, 3),
        (3, 10, 3),
        ("10%", 25, 3),
        ("50%", 1, 1),
        ("100%", 4, 4),
        (" 2 ", 9, 2),
        ("5%", 0, 1),
    ],
)
def test_batch_size(batch, count, size):
    """A number, or a share rounded up."""
    assert batch_size(batch, count) == size


@pytest.mark.parametrize("batch", ["x", "0", "-1", "%", "0%", "-5%", "inf%", "nan%", ""])
def test_a_batch_that_is_none(batch):
    """It is refused."""
    with pytest.raises(TargetError, match="give a number"):
        batch_size(batch, 10)


class TestCaller:
    """Execution functions in this process."""

    def test_cmd(self, minion_opts):
        """By both of its names."""
        caller = Caller(mopts=minion_opts)
        assert caller.cmd("test.arg", 1, a=2) == {"args": [1], "kwargs": {"a": 2}}
        assert caller.function("grains.get", "id") == "m1"

    def test_a_generator(self, minion_opts, tmp_path):
        """It is run, as in a job."""
        (tmp_path / "gen.py").write_text("def say():\n    yield 1\n    yield __opts__['id']\n")
        opts = minion_opts.with_(module_dirs=[str(tmp_path)])
        assert Caller(mopts=opts).cmd("gen.say") == [1, "m1"]

    @pytest.mark.parametrize("how", [{"master_type": "disable"}, {"file_client": "local"}])
    def test_custom_modules_without_a_master(self, minion_opts, tmp_path, how):
        """There is nobody to fetch them from: they are taken from the minion's own file_roots."""
        for root, said in (("first", 1), ("second", 2)):
            for kind, text in (
                ("modules", f"def say():\n    return [{said}, __grains__['here']]\n"),
                ("grains", f"def here():\n    return {{'here': {said}}}\n"),
            ):
                folder = tmp_path / root / f"_{kind}"
                folder.mkdir(parents=True)
                (folder / "mine.py").write_text(text)
        roots = {"base": [str(tmp_path / root) for root in ("first", "second")]}
        opts = minion_opts.with_(file_roots=roots)
        with pytest.raises(FunctionNotFoundError):
            Caller(mopts=opts).cmd("mine.say")
        alone = opts.with_(**how)
        assert Caller(mopts=alone).cmd("mine.say") == [1, 1]

    def test_by_path(self, place):
        """The configuration is read."""
        (place / "minion").write_text("id: m7\n")
        assert Caller(place).cmd("grains.get", "id") == "m7"

    def test_what_is_not_there(self, minion_opts):
        """It is named."""
        with pytest.raises(FunctionNotFoundError, match=r"test\.pingg"):
            Caller(mopts=minion_opts).cmd("test.pingg")


@contextmanager
def closing(client):
    """Close a client of the master's functions in any case."""
    try:
        yield client
    finally:
        client.close()


class TestMasterFunctions:
    """Runner and wheel functions in this process."""

    def test_without_a_bus(self, master_opts):
        """They run all the same."""
        with closing(RunnerClient(master_opts)) as client:
            assert client.cmd("test.arg", [1], kwarg={"a": 2}, pub_data={"user": "jane"}) == {
                "args": [1],
                "kwargs": {"a": 2},
            }

    def test_events(self, master_opts, master):
        """With a bus, two events say what runs."""
        with (
            closing(WheelClient(master_opts)) as client,
            LocalClient(mopts=master_opts) as ears,
        ):
            ears.listen()
            before = master.bus.status()["last_seq"]
            client.cmd("key.list_all")
            wait_for(lambda: master.bus.status()["last_seq"] == before + 2)

    def test_full_return(self, master_opts):
        """What was run under which id, and what came of it, errors too."""
        with closing(RunnerClient(master_opts)) as client:
            good = client.cmd("test.arg", full_return=True)
            assert (good["fun"], good["success"], len(good["jid"])) == ("test.arg", True, 20)
            bad = client.cmd("test.nothing", full_return=True)
            assert (bad["success"], "test.nothing" in bad["return"]) == (False, True)

    def test_errors(self, master_opts):
        """They are raised."""
        with closing(RunnerClient(master_opts)) as client, pytest.raises(FunctionNotFoundError):
            client.cmd("test.nothing")

    def test_low_data(self, master_opts):
        """Arguments stand in lists, in dicts, or beside the function."""
        low = {"fun": "test.arg", "arg": [1], "kwarg": {"a": 2}, "b": 3, "client": "runner"}
        with closing(RunnerClient(master_opts)) as client:
            assert client.cmd_sync(low) == {"args": [1], "kwargs": {"a": 2, "b": 3}}
            with pytest.raises(ArgumentsError, match="'fun'"):
                client.cmd_sync({"arg": [1]})

    @pytest.mark.usefixtures("master")
    def test_begun_and_not_waited_for(self, master_opts):
        """The answer says which events tell of it; a function that fails has its events too."""
        with (
            get_event("master", opts=master_opts) as ear,
            closing(RunnerClient(master_opts)) as runner,
            closing(WheelClient(master_opts)) as wheel,
        ):
            begun = runner.cmd_async({"fun": "test.arg", "arg": [1], "kwarg": {"a": 2}})
            failing = runner.asynchronous("test.nothing", {}, user="jane")
            listed = wheel.cmd_async({"fun": "key.list_all"}, local=False)
            with pytest.raises(ArgumentsError, match="'fun'"):
                runner.cmd_async({})
            returned = {}
            while len(returned) < 3:
                event = ear.get_event(wait=30, tag="salt/", full=True)
                assert event, "the events never came"
                if event["tag"].endswith("/ret"):
                    returned[event["tag"]] = event["data"]
        assert begun["tag"] == f"salt/run/{begun['jid']}"
        assert listed["tag"] == f"salt/wheel/{listed['jid']}"
        assert returned[f"{begun['tag']}/ret"]["return"] == {"args": [1], "kwargs": {"a": 2}}
        assert returned[f"{failing['tag']}/ret"]["success"] is False
        assert returned[f"{failing['tag']}/ret"]["user"] == "jane"
        assert f"{listed['tag']}/ret" in returned

    def test_default_options(self, place, monkeypatch):
        """Without options the configuration is looked up."""
        monkeypatch.setenv("REACTOR_CONFIG_DIR", str(place))
        with closing(WheelClient()) as client:
            assert str(place) in client.opts["sock_dir"]
