"""The pool of job workers, with real processes."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus.errors import ConfigError
from bus.minion import pool as pool_module
from bus.minion.jobs import Job
from bus.minion.members import Limits
from bus.minion.nursery import FAILED, NurseryError, Report
from bus.minion.worker import Loaded
from tests.unit.bus.minion_tools import (
    LIMIT,
    Rig,
    alive,
    children,
    entry,
    functions,
    load,
    wait_for,
)


@pytest.fixture
def rig():
    """One warm worker."""
    with Rig() as made:
        yield made


def test_runs_a_job(rig):
    """A function's return comes back."""
    assert rig.run("test.ping").as_message() == {"return": True, "retcode": 0, "success": True}


def test_tells_the_grains_of_a_fresh_worker(rig):
    """A worker that is ready says what grains it loaded, in a form that goes over the wire."""
    rig.until(lambda: rig.grains)
    assert rig.grains == [{"os": "Debian", "odd": [1]}]


def test_reuses_its_worker(rig):
    """Jobs run in the warm worker, not in a process each."""
    assert rig.run("test.pid").value == rig.run("test.pid").value


def test_two_hundred_jobs(rig):
    """Each job gets its own answer."""
    handed = [rig.submit("test.echo", number)[1] for number in range(200)]
    rig.until(lambda: all(handed))
    assert [results[0].value for results in handed] == [[number] for number in range(200)]
    assert rig.pool.counters["done"] == 200


def test_grows_and_shrinks():
    """Extra workers are started while jobs wait, and end when they have been idle."""
    with Rig(limits=Limits(warm=1, most=3, idle_seconds=0.3)) as rig:
        handed = [rig.submit("test.sleep", 0.2)[1] for _ in range(6)]
        rig.until(lambda: len(rig.pool.running()) == 3)
        rig.until(lambda: all(handed))
        rig.until(lambda: rig.workers() == {"idle": 1})
        assert rig.pool.counters["workers_started"] == 3


def test_a_death_is_a_failed_return(rig):
    """A job whose process vanishes has failed, and the next one runs in a new process."""
    result = rig.run("test.vanish", 3)
    assert result.as_message() == {
        "return": "the worker process of test.vanish exited with status 3",
        "retcode": 1,
        "success": False,
    }
    assert rig.run("test.ping").value is True
    assert rig.pool.counters["workers_lost"] == 1


def test_a_signal_is_named(rig):
    """The return names the signal that killed the worker."""
    assert "was killed by SIGKILL" in rig.run("test.killed").value


def test_a_death_is_noticed_though_a_child_holds_the_socket(rig, tmp_path):
    """A process that a function left behind does not hide that the worker is gone, and goes too."""
    pid_file = tmp_path / "pid"
    assert "exited with status 3" in rig.run("test.fork_and_die", str(pid_file)).value
    wait_for(lambda: not alive(int(pid_file.read_text())))


def test_timeout_kills_the_job_and_its_children(rig, tmp_path):
    """A job beyond its time is killed with all that it started."""
    pids = tmp_path / "pids"
    result = rig.run("test.tree", str(pids), timeout=1)
    assert result.value == "test.tree timed out after 1 s"
    assert not result.success
    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): not alive(pid))
    assert rig.run("test.ping").value is True


def test_job_timeout_is_the_default():
    """The option job_timeout holds for jobs without a timeout of their own."""
    with Rig(limits=Limits(warm=1, most=1, job_timeout=0.2)) as rig:
        assert "timed out after 0.2 s" in rig.run("test.sleep", 600).value
        assert rig.run("test.sleep", 0.3, timeout=30).value == "slept"


def test_kill(rig, tmp_path):
    """A running job and a waiting one can be ended by their ids; an unknown one cannot."""
    started = tmp_path / "started"
    running, results = rig.submit("test.sleep", 600, str(started))
    waiting, dropped = rig.submit("test.ping")
    rig.until(started.exists)
    (row,) = rig.pool.running()
    assert (row["jid"], row["fun"], row["pid"]) == (running, "test.sleep", int(started.read_text()))
    assert rig.pool.find(running)["pid"] == row["pid"]
    assert rig.pool.find(waiting) == {"jid": waiting, "fun": "test.ping", "user": ""}
    assert rig.pool.find("nobody") == {}
    assert rig.pool.kill(waiting)
    assert dropped[0].value == "test.ping was killed before it ran"
    assert rig.pool.kill(running)
    rig.until(lambda: results)
    assert results[0].value == "test.sleep was killed on request"
    assert not rig.pool.kill("nobody")


def test_a_full_queue_refuses():
    """What does not fit into the queue fails at once and says so."""
    with Rig(limits=Limits(warm=1, most=1, queue=1)) as rig:
        rig.until(lambda: rig.workers() == {"idle": 1})
        _, first = rig.submit("test.sleep", 0.3)
        _, second = rig.submit("test.ping")
        _, third = rig.submit("test.ping")
        assert "1 jobs wait already" in third[0].value
        assert rig.pool.counters["refused"] == 1
        rig.until(lambda: first and second)
        assert second[0].value is True


def test_a_return_too_large_fails(rig):
    """A huge return fails with a word on the limit, and does not break the connection."""
    result = rig.run("test.huge", 3 * LIMIT)
    assert "max_event_size" in result.value
    assert not result.success
    assert len(rig.run("test.huge", LIMIT // 2).value) == LIMIT // 2


def test_a_large_job_is_written_piece_by_piece(rig):
    """Arguments larger than the socket's buffer arrive whole, though nothing blocks."""
    text = "y" * 900_000
    assert rig.run("test.len", text).value == len(text)


def test_progress(rig):
    """Each step of a generator is told, and its return is all of them."""
    assert rig.run("test.steps").value == {"a": 1, "b": 2}
    assert [(number, data) for _, number, data in rig.progress] == [(0, {"a": 1}), (1, {"b": 2})]


def test_reload_runs_changed_code(tmp_path):
    """After a reload a job sees the module file as it is now; a running job is left alone."""
    module = tmp_path / "value.json"
    module.write_text('"old"')

    def load_file(context):
        value = json.loads(module.read_text())
        table = {**functions(context), "mine.value": lambda: value}
        return Loaded(lambda fun, arg: table[fun](*arg), table.__contains__, {})

    with Rig(entry(load_file), Limits(warm=2, most=2)) as rig:
        assert rig.run("mine.value").value == "old"
        started = tmp_path / "started"
        _, slept = rig.submit("test.sleep", 0.5, str(started))
        rig.until(started.exists)
        module.write_text('"new"')
        rig.pool.reload()
        assert [rig.run("mine.value").value for _ in range(4)] == ["new"] * 4
        rig.until(lambda: slept)
        assert slept[0].value == "slept"
        rig.until(lambda: rig.workers() == {"idle": 2})


def test_a_worker_that_cannot_load_fails_the_jobs(tmp_path):
    """When no worker can start, jobs fail rather than wait for ever; it is tried again."""
    good = tmp_path / "good"

    def load_or_fail(context):
        if not good.exists():
            raise RuntimeError("a broken module")
        return load(context)

    with Rig(entry(load_or_fail)) as rig:
        result = rig.run("test.ping")
        assert "no job worker can start: it exited with status 1" in result.value
        good.write_text("")
        rig.until(lambda: rig.workers().get("idle"))
        assert rig.run("test.ping").value is True
        assert rig.pool.counters["start_failures"] >= 1


def test_a_worker_that_never_gets_ready_is_killed(monkeypatch):
    """Loading may not take for ever."""
    monkeypatch.setattr(pool_module, "START_SECONDS", 0.3)
    with Rig(entry(lambda _context: time.sleep(600))) as rig:
        assert "did not start in time" in rig.run("test.ping").value


def test_nonsense_from_a_worker_ends_it():
    """A worker that sends what is no message is replaced."""

    def shout(sock):
        sock.sendall(b"\xff" * 100)
        sock.recv(1)

    with Rig(shout) as rig:
        assert "no job worker can start" in rig.run("test.ping").value


@pytest.mark.parametrize(
    "message", [[1], {"kind": "result", "jid": "other"}, {"kind": "progress", "jid": "nothing"}]
)
def test_a_message_about_nothing_ends_the_worker(message):
    """A worker that answers what it was not asked is replaced."""

    def answer(sock):
        from bus.minion.stream import frame

        sock.sendall(frame({"kind": "ready"}) + frame({"kind": "ready"}) + frame(message))
        sock.recv(1)

    with Rig(answer) as rig:
        rig.until(lambda: rig.pool.counters["workers_started"] > 1)


def test_without_descriptors_no_worker_starts():
    """When sockets run out, jobs fail with the reason, and work resumes when there are some."""
    with Rig() as rig:
        rig.until(lambda: rig.workers() == {"idle": 1})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            rig.pool.reload()
            _, results = rig.submit("test.ping")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if results:
            assert "Too many open files" in results[0].value
        rig.until(lambda: rig.workers().get("idle"))
        assert rig.run("test.ping").value is True


def test_close_lets_running_jobs_end():
    """Until the deadline a running job may end by itself; a waiting one is told."""
    rig = Rig()
    rig.until(lambda: rig.workers() == {"idle": 1})
    _, running = rig.submit("test.sleep", 0.2)
    _, waiting = rig.submit("test.ping")
    rig.pool.close(time.monotonic() + 10)
    assert running[0].value == "slept"
    assert "the minion was stopped" in waiting[0].value
    assert "being stopped" in rig.submit("test.ping")[1][0].value


def test_close_kills_at_the_deadline(tmp_path):
    """After the deadline nothing of a job is left, and it has failed."""
    pids = tmp_path / "pids"
    rig = Rig()
    _, results = rig.submit("test.tree", str(pids))
    rig.until(lambda: pids.exists() and pids.read_text())
    rig.pool.close()
    assert results[0].value == "test.tree was killed: the minion was stopped"
    for pid in [rig.nursery.pid, *map(int, pids.read_text().split())]:
        wait_for(lambda pid=pid: not alive(pid))


def test_no_process_is_left_after_close():
    """Nursery and workers are gone, and reaped, when close returns."""
    rig = Rig(limits=Limits(warm=2, most=2))
    rig.until(lambda: rig.workers() == {"idle": 2})
    workers = children(rig.nursery.pid)
    assert len(workers) == 2
    rig.pool.close()
    assert not any(map(alive, [rig.nursery.pid, *workers]))
    with pytest.raises(ChildProcessError):
        os.waitpid(rig.nursery.pid, 0)
    rig.pool.close()


def test_the_nursery_gone_is_an_error(tmp_path):
    """Without a nursery all jobs fail, and the loop is told."""
    started = tmp_path / "started"
    with Rig() as rig:
        _, running = rig.submit("test.sleep", 600, str(started))
        _, waiting = rig.submit("test.ping")
        rig.until(started.exists)
        os.kill(rig.nursery.pid, signal.SIGKILL)
        with pytest.raises(NurseryError):
            rig.until(lambda: False)
        assert not running[0].success
        assert waiting[0].value == "the minion lost its job workers"
        os.killpg(int(started.read_text()), signal.SIGKILL)


def test_a_late_report_is_not_waited_for():
    """A worker whose end nobody reports is given up all the same."""
    now = [1000.0]
    with Rig(clock=lambda: now[0]) as rig:
        rig.until(lambda: rig.workers() == {"idle": 1})
        _, results = rig.submit("test.sleep", 600)
        rig.nursery.kill = lambda _token: None
        rig.pool.kill(rig.pool.running()[0]["jid"])
        now[0] += 100
        rig.pool.tick(now[0])
        del rig.nursery.kill
        assert results[0].value == "test.sleep was killed on request"
        for pid in children(rig.nursery.pid):
            os.kill(pid, signal.SIGKILL)


def test_limits_are_checked():
    """No pool without a worker; the maximum is at least what is kept warm."""
    with pytest.raises(ConfigError, match="job_workers"):
        Limits(warm=0)
    assert Limits(warm=5, most=2).most == 5


def test_many_jobs_go_through_the_same_warm_workers():
    """None is lost and none needs a process of its own: what that costs, `make bench` says."""
    with Rig(limits=Limits(warm=2, most=2)) as rig:
        rig.until(lambda: rig.workers() == {"idle": 2})
        handed = [rig.submit("test.ping")[1] for _ in range(2000)]
        rig.until(lambda: all(handed))
        assert all(result.success for (result,) in handed)
        assert rig.workers() == {"idle": 2}


_OWNER = """
import sys, time
sys.path[:0] = {path!r}
from tests.unit.bus.minion_tools import Rig
rig = Rig(grace=0.5)
jid, results = rig.submit("test.tree", {pids!r})
print(rig.nursery.pid, flush=True)
rig.until(lambda: False)
"""


def test_no_process_is_left_after_a_kill_of_the_owner(tmp_path):
    """SIGKILL of the minion ends nursery, workers and what a hung job had started."""
    pids = tmp_path / "pids"
    path = [str(Path(pool_module.__file__).parents[2])]
    code = _OWNER.format(path=path, pids=str(pids))
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        nursery = int(owner.stdout.readline())
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    finally:
        owner.kill()
        owner.communicate()
    for pid in [nursery, *map(int, pids.read_text().split())]:
        wait_for(lambda pid=pid: not alive(pid))


def test_jobs_are_values(rig):
    """A job may be handed in by anybody who has one."""
    results = []
    rig.pool.submit(Job("1", "test.ping"), results.append)
    rig.until(lambda: results)
    assert results[0].success


def test_arguments_that_do_not_pack_fail_the_job(rig):
    """The job fails with the reason, and the worker takes the next one."""
    rig.until(lambda: rig.workers() == {"idle": 1})
    assert "msgpack cannot carry" in rig.run("test.echo", {1}).value
    assert rig.run("test.echo", 1).value == [1]
    assert rig.pool.counters["workers_started"] == 1


def test_a_fork_that_fails_is_tried_again(rig):
    """When the nursery cannot fork, jobs fail with its reason, and later ones run."""
    _, results = rig.submit("test.ping")
    rig.nursery.reports = lambda: [Report(FAILED, 1, 11), Report(FAILED, 99, 11)]
    rig.pool.handle(rig.nursery.fileno())
    del rig.nursery.reports
    assert "could not be started: Resource temporarily unavailable" in results[0].value
    assert rig.run("test.ping").value is True
