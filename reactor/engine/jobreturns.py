"""Waits for the returns of jobs that reactions have published.

What came back is the link server's to know, which keeps it on disk: it is asked when the events of
the job say that nothing more is to come, when the time is over, and now and then, in case an event
was not heard. So nothing of it has to be written down here, and after a restart, on either
side, the same question has the same answer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus import wire
from bus.errors import BusError, WireError
from bus.jid import moment_of
from bus.listener import open_listener
from bus.returns import NOT_CONNECTED, TOO_LATE, has_failed
from bus.rpc import Caller
from reactor.engine.actions import Cancel, Done
from reactor.engine.pool import Mailbox

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""What the returns of one job may take together, packed: as much as one event may."""

_PREFIX = "salt/job/"
_KINDS = ("ret", "gone")
_ASK_EVERY = 2.0
"""Seconds between two questions for which there is no cause."""

_PATIENCE = 5.0
"""Seconds after the end of the time for the link server to say what there is."""

_NAMED = 5
_PAUSE = 0.5


class Word(NamedTuple):
    """What an event of a job says.

    Attributes:
        jid: the job.
        kind: ``ret``, or ``gone`` for a minion that will not return.
        minion: which one.
        reason: why it is gone.
    """

    jid: str
    kind: str
    minion: str
    reason: str = ""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A reaction that waits for a job.

    Attributes:
        function: what the job runs.
        pub: what publishing it returned.
        until: when it is waited for no longer, in seconds since 1970.
        done: told the result.
        owing: minions that may still return something.
        heard: those of them whose return was heard of.
        silent: why others will not.
        returns: what came back, as far as is known here.
        is_asking: whether the link server has been asked and not answered.
        is_stale: whether something was heard since it was asked.
        asked_at: when it was asked last.
        is_over: whether the result was told, or nobody wants it any more.
    """

    function: str
    pub: Mapping[str, Any]
    until: float
    done: Done
    owing: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    silent: dict[str, str] = field(default_factory=dict)
    returns: Mapping[str, Any] = field(default_factory=dict)
    is_asking: bool = False
    is_stale: bool = False
    asked_at: float = 0.0
    is_over: bool = False


class JobReturns:
    """All reactions that wait for jobs. In the engine's loop, but for one thread that listens.

    Args:
        link: asks the link server.
        address: where the bus publishes events in groups.
        mailbox: the way from the thread to the loop.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        link: Caller,
        address: str,
        mailbox: Mailbox,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._address = address
        self._mailbox = mailbox
        self._clock = clock
        self._waiting: dict[str, list[_Waiting]] = {}
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def listen(self) -> None:
        """Begin to hear events of jobs, with the first job that is waited for."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._hear, name="job-returns", daemon=True)
            self._thread.start()

    def wait(self, function: str, pub: Mapping[str, Any], seconds: float, done: Done) -> Cancel:
        """Tell ``done`` what came back for a job, once all has or its time is over.

        Args:
            function: what the job runs.
            pub: ``jid``, ``minions`` and ``missing``, as `jobs.publish` returns them.
            seconds: how long, from when the job was published.
            done: told ``jid``, ``minions``, ``returns``, ``failed`` and ``silent``.

        Returns:
            What ends the waiting.
        """
        jid, missing = str(pub["jid"]), set(pub.get("missing", ()))
        one = _Waiting(function, pub, (moment_of(jid) or self._clock()) + seconds, done)
        one.owing = set(pub["minions"]) - missing
        one.silent = dict.fromkeys(sorted(missing), NOT_CONNECTED)
        if not one.owing:
            self._tell(one)
            return lambda: None
        self._waiting.setdefault(jid, []).append(one)
        self._ask(one)
        return lambda: self._forget(one)

    def tick(self) -> None:
        """See whose time is over, and ask again what was long not asked. Every now and then."""
        if not self._waiting:
            return
        now = self._clock()
        for one in [one for some in self._waiting.values() for one in some]:
            if now >= one.until + _PATIENCE:
                self._tell(one)
            elif not one.is_asking and now >= min(one.until, one.asked_at + _ASK_EVERY):
                self._ask(one)

    def close(self) -> None:
        """Stop hearing."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(2 * _PAUSE)

    # -- what comes -----------------------------------------------------------------------

    def take(self, words: Iterable[Word]) -> None:
        """Take what events of jobs say."""
        for word in words:
            for one in self._waiting.get(word.jid, ()):
                if word.minion in one.owing:
                    self._note(one, word)

    def _note(self, one: _Waiting, word: Word) -> None:
        if word.kind == "gone":
            one.owing.discard(word.minion)
            one.silent[word.minion] = word.reason
        else:
            one.heard.add(word.minion)
        if one.owing <= one.heard:
            if one.is_asking:
                one.is_stale = True
            else:
                self._ask(one)

    def _ask(self, one: _Waiting) -> None:
        one.is_asking, one.is_stale, one.asked_at = True, False, self._clock()

        def answered(job: Any, error: BusError | None) -> None:
            one.is_asking = False
            if one.is_over:
                return
            if error is None:
                one.returns = dict(job.get("returns", {}))
                one.owing -= one.returns.keys()
            else:
                log.warning("the returns of the job %s: %s", one.pub["jid"], error)
            if not one.owing or self._clock() >= one.until:
                self._tell(one)
            elif one.is_stale:
                self._ask(one)

        self._link.call("jobs.get", {"jid": one.pub["jid"]}, answered)

    def _tell(self, one: _Waiting) -> None:
        self._forget(one)
        for minion in one.owing:
            one.silent[minion] = TOO_LATE
        for minion in one.returns:
            one.silent.pop(minion, None)
        one.done(*_result(one))

    def _forget(self, one: _Waiting) -> None:
        one.is_over = True
        jid = str(one.pub["jid"])
        others = [other for other in self._waiting.get(jid, ()) if other is not one]
        if others:
            self._waiting[jid] = others
        else:
            self._waiting.pop(jid, None)

    # -- the thread -----------------------------------------------------------------------

    def _hear(self) -> None:
        with contextlib.closing(open_listener(self._address, _PREFIX)) as listener:
            while not self._ending.is_set():
                try:
                    heard = listener.receive(_PAUSE)
                except BusError as error:
                    # What is not heard is asked for, so this costs time and nothing else.
                    log.warning("events of jobs are not heard: %s", error)
                    self._ending.wait(_ASK_EVERY)
                    continue
                words = [
                    word for raw in (heard.events if heard else ()) if (word := self._word(raw))
                ]
                if words:
                    self._mailbox.put(lambda words=words: self.take(words))  # type: ignore[misc]

    def _word(self, raw: bytes) -> Word | None:
        """Return what an event says of a job that is waited for."""
        parts = wire.tag_of(raw).split("/", 4)
        if len(parts) < 5 or parts[2] not in self._waiting or parts[3] not in _KINDS:
            return None
        _, _, jid, kind, minion = parts
        if kind == "ret":
            return Word(jid, kind, minion)
        try:
            reason = str(wire.unpack_event(raw)[1].get("reason", ""))
        except WireError:
            reason = ""
        return Word(jid, kind, minion, reason.removeprefix("the minion ") or "is gone")


def _result(one: _Waiting) -> tuple[dict[str, Any], str | None]:
    returns = {minion: ret.get("return") for minion, ret in sorted(one.returns.items())}
    failed = [minion for minion, ret in sorted(one.returns.items()) if has_failed(ret)]
    result = {
        "jid": one.pub["jid"],
        "minions": one.pub["minions"],
        "returns": returns,
        "failed": failed,
        "silent": dict(sorted(one.silent.items())),
    }
    problems = [_problem(one.function, failed, one.silent, one.pub["minions"])]
    size = len(wire.pack(returns))
    if size > MAX_BYTES:
        result["returns"] = {}
        problems.insert(
            0,
            f"{one.function}: the returns are {size} bytes long together, more than {MAX_BYTES}: "
            "have the function return less, or target fewer minions at a time",
        )
    return result, "; ".join(filter(None, problems)) or None


def _problem(
    function: str, failed: list[str], silent: Mapping[str, str], minions: Iterable[str]
) -> str:
    if not minions:
        return f"{function}: no minion matches the target"
    said = [f"failed on {_names(failed)}"] if failed else []
    said += [
        f"{_names(sorted(one for one in silent if silent[one] == why))} {why}"
        for why in sorted(set(silent.values()))
    ]
    return f"{function}: {'; '.join(said)}" if said else ""


def _names(minions: list[str]) -> str:
    more = len(minions) - _NAMED
    return ", ".join(minions[:_NAMED]) + (f" and {more} more" if more > 0 else "")
