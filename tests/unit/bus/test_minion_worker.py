"""What a worker makes of a job: its return, return code and success."""

import os
import socket
import threading
from pathlib import Path

import pytest

from bus import wire
from bus.minion.stream import BlockingStream
from bus.minion.surroundings import Surroundings
from bus.minion.worker import PROGRESS, READY, RESULT, Loaded, Worker, portable, retcode_of
from tests.unit.bus.minion_tools import LIMIT, Rig, Unprintable, functions, load


@pytest.fixture(scope="module")
def rig():
    """One worker process for all of these tests."""
    with Rig() as made:
        yield made


def answer(fun, *arg, limit=LIMIT):
    """Run one job in a worker of this process; return all that it sends."""
    ours, theirs = socket.socketpair()
    context = {}
    worker = Worker(BlockingStream(theirs, LIMIT), load(context), context, limit)
    stream = BlockingStream(ours, 2 * LIMIT)
    stream.send({"jid": "1", "fun": fun, "arg": arg})
    ours.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=_run_to_the_end, args=(worker, theirs))
    thread.start()
    messages = []
    try:
        while True:
            messages.append(stream.receive())
    except EOFError:
        return messages
    finally:
        thread.join()
        ours.close()


def _run_to_the_end(worker, sock):
    try:
        with pytest.raises(EOFError):
            worker.run()
    finally:
        sock.close()


def result(fun, *arg, limit=LIMIT):
    """Return what became of one job."""
    ready, *_, last = answer(fun, *arg, limit=limit)
    assert ready["kind"] == READY
    assert last.pop("kind") == RESULT
    assert last.pop("jid") == "1"
    return last


def test_an_exception_is_returned_with_its_trace():
    """What nobody expected comes with the traceback, as Salt shows it."""
    found = result("test.raise")
    assert found["return"].startswith("The minion function caused an exception: Traceback")
    assert "ValueError: so wrong" in found["return"]
    assert (found["retcode"], found["success"]) == (1, False)


def test_an_exception_that_is_no_exception():
    """Not even KeyboardInterrupt ends a worker."""
    assert "KeyboardInterrupt" in result("test.raise_group")["return"]


def test_a_known_error_is_one_line():
    """An error that was raised to be read is shown without a traceback."""
    found = result("test.known")
    assert found == {"return": "ERROR: the disk is full", "retcode": 1, "success": False}


def test_an_unknown_function():
    """The return says so, and names near ones."""
    found = result("test.pong")
    assert found["return"].startswith("'test.pong' is not available: ")
    assert "test.ping" in found["return"]
    assert found["retcode"] == 254


def test_a_function_that_misses_another_one():
    """It is the function that failed then, not its name that is wrong."""
    assert result("test.missing")["return"] == "ERROR: no function 'x.y'"


def test_wrong_arguments():
    """Arguments that do not fit are an error of one line."""
    assert "takes 0 positional arguments" in result("test.ping", 1)["return"]


@pytest.mark.parametrize(("code", "retcode"), [(3, 3), (0, 1), (None, 1), ("no", 1)])
def test_sys_exit_is_a_failure(code, retcode):
    """A function that ends its process instead of returning has not succeeded."""
    found = result("test.exit", code)
    assert found["return"] == f"test.exit ended with sys.exit({code!r})"
    assert (found["retcode"], found["success"]) == (retcode, False)


def test_several_functions():
    """One after the other, each with its own arguments, whatever becomes of the others."""
    fun = ["test.echo", "test.known", "test.exit", "test.nothing", "test.retcode", "test.ping"]
    found = result(fun, [1, 2], [], [3], [], [0])
    assert found["return"] == {
        "test.echo": [1, 2],
        "test.known": "ERROR: the disk is full",
        "test.exit": "test.exit ended with sys.exit(3)",
        "test.nothing": "'test.nothing' is not available: no function 'test.nothing': "
        "did you mean test.ping?",
        "test.retcode": None,
        "test.ping": True,
    }
    assert (found["retcode"], found["success"]) == (1, False)
    assert result(["test.ping", "test.pid"])["success"] is True
    # What one of them sets is its own return code, not that of those after it.
    assert result(["test.ping", "test.retcode", "test.echo"], [], [7], [])["retcode"] == 7


def test_steps_of_several_functions_are_counted_on():
    """No two have one number, so that none takes another's tag."""
    _ready, *steps, _last = answer(["test.steps", "test.words"])
    assert {step["kind"] for step in steps} == {PROGRESS}
    assert [step["number"] for step in steps] == list(range(len(steps)))
    assert len(steps) > len(answer("test.steps")) - 2


def test_a_child_that_comes_out_of_one_of_several(rig):
    """It runs none of those after it."""
    done = rig.run(["test.fork", "test.pid"])
    assert done.success
    assert set(done.value) == {"test.fork", "test.pid"}


def test_retcode_from_the_context():
    """``__context__["retcode"]`` sets the return code of this job only."""
    assert result("test.retcode", 7) == {"return": None, "retcode": 7, "success": False}
    assert result("test.retcode", 0)["success"] is True
    assert result("test.retcode", "odd")["retcode"] == 1


def test_the_return_code_is_of_one_job(rig):
    """What functions keep in ``__context__`` stays for the next job, but for the return code."""
    rig.run("test.keep", "connection", 1)
    assert rig.run("test.retcode", 7).retcode == 7
    assert rig.run("test.context").value == {"connection": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"result": False}, 1), ({"success": False}, 1), ({"result": True}, 0), ([], 0), (False, 0)],
)
def test_retcode_from_the_return(value, expected):
    """A dict that says that it is no success is none."""
    assert retcode_of(value, 0) == expected


def test_values_that_do_not_pack():
    """Sets become lists, other values their repr; what packs stays as it is."""
    found = result("test.set")["return"]
    assert found["values"] == [1]
    assert found["fine"] == 1
    assert found["(1, 2)"] == "<class 'object'>"
    assert "Unprintable without repr: RuntimeError" in found["odd"]


def test_a_value_that_raises_when_it_is_looked_at():
    """It ends neither the worker nor the job's return."""
    found = result("test.exiting")
    assert found["return"] == "the return of test.exiting cannot be carried: SystemExit"
    assert (found["retcode"], found["success"]) == (1, False)


def test_a_number_too_long_to_be_written_out():
    """Python refuses to show it; the job has succeeded all the same."""
    text = "<int without repr: ValueError>"
    assert result("test.long") == {"return": {text: text}, "retcode": 0, "success": True}


def test_keys_and_numbers_that_do_not_pack():
    """Keys that would not unpack and integers beyond 64 bits become text."""
    assert result("test.keys")["return"] == {"(1, 2)": "a", "b": str(2**70)}


def test_portable_bounds_what_refers_to_itself():
    """A value without an end is cut."""
    loop: list = []
    loop.append(loop)
    assert len(wire.pack(portable(loop))) < 1_000_000


def test_portable_keeps_broken_text_apart():
    """Text that is no valid Unicode is escaped."""
    assert wire.unpack(wire.pack(portable("a\udcffb"))) == "'a\\udcffb'"
    assert portable(Unprintable()).startswith("<Unprintable")


def test_too_large_a_return():
    """A return beyond the limit is replaced by words."""
    found = result("test.huge", 100_000, limit=50_000)
    assert "100005 bytes" in found["return"]
    assert found["success"] is False


def test_a_generator_is_run():
    """Steps that are dicts are merged, others listed; each is reported."""
    messages = answer("test.words")
    assert [one["data"] for one in messages if one["kind"] == PROGRESS] == ["one", {"two": 2}]
    assert messages[-1]["return"] == ["one", {"two": 2}]
    assert answer("test.steps")[-1]["return"] == {"a": 1, "b": 2}


def test_a_step_too_large_is_not_reported():
    """Only the whole return counts then, and says that it is too large."""
    context = {}
    loaded = load(context)

    def call(_fun, _arg):
        yield "x" * 100_000

    ours, theirs = socket.socketpair()
    stream = BlockingStream(ours, LIMIT)
    stream.send({"jid": "1", "fun": "a.b"})
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        Worker(
            BlockingStream(theirs, LIMIT), Loaded(call, loaded.available, {}), context, 50_000
        ).run()
    assert stream.receive()["kind"] == READY
    assert "max_event_size" in stream.receive()["return"]
    ours.close()
    theirs.close()


def test_prints_do_not_disturb(capfd):
    """What a function or its programs print goes to the error stream."""
    with Rig() as rig:
        assert rig.run("test.print", "hello").value == "hello"
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "hello\nfrom-a-shell-hello\n"


def test_nothing_to_read(rig):
    """A function that reads its standard input finds it empty."""
    assert rig.run("test.stdin").value == ""


def test_a_child_that_comes_out_of_the_function_ends(rig):
    """Only the worker answers, not the process that its function forked."""
    assert rig.run("test.fork").value == "parent"
    assert rig.run("test.ping").value is True


def test_a_worker_has_few_descriptors(rig):
    """Standard streams, its socket, the one that lists them: nothing of the minion's."""
    rig.until(lambda: rig.workers() == {"idle": 1})
    descriptors = rig.run("test.descriptors").value
    assert len(descriptors) <= 5 + _log_files()


def _log_files():
    """Coverage and log handlers may keep files open; far fewer than the minion has."""
    return 2


def test_a_worker_has_its_own_session_and_signals(rig):
    """Ctrl-C in the minion's terminal does not reach a job; SIGTERM ends it."""
    assert rig.run("test.sid").value is True
    assert rig.run("test.signals").value == [True, True]


def test_what_a_job_changes_of_its_process_is_put_back(rig):
    """Folder, umask, environment, signals, timers and streams: the next job finds them as ever."""
    before = rig.run("test.surroundings").value
    pid = rig.run("test.pid").value
    left = rig.run("test.change").value
    assert {key for key in before if before[key] == left[key]} == set()
    assert rig.run("test.surroundings").value == before
    assert rig.run("test.print", "hello").success
    assert rig.run("test.pid").value == pid


@pytest.mark.parametrize("what", ["descriptor", "limit", "files", "all files"])
def test_what_cannot_be_put_back_takes_a_new_worker(rig, what):
    """The job's return is its own, and the next one runs in another process."""
    before = rig.run("test.surroundings").value
    changed = rig.run("test.change_for_good", what)
    assert changed.success
    assert rig.run("test.surroundings").value == before
    assert rig.run("test.pid").value != changed.value
    assert rig.run("test.print", "hello").success


def test_a_job_that_removes_the_folder_it_has_gone_to(rig, tmp_path):
    """The worker goes back to where it was."""
    (tmp_path / "gone").mkdir()
    pid = rig.run("test.change_for_good", "folder", str(tmp_path / "gone")).value
    before = rig.run("test.surroundings").value["cwd"]
    assert before == str(Path.cwd())
    assert rig.run("test.pid").value == pid


@pytest.mark.parametrize("there", [True, False])
def test_the_folder_of_the_worker_itself_goes(tmp_path, monkeypatch, there):
    """Without a folder to go back to a worker is not used again; without one from the start it is."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    if not there:
        home.rmdir()
    surroundings = Surroundings(lambda: None)
    assert surroundings.restore()
    if there:
        home.rmdir()
    os.chdir("/")
    assert not surroundings.restore()


def test_the_functions_are_those_of_the_rig():
    """The table of functions is made anew for each worker."""
    assert functions({})["test.ping"]() is True
    assert os.getpid() == functions({})["test.pid"]()
