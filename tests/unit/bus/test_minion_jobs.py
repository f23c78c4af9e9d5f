"""Jobs and results as values."""

import pytest

from bus import wire
from bus.errors import ArgumentsError, WireError
from bus.minion.jobs import (
    Job,
    Result,
    SeenJobs,
    describe_exit,
    job_return,
    signal_number,
    together,
)

GOOD = {"jid": "20261122093000123456", "fun": "test.ping", "arg": [1, {"__kwarg__": True, "a": 2}]}


def test_a_job_from_the_master():
    """Missing parts have defaults, and the job goes to a worker as it came."""
    job = Job.from_message(GOOD)
    assert job.arg == (1, {"__kwarg__": True, "a": 2})
    assert (job.timeout, job.user) == (0, "")
    assert Job.from_message(job.as_message()) == job
    assert Job.from_message({**GOOD, "arg": None, "timeout": None}).arg == ()


def test_a_job_of_several_functions():
    """It says what is to be run, in order, and goes to a worker as it came."""
    fun, arg = ["test.ping", "test.echo"], [[], [1]]
    job = Job.from_message({**GOOD, "fun": fun, "arg": arg})
    assert [(call.fun, call.arg) for call in job.calls] == [("test.ping", ()), ("test.echo", (1,))]
    assert job.name == "test.ping, test.echo"
    assert Job.from_message(job.as_message()) == job
    done = job_return(job, Result({"test.ping": True, "test.echo": [1]}))
    assert wire.unpack(wire.pack([done["fun"], done["fun_args"]])) == [fun, arg]


def test_what_comes_of_several_functions():
    """Each value by its name; one that failed is the job's failure."""
    good, bad = Result(1), Result.failed("no", 7)
    assert together({"a.b": good, "c.d": good}) == Result({"a.b": 1, "c.d": 1})
    found = together({"a.b": good, "c.d": bad, "e.f": Result.failed("no", 8)})
    assert found == Result({"a.b": 1, "c.d": "no", "e.f": "no"}, 7, success=False)


@pytest.mark.parametrize(
    "change",
    [
        {"jid": ""},
        {"jid": "../x"},
        {"jid": 7},
        {"fun": ""},
        {"fun": None},
        {"fun": "f" * 1000},
        {"fun": ["test.ping", "test.ping"], "arg": []},
        {"fun": ["test.ping"], "arg": [1]},
        {"arg": "text"},
        {"timeout": -1},
        {"timeout": True},
        {"timeout": "soon"},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
    ],
)
def test_no_job(change):
    """What is no job is refused in one line."""
    with pytest.raises(WireError) as caught:
        Job.from_message({**GOOD, **change})
    assert "\n" not in str(caught.value)


def test_a_job_is_a_dict():
    """Anything else is refused."""
    with pytest.raises(WireError):
        Job.from_message([1])


def test_results():
    """A result goes over the wire and back; half a result is refused."""
    result = Result({"a": 1}, 2, success=False)
    assert Result.from_message(result.as_message()) == result
    for broken in ({}, {"return": 1}, {"return": 1, "retcode": "x"}):
        with pytest.raises(WireError):
            Result.from_message(broken)


def test_the_return_of_a_job():
    """It has Salt's keys, the condensed arguments among them."""
    assert job_return(Job.from_message(GOOD), Result(True)) == {
        "jid": GOOD["jid"],
        "fun": "test.ping",
        "fun_args": GOOD["arg"],
        "return": True,
        "retcode": 0,
        "success": True,
    }


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "ended in an unknown way"),
        (3, "exited with status 3"),
        (-9, "was killed by SIGKILL: out of memory?"),
        (-11, "was killed by SIGSEGV"),
        (-200, "was killed by signal 200"),
    ],
)
def test_how_a_process_ended(code, text):
    """Exit statuses and signals are put into words."""
    assert describe_exit(code) == text


def test_a_job_is_seen_once():
    """An id is new once; of those that are settled, and of no others, the oldest are forgotten."""
    seen = SeenJobs(limit=2)
    assert [seen.add(jid) for jid in "aabcd"] == [True, False, True, True, True]
    for jid in "bcdx":
        seen.settle(jid)
    assert [seen.add(jid) for jid in "acdbx"] == [False, False, False, True, True]


@pytest.mark.parametrize("name", ["15", "TERM", "SIGTERM", " sigterm "])
def test_signal_number(name):
    """By number or name."""
    assert signal_number(name) == 15


@pytest.mark.parametrize("name", ["", "0", "999", "TERMINATE", "-1"])
def test_no_signal(name):
    """It is said what a signal looks like."""
    with pytest.raises(ArgumentsError, match="such as SIGTERM"):
        signal_number(name)
