"""Waiting for the returns of jobs: who has answered, who will, and why the others will not."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from bus import wire
from bus.calls import Fun
from bus.errors import (
    AnswerTimeoutError,
    ArgumentsError,
    NotRunningError,
    TargetError,
    WireError,
)
from bus.listener import Listener

Answer = dict[str, dict[str, Any]]
"""``{minion: the data of its return}``, one minion each."""

NOT_CONNECTED = "is not connected"
TOO_LATE = "did not answer in time"
NOT_RUNNING = "returned nothing and does not run the job"
NOT_BEGUN = "was not sent the job, since another one failed"

_LEAST_WAIT = 0.05
_PREFIX = b"salt/job/"


class Client(Protocol):
    """What is needed of `bus.client.LocalClient`."""

    def hearing(self) -> Listener:
        """Return what hears the events of jobs."""
        ...

    def run_job(
        self,
        tgt: str | Sequence[str],
        fun: Fun,
        arg: Sequence[Any] = (),
        tgt_type: str = "glob",
    ) -> dict[str, Any]:
        """Send a job."""
        ...

    def job(self, jid: str) -> dict[str, Any]:
        """Return what the master has of a job."""
        ...


@dataclass(slots=True)
class _Waited:
    """A job that minions still owe a return for.

    Attributes:
        owing: those minions.
        due: when they are asked, or when those that were asked are given up.
        question: the id of the job that asks them; empty if none does.
        asked: those that have not answered it.
        running: those that said that the job runs.
    """

    owing: set[str]
    due: float
    question: str = ""
    asked: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)


class Following(Iterator[Answer]):
    """The returns of jobs as they come; it ends when none is to be expected any more.

    When nothing has come for ``wait`` seconds, the minions are asked: those that run the job are
    waited for, the others not. A minion that the master says is gone is not waited for either.

    Args:
        client: sends the questions; it has to hear job events since before the job was sent.
        wait: seconds.
        gather: seconds for minions to say whether they run a job.
        clock: seconds, monotonic.

    Attributes:
        silent: why those that have not answered, and will not, have not; by minion.
        jids: the ids of the jobs, in the order in which they were sent.
    """

    def __init__(
        self,
        client: Client,
        wait: float,
        gather: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.silent: dict[str, str] = {}
        self.jids: list[str] = []
        self._client = client
        self._wait = max(wait, _LEAST_WAIT)
        self._gather = gather
        self._clock = clock
        self._jobs: dict[str, _Waited] = {}
        self._questions: dict[str, str] = {}
        self._ready: deque[Answer] = deque()

    def add(self, pub: Mapping[str, Any]) -> Self:
        """Wait for a job too.

        Args:
            pub: what sending it returned: ``jid``, ``minions``, ``missing``.
        """
        self.jids.append(str(pub["jid"]))
        missing = set(pub.get("missing", ()))
        self.silent.update(dict.fromkeys(sorted(missing), NOT_CONNECTED))
        owing = set(pub["minions"]) - missing
        if owing:
            self._jobs[str(pub["jid"])] = _Waited(owing, self._clock() + self._wait)
        return self

    def resume(self, jid: str, minions: Iterable[str] = ()) -> Self:
        """Wait for a job that was sent some time ago; what has come already is there at once.

        Args:
            jid: its id.
            minions: whose returns; by default all that it was meant for.

        Raises:
            ArgumentsError: the master knows no such job.
        """
        job = self._client.job(jid)
        if not job:
            raise ArgumentsError(f"there is no job {jid}: see 'reactor jobs list'")
        wanted = set(minions) or set(job.get("minions", ()))
        self._take_known(jid, job, wanted)
        left = wanted - job.get("returns", {}).keys()
        missing = left.intersection(job.get("missing", ()))
        return self.add({"jid": jid, "minions": left, "missing": missing})

    @property
    def waiting(self) -> int:
        """How many returns are waited for."""
        return sum(len(job.owing) for job in self._jobs.values())

    @property
    def minions(self) -> set[str]:
        """The minions whose returns are waited for."""
        return {minion for job in self._jobs.values() for minion in job.owing}

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return not self._ready and not self._jobs

    def fileno(self) -> int:
        """Return the descriptor that has input when something may have come."""
        source = self._client.hearing().socket
        return source if isinstance(source, int) else int(source.fileno())

    def __next__(self) -> Answer:
        while not self.over:
            found = self.step(None)
            if found is not None:
                return found
        raise StopIteration

    def step(self, pause: float | None) -> Answer | None:
        """Return the next answer, or None if none came or none is to come.

        Args:
            pause: seconds to wait for it at most; None waits until something is due.

        Raises:
            NotRunningError: the master is gone; the text names the job.
        """
        with self._naming_the_job():
            self._begin()
            if not self._ready and self._jobs:
                self._turn(pause)
        return self._ready.popleft() if self._ready else None

    @contextlib.contextmanager
    def _naming_the_job(self) -> Iterator[None]:
        try:
            yield
        except (NotRunningError, AnswerTimeoutError) as error:
            if not self.jids:
                raise
            jid = next(iter(self._jobs), self.jids[-1])
            raise NotRunningError(
                f"{error}; job {jid} may go on: 'reactor jobs show {jid}' tells when the master is "
                "back"
            ) from error

    def _begin(self) -> None:
        """Send what there is to send."""

    def _turn(self, pause: float | None) -> None:
        left = max(0.0, min(job.due for job in self._jobs.values()) - self._clock())
        hearing = self._client.hearing()
        heard = hearing.receive(left if pause is None else min(left, pause))
        while heard:
            for event in heard.events:
                if event.startswith(_PREFIX):
                    self._take(event)
            heard = hearing.read() if hearing.has_read else None
        for jid, job in list(self._jobs.items()):
            if self._clock() >= job.due:
                self._see_to(jid, job)

    # -- what comes -----------------------------------------------------------------------

    def _take(self, event: bytes) -> None:
        _, _, jid, kind, *_ = (*event.split(b"\n", 1)[0].decode(errors="replace").split("/"), "")
        question = kind == "ret" and jid in self._questions
        if not question and not (jid in self._jobs and kind in ("ret", "gone")):
            return
        with contextlib.suppress(WireError):
            data = wire.unpack_event(event)[1]
            if question:
                self._take_word(self._questions[jid], data)
            elif kind == "ret":
                self._take_return(jid, data)
            else:
                self._take_gone(jid, data)

    def _take_return(self, jid: str, data: dict[str, Any]) -> None:
        job, minion = self._jobs[jid], data.get("id")
        if minion not in job.owing:
            return
        self._ready.append({minion: data})
        self._settle(jid, job, {minion})
        if not job.question:
            job.due = self._clock() + self._wait

    def _take_gone(self, jid: str, data: dict[str, Any]) -> None:
        job, minion = self._jobs[jid], data.get("id")
        if minion in job.owing:
            reason = str(data.get("reason", "")).removeprefix("the minion ")
            self._give_up(jid, job, {minion: reason})

    def _take_word(self, jid: str, data: dict[str, Any]) -> None:
        """A minion says whether it runs a job."""
        job, minion = self._jobs[jid], data.get("id")
        if minion in job.asked:
            job.asked.discard(minion)
            if data.get("return"):
                job.running.add(minion)
            if not job.asked:
                job.due = self._clock()

    # -- who is asked, and who is given up ------------------------------------------------

    def _see_to(self, jid: str, job: _Waited) -> None:
        if not job.question:
            self._ask(jid, job)
            return
        silent = {
            minion: TOO_LATE if minion in job.asked else NOT_RUNNING
            for minion in job.owing - job.running
        }
        self._forget_question(job)
        job.due = self._clock() + self._wait
        self._give_up(jid, job, silent)

    def _ask(self, jid: str, job: _Waited) -> None:
        pub = self._client.run_job(sorted(job.owing), "saltutil.find_job", [jid], "list")
        job.question = str(pub["jid"])
        self._questions[job.question] = jid
        job.running = set()
        job.asked = set(pub["minions"]) - set(pub["missing"])
        job.due = self._clock() + (self._gather() if job.asked else 0.0)
        gone = dict.fromkeys(job.owing - job.asked, "went away: it is not connected any more")
        self._give_up(jid, job, gone)

    def _forget_question(self, job: _Waited) -> None:
        self._questions.pop(job.question, None)
        job.question = ""

    def _give_up(self, jid: str, job: _Waited, reasons: Mapping[str, str]) -> None:
        """Wait no longer for some, unless the master has their returns.

        A job may have ended while its minion was asked, or its return may have been lost on the
        way here.
        """
        if not reasons:
            return
        taken = self._take_known(jid, self._client.job(jid), set(reasons))
        self.silent.update({one: why for one, why in reasons.items() if one not in taken})
        self._settle(jid, job, set(reasons))

    def _take_known(self, jid: str, known: Mapping[str, Any], minions: set[str]) -> set[str]:
        """Take what the master has of these minions; return of which it has something."""
        returns = known.get("returns", {})
        common = {"jid": jid, "fun": known.get("fun", ""), "fun_args": known.get("arg", [])}
        found = minions.intersection(returns)
        for minion in sorted(found):
            self._ready.append({minion: {"id": minion, **common, **returns[minion]}})
        return found

    def _settle(self, jid: str, job: _Waited, minions: set[str]) -> None:
        job.owing -= minions
        if not job.owing:
            self._forget_question(job)
            self._jobs.pop(jid, None)


def batch_size(batch: str | int, count: int) -> int:
    """Return how many of ``count`` minions ``batch``, ``N`` or ``P%``, means: at least one.

    Raises:
        TargetError: it is neither, or not above 0.
    """
    text = str(batch).strip()
    try:
        number = float(text[:-1]) if text.endswith("%") else int(text)
        size = math.ceil(count * number / 100) if text.endswith("%") else int(number)
    except (ValueError, OverflowError):
        number = size = 0
    if not number > 0:
        raise TargetError(f"batch {batch!r}: give a number such as 5 or a share such as 10%")
    return max(size, 1)


class Batch(Following):
    """The returns of a job that so many minions at a time run: as one is done, the next begins.

    Args:
        client: sends the jobs; it has to hear job events.
        wait: seconds, as for `Following`.
        gather: seconds, as for `Following`.
        minions: all of them, in the order in which they begin.
        size: how many at a time.
        send: sends the job to some of them.
        failhard: begin no more once one has failed.
    """

    def __init__(
        self,
        client: Client,
        wait: float,
        gather: Callable[[], float],
        *,
        minions: Sequence[str],
        size: int,
        send: Callable[[list[str]], dict[str, Any]],
        failhard: bool = False,
    ) -> None:
        super().__init__(client, wait, gather)
        self._todo = deque(minions)
        self._size = size
        self._send = send
        self._failhard = failhard

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return super().over and not self._todo

    def step(self, pause: float | None) -> Answer | None:
        """`Following.step`; what is free begins first."""
        found = super().step(pause)
        self._stop_if_failed(found)
        return found

    def _stop_if_failed(self, found: Answer | None) -> None:
        answers = [*self._ready, *([found] if found else ())]
        if self._failhard and any(has_failed(data) for one in answers for data in one.values()):
            self._stop()

    def _begin(self) -> None:
        """Send the job to the next ones; those that are not connected take no place."""
        while self._todo and (free := self._size - self.waiting) > 0:
            group = [self._todo.popleft() for _ in range(min(free, len(self._todo)))]
            pub = self._send(group)
            self.add(pub)
            if self._failhard and pub.get("missing"):
                self._stop()

    def _stop(self) -> None:
        self.silent.update(dict.fromkeys(self._todo, NOT_BEGUN))
        self._todo.clear()


def has_failed(data: Mapping[str, Any]) -> bool:
    """Say whether a return says that the function failed."""
    return bool(data.get("retcode")) or not data.get("success", True)
