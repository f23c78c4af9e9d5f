"""Which reactor is the active one: the lease, who may take it, and the end of one that hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from reactor.engine import lease as leases
from reactor.engine.lease import Holder, Lease, Sight, Watch
from reactor.errors import DeposedError, ReactorError
from tests.support import wait_for

HOLDER = Holder("reactor", os.getpid(), 3, "")
PATIENCE = 3.0


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def lease(tmp_path, clock):
    """A lease that is held."""
    held = Lease(tmp_path / "l", HOLDER, PATIENCE, clock)
    yield held
    held.release()


class TestTheFile:
    """What others see of a lease."""

    def test_none(self, tmp_path):
        """Without a file it is free."""
        assert leases.look(tmp_path / "l") == Sight()

    def test_held(self, tmp_path, lease):
        """It says who has it, is private, and only moves when it is renewed."""
        first = leases.look(tmp_path / "l")
        assert (first.is_free, first.holder) == (False, HOLDER)
        assert leases.look(tmp_path / "l").is_still(first)
        lease.renew()
        assert not leases.look(tmp_path / "l").is_still(first)
        assert (tmp_path / "l").stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["l"]

    def test_released(self, tmp_path, lease):
        """It is free, and says for whom; a second time does nothing."""
        lease.release("standby")
        lease.release()
        seen = leases.look(tmp_path / "l")
        assert (seen.is_free, seen.holder) == (True, replace(HOLDER, heir="standby"))

    @pytest.mark.parametrize("text", [b"", b"1\n{}", b"1\n[]", b"\xff\n\xff", b'1\n{"a": 1}'])
    def test_nonsense(self, tmp_path, text):
        """Who holds it is then not known, and nobody does."""
        (tmp_path / "l").write_bytes(text)
        seen = leases.look(tmp_path / "l")
        assert (seen.is_free, seen.holder) == (True, None)

    def test_unreadable(self, tmp_path):
        """One line that names it."""
        (tmp_path / "l").mkdir()
        with pytest.raises(ReactorError, match="cannot read the lease"):
            leases.look(tmp_path / "l")

    def test_unwritable(self, tmp_path):
        """One line that names it."""
        with pytest.raises(ReactorError, match="cannot write the lease"):
            Lease(tmp_path / "none" / "l", HOLDER, PATIENCE)

    def test_a_process_that_dies_lets_go(self, tmp_path):
        """However it ends: the kernel says so at once."""
        code = (
            "import sys, time; from pathlib import Path; from reactor.engine.lease import *\n"
            "Lease(Path(sys.argv[1]), Holder('a', 1, 1, ''), 3.0); time.sleep(60)"
        )
        path = tmp_path / "l"
        with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
            wait_for(path.exists, "the lease")
            assert not leases.look(path).is_free
            process.kill()
            process.wait(10)
        assert leases.look(path).is_free

    def test_a_process_that_it_forked_does_not_hold_it(self, tmp_path):
        """As a function may, with multiprocessing."""
        code = (
            "import os, sys, time; from pathlib import Path; from reactor.engine.lease import *\n"
            "lease = Lease(Path(sys.argv[1]), Holder('a', 1, 1, ''), 3.0)\n"
            "if os.fork(): time.sleep(60)\n"
            "print(os.getpid(), flush=True); sys.stdin.read()"
        )
        arguments = [sys.executable, "-c", code, str(tmp_path / "l")]
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert int(process.stdout.readline()) != process.pid
            assert not leases.look(tmp_path / "l").is_free
            process.kill()
            process.wait(10)
            assert leases.look(tmp_path / "l").is_free
            process.stdin.close()
            assert process.stdout.read() == ""  # the child has ended too


class TestTheHolder:
    """What the holder itself knows."""

    def test_as_long_as_it_renews(self, lease, clock):
        """It holds."""
        for _ in range(10):
            clock.now += 1
            lease.renew()
            assert lease.holds()

    def test_away_but_not_replaced(self, lease, clock):
        """It goes on where it was."""
        clock.now += 60
        assert lease.holds()
        lease.renew()

    def test_away_and_replaced(self, tmp_path, lease, clock):
        """It acts no more, and is told."""
        other = Lease(tmp_path / "l", HOLDER, PATIENCE, clock)
        clock.now += 60
        assert not lease.holds()
        with pytest.raises(DeposedError):
            lease.renew()
        assert not leases.look(tmp_path / "l").is_free
        other.release()

    def test_away_and_the_file_is_gone(self, tmp_path, lease, clock):
        """Somebody may have it whom nobody sees."""
        (tmp_path / "l").unlink()
        clock.now += 60
        assert not lease.holds()

    def test_kept_in_a_thread(self, tmp_path):
        """Until it is released."""
        held = Lease(tmp_path / "l", HOLDER, PATIENCE)
        before = leases.look(tmp_path / "l")
        held.keep()
        wait_for(lambda: not leases.look(tmp_path / "l").is_still(before), "a renewal")
        held.touch()
        held.release()
        assert "lease" not in [thread.name for thread in threading.enumerate()]

    def test_a_loop_that_hangs(self, tmp_path, lease, clock, monkeypatch):
        """Is not alive, though its process is, until it comes round again."""
        monkeypatch.setattr(leases, "RENEW_EVERY", 0.01)
        lease.keep()
        clock.now += leases.LONGEST_TURN + 1
        turns = _turns(lease)
        before = leases.look(tmp_path / "l")
        wait_for(lambda: turns() > 3, "some turns of the thread")
        assert leases.look(tmp_path / "l").is_still(before)
        lease.touch()
        wait_for(lambda: not leases.look(tmp_path / "l").is_still(before), "a renewal")

    def test_the_loop_is_told(self, tmp_path, lease, clock, monkeypatch):
        """That another took over, when it comes round."""
        monkeypatch.setattr(leases, "RENEW_EVERY", 0.01)
        other = Lease(tmp_path / "l", HOLDER, PATIENCE, clock)
        clock.now += PATIENCE
        lease.keep()
        wait_for(lambda: "lease" not in [t.name for t in threading.enumerate()], "the thread's end")
        with pytest.raises(DeposedError):
            lease.touch()
        other.release()

    def test_a_disk_that_takes_nothing(self, lease, monkeypatch, caplog):
        """Costs a word, not the reactor."""
        caplog.set_level("DEBUG", "reactor.engine.lease")
        monkeypatch.setattr(leases, "RENEW_EVERY", 0.01)

        def refuse():
            raise OSError("no space")

        monkeypatch.setattr(lease, "renew", refuse)
        lease.keep()
        wait_for(lambda: "cannot be renewed: no space" in caplog.text, "the word")
        lease.touch()


def _turns(lease):
    """Count how often the thread of a lease looks at the clock."""
    real, count = lease._clock, [0]

    def clock():
        count[0] += 1
        return real()

    lease._clock = clock
    return lambda: count[0]


class TestWhoMayTakeIt:
    """`Watch` judges by what it sees from look to look."""

    HELD = Sight((1, 2), "5", is_free=False, holder=HOLDER)

    def test_a_free_one(self):
        """At once."""
        assert Watch("standby", PATIENCE).may_take(Sight(), 0.0)

    def test_one_that_moves(self):
        """Never."""
        watch = Watch("standby", PATIENCE)
        for second in range(20):
            sight = replace(self.HELD, count=str(second))
            assert not watch.may_take(sight, float(second))

    def test_one_that_stands_still(self):
        """After as long as was said."""
        watch = Watch("standby", PATIENCE)
        answers = [watch.may_take(self.HELD, second / 2) for second in range(8)]
        assert answers == [False] * 6 + [True] * 2

    def test_who_was_away_himself_begins_anew(self):
        """What he has not watched says nothing."""
        watch = Watch("standby", PATIENCE)
        assert not watch.may_take(self.HELD, 0.0)
        assert not watch.may_take(self.HELD, 60.0)
        assert not watch.may_take(self.HELD, 61.0)

    def test_one_that_was_left_to_somebody(self):
        """He may at once, others when he does not."""
        left = replace(self.HELD, is_free=True, holder=replace(HOLDER, heir="second"))
        assert Watch("second", PATIENCE).may_take(left, 0.0)
        other = Watch("standby", PATIENCE)
        assert [other.may_take(left, float(second)) for second in range(4)] == [
            False,
            False,
            False,
            True,
        ]


HANGING = """
import os, socket, sys
from pathlib import Path
from reactor.engine.lease import Holder, Lease
lease, address = sys.argv[1:]
server = socket.socket(socket.AF_UNIX)
server.bind(address)
server.listen()
Lease(Path(lease), Holder("reactor", os.getpid(), 1, "ipc://" + address), 3.0)
print("ready", flush=True)
os.read(0, 1)
"""


@pytest.fixture
def hanging(tmp_path):
    """A process that holds the lease and is stopped."""
    arguments = [sys.executable, "-c", HANGING, str(tmp_path / "l"), str(tmp_path / "s")]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


class TestEndingOneThatHangs:
    """Only the holder, only if it still does not move, and for good."""

    def test_it_is_ended(self, tmp_path, hanging):
        """And has let go of everything when this returns."""
        leases.end(tmp_path / "l", leases.look(tmp_path / "l"))
        assert leases.look(tmp_path / "l").is_free
        assert hanging.wait(10) == -signal.SIGKILL

    def test_nobody_is_there(self, tmp_path):
        """A lease that is free needs no end."""
        leases.end(tmp_path / "l", Sight())
        assert leases.look(tmp_path / "l").is_free
        assert not (tmp_path / "l").exists()

    def test_it_moved_after_all(self, tmp_path, hanging):
        """It lives."""
        seen = replace(leases.look(tmp_path / "l"), count="another")
        with pytest.raises(ReactorError, match="moved again"):
            leases.end(tmp_path / "l", seen)
        assert hanging.poll() is None

    def test_its_number_is_another_process_here(self, tmp_path, hanging):
        """Who does not own the holder's socket is left alone."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            seen = leases.look(tmp_path / "l")
            wrong = replace(seen, holder=replace(seen.holder, pid=other.pid))
            with pytest.raises(ReactorError, match="cannot be ended from here"):
                leases.end(tmp_path / "l", wrong)
            assert other.poll() is None
            other.kill()
        assert hanging.poll() is None

    def test_its_process_is_not_seen_from_here(self, tmp_path, lease):
        """As in another container."""
        seen = leases.look(tmp_path / "l")
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait(20)
        with pytest.raises(ReactorError, match="cannot be ended from here"):
            leases.end(tmp_path / "l", replace(seen, holder=replace(HOLDER, pid=gone.pid)))

    def test_nobody_says_who_it_is(self, tmp_path, lease):
        """Nothing is guessed."""
        seen = replace(leases.look(tmp_path / "l"), holder=None)
        with pytest.raises(ReactorError, match="does not say who it is"):
            leases.end(tmp_path / "l", seen)

    def test_one_without_a_socket(self, tmp_path, lease):
        """This process itself, which of course lives on."""
        with pytest.raises(ReactorError, match="cannot be ended"):
            leases.end(tmp_path / "l", leases.look(tmp_path / "l"))

    def test_a_killed_one_that_is_not_gone(self, tmp_path, hanging, monkeypatch):
        """One in the middle of a write to a dead disk: nobody takes over before it is gone."""
        monkeypatch.setattr(leases, "_ENDING", 0.05)
        monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
        with pytest.raises(ReactorError, match="not gone yet"):
            leases.end(tmp_path / "l", leases.look(tmp_path / "l"))


def test_strays_are_removed(tmp_path, lease):
    """What was not finished goes, the lease stays."""
    (tmp_path / "l.123").write_text("")
    leases.forget_strays(tmp_path / "l")
    assert [path.name for path in tmp_path.iterdir()] == ["l"]


def test_who_listens(tmp_path):
    """Only a UNIX socket says so."""
    from bus.peercred import owner_of

    path = str(tmp_path / "s")
    assert owner_of(f"ipc://{path}") == 0
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert owner_of(f"ipc://{path}") == os.getpid()
    assert owner_of("tcp://127.0.0.1:1") == 0
