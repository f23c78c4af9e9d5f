"""The supervisor, with real processes and roles made up for the test."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from reactor.supervisor import Role, Supervisor, _listens, _spoken

ROOT = Path(__file__).parents[3]

PRELUDE = """
import os, signal, socket, sys, time
from pathlib import Path
from bus.errors import AlreadyRunningError
from reactor.supervisor import Role, Supervisor
here = Path(sys.argv[1])

def note(text):
    with (here / "notes").open("a") as file:
        file.write(text + "\\n")

def serve(name):
    def run(stop):
        note(f"{name} begins {os.getpid()}")
        while not stop.is_set():
            time.sleep(0.005)
        note(f"{name} ends")
    return Role(name, run)

def say(text):
    note("say " + text)

def supervise(*roles, **options):
    status = Supervisor(roles, say=say, on_ready=lambda: note("ready"), **options).run()
    note(f"status {status}")
    sys.exit(status)
"""


class Running:
    """A supervisor in a process of its own, and what it noted."""

    def __init__(self, tmp_path, body):
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + textwrap.dedent(body))
        self.path = tmp_path / "notes"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def notes(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, text, count=1, seconds=10):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [line for line in self.notes() if line.startswith(text)]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"no {text!r} in {self.notes()}")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(10)

    def pid_of(self, name, which=-1):
        return int(self.wait_for(f"{name} begins")[which].split()[-1])


@pytest.fixture
def start(tmp_path):
    """Start supervisors, and leave none behind."""
    started = []

    def go(body):
        started.append(Running(tmp_path, body))
        return started[-1]

    yield go
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        running.process.stderr.close()


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(pid, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.01)
    return False


def test_starts_in_order_and_stops_in_reverse(start):
    """Roles start as they are given and stop the other way round; the status is 0."""
    running = start('supervise(serve("one"), serve("two"))')
    running.wait_for("ready")
    running.wait_for("two begins")
    assert running.end() == 0
    names = [line.rsplit(" ", 1)[0] if "begins" in line else line for line in running.notes()]
    assert names.index("two ends") < names.index("one ends")
    assert names[-1] == "status 0"


def test_ctrl_c_ends_it_clean(start):
    """SIGINT is as good as SIGTERM, and each role ends by itself."""
    running = start('supervise(serve("one"))')
    running.wait_for("one begins")
    assert running.end(signal.SIGINT) == 0
    assert "one ends" in running.notes()


def test_a_role_is_in_a_session_of_its_own(start):
    """Ctrl-C in a terminal, which hits the whole group, must not reach the roles."""
    running = start('supervise(serve("one"))')
    pid = running.pid_of("one")
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == pid


def test_restarts_a_role_that_was_killed(start):
    """A role that dies is started again, and a person is told."""
    running = start('supervise(serve("one"), serve("two"))')
    running.wait_for("ready")
    os.kill(running.pid_of("one"), signal.SIGKILL)
    running.wait_for("one begins", count=2)
    (said,) = running.wait_for("say")
    assert "one ended unexpectedly (signal SIGKILL)" in said
    assert len(running.wait_for("two begins")) == 1
    assert running.end() == 0


def test_restarts_wait_longer_and_longer(start):
    """A role that keeps falling over does not keep the machine busy."""
    running = start(
        """
        def run(stop):
            note(f"one begins {time.monotonic()}")
            os.kill(os.getpid(), signal.SIGKILL)
        supervise(Role("one", run))
        """
    )
    times = [float(line.split()[-1]) for line in running.wait_for("one begins", count=4)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] < gaps[1] < gaps[2]
    assert running.end() == 0


def test_a_role_that_cannot_start_ends_it_all_with_its_line(start):
    """What cannot run says why in one line, and nothing is left running."""
    running = start(
        """
        def run(stop):
            raise AlreadyRunningError("another server\\n has it")
        supervise(serve("one"), Role("two", run, "ipc:///nowhere"), serve("three"))
        """
    )
    assert running.process.wait(10) == 1
    assert running.process.stderr.read() == "reactor: two: another server has it\n"
    assert "one ends" in running.notes()
    assert not any("three" in line for line in running.notes())
    assert "ready" not in running.notes()


def test_a_role_that_falls_over_at_the_start_ends_it_all(start):
    """A fault at the start is shown with its trace."""
    running = start(
        """
        import logging
        logging.basicConfig()
        def run(stop):
            raise RuntimeError("a fault")
        supervise(Role("one", run, "ipc:///nowhere"))
        """
    )
    assert running.process.wait(10) == 1
    assert "RuntimeError: a fault" in running.process.stderr.read()


def test_a_refusal_after_it_served_is_tried_again(start):
    """Once a role has been restarted, even a refusal is no reason to give up."""
    running = start(
        """
        def run(stop):
            first = not (here / "flag").exists()
            (here / "flag").touch()
            note("one begins")
            if first:
                os.kill(os.getpid(), signal.SIGKILL)
            raise AlreadyRunningError("still there")
        supervise(Role("one", run))
        """
    )
    running.wait_for("one begins", count=3)
    assert running.end() == 0


def test_what_need_not_be_kept_is_not_restarted(start):
    """A console that ends takes nothing with it."""
    running = start('supervise(serve("one"), Role("view", lambda stop: None, keep=False))')
    running.wait_for("ready")
    running.wait_for("one begins")
    assert running.end() == 0
    assert not any(line.startswith("say") for line in running.notes())


def test_what_need_not_be_kept_is_restarted_if_it_was_killed(start):
    """It goes on with what it has for that, and may still end by itself."""
    running = start(
        """
        def again(stop):
            note("view again")

        view = Role("view", serve("view").run, keep=False, again=again)
        supervise(serve("one"), view)
        """
    )
    os.kill(running.pid_of("view"), signal.SIGKILL)
    running.wait_for("say view ended unexpectedly (signal SIGKILL): starting it again")
    running.wait_for("view again")
    assert running.end() == 0
    assert len([line for line in running.notes() if line.startswith("view")]) == 2


def test_one_that_hangs_is_killed_in_time(start):
    """Two seconds in all, even if a role ignores SIGTERM; the others still end by themselves."""
    running = start(
        """
        def run(stop):
            note(f"deaf begins {os.getpid()}")
            while True:
                time.sleep(1)
        supervise(serve("one"), Role("deaf", run), Role("deaf", run))
        """
    )
    pid = running.pid_of("deaf")
    running.wait_for("ready")
    began = time.monotonic()
    assert running.end() == 0
    assert time.monotonic() - began < 15  # the limit is a constant; a host that is busy is not late
    assert gone(pid)
    assert "one ends" in running.notes()


ROUND = """
        import select
        def round_and_round(name):
            def run(stop):
                note(f"{name} begins {os.getpid()}")
                while not stop.is_set():
                    select.select([stop], [], [], 60)
                    stop.drain()
                    note(f"{name} comes round")
                note(f"{name} ends")
            return run
"""


def test_one_that_does_not_come_round_is_killed_and_started_again(start):
    """Stopped, it is still a process that exists; the others are left alone."""
    running = start(
        ROUND
        + """
        one, two = round_and_round("one"), round_and_round("two")
        supervise(Role("one", one, patience=3), Role("two", two, patience=3))
        """
    )
    running.wait_for("ready")
    pid = running.pid_of("one")
    running.wait_for("one comes round")
    os.kill(pid, signal.SIGSTOP)
    running.wait_for("say one hangs: no sign of life for 3 s; it is killed", seconds=60)
    running.wait_for("one begins", 2, seconds=30)
    assert gone(pid)
    assert running.end() == 0
    assert len(running.wait_for("two begins")) == 1
    assert {"one ends", "two ends"} <= set(running.notes())


def test_one_that_never_came_round_is_left_to_itself(start):
    """It may be mending its files; nor is one asked that is given any time."""
    running = start(
        ROUND
        + """
        first = serve("deaf").run
        def deaf(stop):
            time.sleep(1.5)
            first(stop)
        asked = round_and_round("asked")
        supervise(Role("deaf", deaf, patience=0.2), Role("asked", asked, patience=0))
        """
    )
    running.wait_for("deaf begins")
    running.wait_for("asked begins")
    assert running.end() == 0
    assert not [line for line in running.notes() if "hangs" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
def test_a_killed_supervisor_leaves_nothing_behind(start):
    """The kernel ends the roles when the supervisor is gone."""
    running = start('supervise(serve("one"), serve("two"))')
    running.wait_for("ready")
    pids = [running.pid_of("one"), running.pid_of("two")]
    running.process.kill()
    running.process.wait()
    assert all(gone(pid) for pid in pids)


def test_the_end_of_the_terminal_ends_up_but_no_daemon(start, tmp_path):
    """SIGHUP is the terminal's end for one, and nothing to the other."""
    daemon = start('supervise(serve("one"))')
    daemon.wait_for("ready")
    daemon.process.send_signal(signal.SIGHUP)
    os.kill(daemon.pid_of("one"), signal.SIGHUP)
    time.sleep(0.1)  # a signal that does nothing cannot be waited for
    assert is_alive(daemon.pid_of("one"))
    assert daemon.end() == 0
    assert not any(line.startswith("say") for line in daemon.notes())
    (tmp_path / "notes").unlink()
    up = start('supervise(serve("one"), on_hangup=True)')
    up.wait_for("ready")
    assert up.end(signal.SIGHUP) == 0


def test_waits_until_a_role_listens(start):
    """The next role starts once the socket of the one before is there, and its own."""
    running = start(
        """
        def run(stop):
            path = here / "socket"
            time.sleep(0.2)
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(path))
            note("one listens")  # before it does: "ready" is another process's note
            sock.listen()
            while not stop.is_set():
                time.sleep(0.005)
        supervise(Role("one", run, f"ipc://{here}/socket"), serve("two"))
        """
    )
    running.wait_for("ready")
    running.wait_for("two begins")
    assert running.notes()[0] == "one listens"
    assert running.end() == 0


def test_says_so_when_a_role_takes_too_long(start):
    """What does not serve in time is left to come later."""
    running = start(
        """
        from reactor import supervisor
        supervisor.START_SECONDS = 0.1
        slow = serve("slow")
        supervise(Role("slow", slow.run, "ipc:///nowhere"), serve("two"))
        """
    )
    running.wait_for("two begins")
    assert running.wait_for("say") == ["say slow does not serve yet; it may come later"]
    assert running.end() == 0


def test_ctrl_c_while_starting(start):
    """The end can be asked for before all have started."""
    running = start('supervise(Role("one", serve("one").run, "ipc:///nowhere"), serve("two"))')
    running.wait_for("one begins")
    assert running.end(signal.SIGINT) == 0
    assert "one ends" in running.notes()
    assert "ready" not in running.notes()


def test_no_process_to_be_had_is_tried_again(monkeypatch):
    """A fork that fails at a restart is said, and due again later."""
    said = []
    supervisor = Supervisor([Role("one", lambda stop: None)], say=said.append, clock=lambda: 5.0)
    (child,) = supervisor._children

    def no_fork():
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    supervisor._restart(child)
    assert said == ["one cannot be started (Resource temporarily unavailable): trying again"]
    assert child.restart_at > 5.0


def test_a_long_life_takes_the_backoff_back():
    """A role that lived long is restarted at once again."""
    supervisor = Supervisor(
        [Role("one", lambda stop: None)], say=lambda text: None, clock=lambda: 100.0
    )
    (child,) = supervisor._children
    child.backoff, child.served = 4.0, True
    supervisor._on_death(child, -9)
    assert child.restart_at == pytest.approx(100.1)


class TestListens:
    """Whether somebody listens at an address, found out without ZeroMQ."""

    def test_a_unix_socket_of_that_process(self, tmp_path):
        """Only the process that listens is taken for the role."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "s"))
            sock.listen()
            assert _listens(f"ipc://{tmp_path}/s", os.getpid())
            assert not _listens(f"ipc://{tmp_path}/s", os.getpid() + 1)

    def test_a_file_that_nobody_serves(self, tmp_path):
        """A socket file that was left behind is nobody."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "s"))
        assert not _listens(f"ipc://{tmp_path}/s", os.getpid())

    def test_a_tcp_port(self):
        """With ``ipc_mode: tcp`` the port tells."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
            sock.listen()
            assert _listens(address, os.getpid())
        assert not _listens(address, os.getpid())

    def test_where_the_system_does_not_tell_who(self, tmp_path, monkeypatch):
        """Without SO_PEERCRED, whoever listens is believed."""
        monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "s"))
            sock.listen()
            assert _listens(f"ipc://{tmp_path}/s", 1)


@pytest.mark.parametrize(
    ("status", "text"), [(0, "exit status 0"), (-9, "signal SIGKILL"), (-99, "signal 99")]
)
def test_says_how_a_role_ended(status, text):
    """Signals have names."""
    assert _spoken(status) == text


def test_the_callers_signals_are_given_back():
    """After a run, handlers and the wakeup descriptor are as before."""
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor([])
    supervisor._stopping = True
    with contextlib.ExitStack() as stack:
        stack.callback(__import__("gc").unfreeze)
        assert supervisor.run() == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
