"""Jobs as they are asked for by clients and sent to minions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus import wire
from bus.calls import calls_of, spoken
from bus.errors import ArgumentsError, TargetError
from bus.jid import JidMaker, is_jid
from bus.link import protocol
from bus.link.jobs import JobStore, packed_runs
from bus.link.protocol import Job
from bus.tags import tagify
from bus.targets import Grains, Nodegroups, expand

MAX_LISTED = 10_000
_DEFAULT_LISTED = 1_000
_MAX_KEY = 1_000

_PASSED_ON = ("ret", "timeout")
"""What stands beside a job and is the minion's affair."""

_ANNOUNCED = ("jid", "tgt", "tgt_type", "fun", "arg", "minions", "missing", "user")

_INTERNAL = ("sent", "runs")
"""What is kept with a job and is nobody else's affair."""

Send = Callable[[str, bytes], bool]
"""Sends a frame to a minion; False if it is not connected."""

Note = Callable[[str, str, str], None]
"""Told the job id, the function and the minion of what was sent."""

Run = Callable[[str], bytes]
"""Returns which process of a minion is connected; empty if none is."""

Fire = Callable[[str, dict[str, Any]], None]


class Publishing:
    """The methods by which clients publish jobs and ask about them.

    Args:
        store: keeps the jobs.
        jids: makes their ids.
        minions: returns all accepted ids, with grains.
        nodegroups: the option of this name.
        send: sends a frame to a minion.
        hold: keeps a frame for a minion that may be on its way back, if that is likely.
        note: told of each job that a minion was sent.
        run: says which process of a minion is connected.
        fire: fires an event on the master's bus.
        max_size: of a job's frame, in bytes.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        jids: JidMaker,
        minions: Callable[[], Mapping[str, Grains]],
        nodegroups: Nodegroups,
        send: Send,
        hold: Send,
        note: Note,
        run: Run,
        fire: Fire,
        max_size: int,
    ) -> None:
        self._store = store
        self._jids = jids
        self._minions = minions
        self._nodegroups = nodegroups
        self._send = send
        self._hold = hold
        self._note = note
        self._run = run
        self._fire = fire
        self._max_size = max_size

    @property
    def methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What clients can call, by name."""
        return {
            "jobs.publish": self.publish,
            "jobs.list": self.list_jobs,
            "jobs.lookup": self.lookup,
            "jobs.get": self.get,
            "minions.match": self.match,
        }

    def publish(self, params: dict[str, Any]) -> dict[str, Any]:
        """Send a job to the minions that it targets.

        Args:
            params: ``tgt``, ``tgt_type``, ``fun`` and ``arg`` (see `bus.calls`),
                ``user``, and if wanted ``ret``, ``timeout`` and ``key``: a job that was
                published under the same key is not published again.

        Returns:
            ``jid``, ``minions`` (all that are targeted) and ``missing`` (of these, the ones
            that are not connected).

        Raises:
            ArgumentsError: a parameter is missing or of a wrong type.
            TargetError: the target cannot be read.
            JournalError: the job cannot be kept, so it was not sent.
        """
        key = _optional(params, "key", str)
        job = (self._store.by_key(key) if key else None) or self._new_job(params)
        if job["minions"] and not job.get("sent"):
            job = self._publish(job, key)
        return {name: job[name] for name in ("jid", "minions", "missing")}

    def _new_job(self, params: dict[str, Any]) -> dict[str, Any]:
        job = {
            **_checked_calls(params),
            "user": _optional(params, "user", str) or "",
            "tgt": params.get("tgt"),
            "tgt_type": _optional(params, "tgt_type", str) or "glob",
            **{name: params[name] for name in _PASSED_ON if params.get(name)},
        }
        minions = self.match(job)
        jid = self._jids.next()
        return {**job, "jid": jid, "minions": minions, "missing": [], "stamp": wire.stamp()}

    def _publish(self, job: dict[str, Any], key: str | None) -> dict[str, Any]:
        """Keep the job, send it, announce it.

        It is kept first, so that no return can come for an unknown job, and marked as sent
        last, so that one who was not answered asks again and it is sent after all. Announced
        after it was sent, it still stands in the journal before each of its returns: those
        are taken by the same loop that is busy here.
        """
        frame = job_frame(job)
        if len(frame) > self._max_size:
            raise ArgumentsError(
                f"the job {spoken(job['fun'])!r} is {len(frame)} bytes long, more than "
                f"{self._max_size}: give it fewer or smaller arguments"
            )
        job = {**job, "runs": packed_runs(map(self._run, job["minions"]))}
        self._store.put(job, key)
        missing = [ident for ident in job["minions"] if not self._send(ident, frame)]
        for ident in set(job["minions"]).difference(missing):
            self._note(job["jid"], job["fun"], ident)
        if key:
            # Nobody waits for the answer to a reaction's job, so it can wait for its minion.
            missing = [ident for ident in missing if not self._hold(ident, frame)]
        job = {**job, "missing": missing, "sent": True}
        self._fire(tagify([job["jid"], "new"], "job"), {name: job[name] for name in _ANNOUNCED})
        if key or missing:
            self._store.put(job, key)
        return job

    def match(self, params: dict[str, Any]) -> list[str]:
        """Return the accepted ids that ``tgt`` and ``tgt_type`` mean, connected or not."""
        target, kind = params.get("tgt"), params.get("tgt_type") or "glob"
        if target is None:
            raise TargetError("a job needs a target: give tgt, such as '*'")
        return expand(target, kind, self._minions(), self._nodegroups)

    def list_jobs(self, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the newest jobs by their id; ``limit`` says how many."""
        limit = _optional(params, "limit", int) or _DEFAULT_LISTED
        jobs = self._store.newest_first(max(1, min(limit, MAX_LISTED)))
        return {job["jid"]: _shown(job) for job in jobs}

    def lookup(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return what each minion returned for the job ``jid``."""
        found = self._store.returns(_jid(params))
        return {ident: ret.get("return") for ident, ret in found.items()}

    def get(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the job ``jid`` with its ``returns``; empty if there is none."""
        jid = _jid(params)
        job = self._store.get(jid)
        return {**_shown(job), "returns": self._store.returns(jid)} if job else {}


def job_frame(job: Mapping[str, Any]) -> bytes:
    """Return a job as it is sent to a minion."""
    return protocol.encode(Job(_for_minion(job)))


def _for_minion(job: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out who else is targeted."""
    names = ("jid", "fun", "arg", "user", "tgt", "tgt_type", *_PASSED_ON)
    return {name: job[name] for name in names if name in job}


def _shown(job: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in _INTERNAL}


def _jid(params: Mapping[str, Any]) -> str:
    jid = params.get("jid")
    if not is_jid(jid):
        raise ArgumentsError(f"{str(jid)[:80]!r} is no job id: it has 20 digits")
    return str(jid)


def _checked_calls(params: Mapping[str, Any]) -> dict[str, Any]:
    fun, arg = params.get("fun"), _optional(params, "arg", list) or []
    if not fun:
        raise ArgumentsError("a job needs 'fun'")
    calls_of(fun, arg)
    return {"fun": fun, "arg": arg}


def _optional(params: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = params.get(name)
    if value is not None and not isinstance(value, kind):
        raise ArgumentsError(f"{name!r} is {type(value).__name__}, {kind.__name__} is needed")
    if kind is str and value and name == "key" and len(value) > _MAX_KEY:
        raise ArgumentsError(f"the key of a job has at most {_MAX_KEY} characters")
    return value
