"""What the tests of the minion share: workers with a few functions, and waiting with a deadline."""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import zmq

from bus.errors import ArgumentsError, BusError, FunctionNotFoundError
from bus.minion import worker
from bus.minion.jobs import Job
from bus.minion.members import Limits
from bus.minion.nursery import Nursery
from bus.minion.pool import Pool
from bus.minion.worker import Loaded

SECONDS = 40.0
"""The longest that anything may take here; every wait ends as soon as it can."""

LIMIT = 1_048_576


class Exiting:
    """A value that ends whoever looks at it."""

    def __repr__(self):
        raise SystemExit(_Unsayable())


class _Unsayable:
    def __str__(self):
        raise ValueError("no str")


class Unprintable:
    """A value that msgpack cannot carry and that has no repr either."""

    def __repr__(self):
        raise RuntimeError("no repr")


def _steps():
    yield {"a": 1}
    yield {"b": 2}


def _steps_of_words():
    yield "one"
    yield {"two": 2}


def _child_comes_out():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def _child_stays(path):
    """Leave a process behind that has the worker's descriptors, and die."""
    pid = os.fork()
    if pid == 0:
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)
    while not Path(path).exists():
        time.sleep(0.01)
    os._exit(3)


def _raise_known():
    raise BusError("the disk is full")


def _raise(error):
    raise error


def _exit(code):
    sys.exit(code)


def _sleep(seconds, path=None):
    if path:
        Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def _run_and_hang(path):
    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def _print(text):
    print(text)
    sys.stdout.flush()
    os.system(f"echo from-a-shell-{text}")
    return text


def _surroundings():
    """What a job sees of the process that it runs in."""
    umask = os.umask(0o022)
    os.umask(umask)
    return {
        "cwd": str(Path.cwd()),
        "umask": umask,
        "environ": {name: os.environ.get(name) for name in ("HOME", "MARK")},
        "handlers": [str(signal.getsignal(one)) for one in (signal.SIGALRM, signal.SIGTERM)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": any(signal.getitimer(signal.ITIMER_REAL)),
        "closed": sys.stdout.closed,
        "recursion": sys.getrecursionlimit(),
        "timeout": socket.getdefaulttimeout(),
    }


def _change_surroundings():
    """Leave a process as a careless function might."""
    os.chdir("/")
    os.umask(0)
    os.environ["MARK"] = "here"
    os.environ.pop("HOME", None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.alarm(3600)
    sys.stdout.close()
    sys.setrecursionlimit(500)
    socket.setdefaulttimeout(5)
    return _surroundings()


def _change_for_good(what, path=None):
    """Change what cannot be put back."""
    if what == "descriptor":
        os.close(1)
    elif what == "limit":
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    elif what == "files":
        for _ in range(300):
            os.open(os.devnull, os.O_RDONLY)
    elif what == "all files":
        with contextlib.suppress(OSError):
            while True:
                os.open(os.devnull, os.O_RDONLY)
    else:
        os.chdir(path)
        Path(path).rmdir()
    return os.getpid()


def _need(function, arg):
    try:
        return function(*arg)
    except TypeError as error:
        raise ArgumentsError(str(error)) from error


def functions(context):
    """Return the functions that test workers have."""
    return {
        "test.ping": lambda: True,
        "test.echo": lambda *arg: list(arg),
        "test.len": len,
        "test.pid": os.getpid,
        "test.sleep": _sleep,
        "test.raise": lambda: _raise(ValueError("so wrong")),
        "test.raise_group": lambda: _raise(KeyboardInterrupt()),
        "test.known": _raise_known,
        "test.missing": lambda: _raise(FunctionNotFoundError("no function 'x.y'")),
        "test.exit": _exit,
        "test.vanish": os._exit,
        "test.killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "test.huge": lambda size: "x" * size,
        "test.set": lambda: {"values": {1}, (1, 2): object, "odd": Unprintable(), "fine": 1},
        "test.exiting": Exiting,
        "test.long": lambda: {10**5000: 10**5000},
        "test.keys": lambda: {(1, 2): "a", "b": 2**70},
        "test.print": _print,
        "test.fork": _child_comes_out,
        "test.fork_and_die": _child_stays,
        "test.tree": _run_and_hang,
        "test.retcode": lambda code: context.update(retcode=code),
        "test.keep": context.__setitem__,
        "test.context": lambda: dict(context),
        "test.result": lambda ok: {"result": ok},
        "test.steps": _steps,
        "test.words": _steps_of_words,
        "test.descriptors": lambda: sorted(int(one.name) for one in Path("/dev/fd").iterdir()),
        "test.random": random.random,
        "test.stdin": lambda: sys.stdin.read() + os.read(0, 10).decode(),
        "test.surroundings": _surroundings,
        "test.change": _change_surroundings,
        "test.change_for_good": _change_for_good,
        "test.sid": lambda: os.getsid(0) == os.getpid(),
        "test.signals": lambda: [
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        ],
    }


def load(context):
    """Load those functions, as a worker does."""
    table = functions(context)

    def call(fun, arg):
        if fun not in table:
            raise FunctionNotFoundError(f"no function {fun!r}: did you mean test.ping?")
        return _need(table[fun], arg)

    return Loaded(call, table.__contains__, {"os": "Debian", "odd": {1}})


def entry(loader=load, limit=LIMIT):
    """Return what a test worker runs."""
    return partial(worker.main, load=loader, limit=limit)


class Rig:
    """A nursery and a pool with a loop that runs as long as a test needs it to."""

    def __init__(
        self,
        run=None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace: float = 5.0,
    ) -> None:
        self.clock = clock
        self.grains: list[Mapping] = []
        self.progress: list[tuple] = []
        self.nursery = Nursery.start(run or entry(), grace)
        self.poller = zmq.Poller()
        self.pool = Pool(
            self.nursery,
            self.poller,
            limits or Limits(warm=1, most=1),
            on_ready=self.grains.append,
            on_progress=lambda job, number, data: self.progress.append((job.jid, number, data)),
            clock=clock,
        )
        self.pool.start()
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.close()

    def turn(self) -> None:
        """Run the loop once."""
        wait = self.pool.tick(self.clock())
        for fd, _flags in self.poller.poll(int(min(wait, 0.05) * 1000) + 1):
            self.pool.handle(fd)

    def until(self, condition) -> None:
        """Run the loop until ``condition()`` holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, "took too long"
            self.turn()

    def submit(self, fun, *arg, timeout=0.0):
        """Hand a job in; return its id and a list that its result will be put into."""
        self.count += 1
        results: list = []
        jid = f"{self.count:020}"
        self.pool.submit(Job(jid, fun, arg, timeout), results.append)
        return jid, results

    def run(self, fun, *arg, timeout=0.0):
        """Run a job and return its result."""
        _, results = self.submit(fun, *arg, timeout=timeout)
        self.until(lambda: results)
        assert len(results) == 1
        return results[0]

    def workers(self):
        """Return how many workers are in each state."""
        return self.pool.status()["workers"]


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_for(condition) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
