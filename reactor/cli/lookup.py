"""What commands about past events share: the rules, the journal, and what the reactor knows."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus import endpoints, rpc, wire
from bus.config import Opts, master_config, minion_config
from bus.errors import BusError, JournalError, NotRunningError, WireError
from bus.journal import JournalReader, journal_path
from bus.record import Event
from bus.tags import matcher
from reactor.cli.settings import require_directory, without_log

# What reads rules takes as long as all else together, and a running reactor may know enough.
if TYPE_CHECKING:
    from reactor.engine.explaining import Known
    from reactor.rules.snapshot import Snapshot
    from reactor.rules.switches import Switch

ASK_SECONDS = 3.0
_LOOK_BACK = 1_000_000
_LOOK_AHEAD = 50_000
_PAGE = 1_000


class Reactor:
    """The reactor of a master or of a minion, running or not.

    Args:
        opts: the node's options.
        address: where it takes questions; by default, where a master's does.
        node: ``master`` or ``minion``, which has no journal.
    """

    def __init__(self, opts: Opts, address: str = "", node: str = "master") -> None:
        self.opts = opts
        self._address = address or endpoints.master_reactor(opts)
        self._read = master_config if node == "master" else minion_config
        self.unknown: list[str] = []
        self.status: dict[str, Any] = {}
        try:
            self.status = self.call("status")
            self.is_running = True
        except NotRunningError:
            self.is_running = False
            self.unknown.append(
                "the reactor is not running: what it saw is taken from its files, as far as it "
                "wrote them"
            )
        except BusError as error:
            self.is_running = False
            self.unknown.append(f"the reactor gave no answer: {error}")

    def call(self, method: str, **params: Any) -> Any:
        """Ask the running reactor."""
        return rpc.call(self._address, method, params, timeout=ASK_SECONDS)

    def require(self) -> None:
        """Refuse a configuration directory that is not there, unless its reactor runs all the same.

        Raises:
            ConfigError: nothing can be known.
        """
        if not self.is_running:
            require_directory(self.opts)

    def rules(self) -> Snapshot:
        """Return the rules in force in the running reactor, or else those that the files have."""
        with without_log():
            return self._load(self._sources()).switched(self._switches())

    def _sources(self) -> Mapping[str, Any]:
        """Return what the running reactor made its rules of; nothing if none tells it."""
        if self.is_running:
            try:
                sources: Mapping[str, Any] = self.call("rules.sources")
            except BusError as error:
                self.unknown.append(
                    f"the reactor does not tell which rules are in force ({error}): those of the "
                    "files are taken"
                )
            else:
                return sources
        return {}

    def _load(self, sources: Mapping[str, Any]) -> Snapshot:
        from reactor.engine.sources import ConfiguredRules

        if not sources:
            paths = dict.fromkeys((*self.opts["rules"], *self.status.get("paths", ())))
            opts = self.opts.with_(rules=tuple(paths))
            return ConfiguredRules(opts, self._read, in_force=self.is_running).load()
        from reactor.rules.lastgood import restored

        names = ("reactor", "rules", "file_roots")
        opts = self.opts.with_(**{name: sources[name] for name in names})

        def read(path: Path) -> Opts:
            """Return what is in force, which may be more or less than the file has."""
            self._read(path)  # what is wrong with it is to be told
            return opts

        return ConfiguredRules(opts, read).load(restored(sources["kept"]))

    def _switches(self) -> dict[str, Switch]:
        """Return the rules that are switched off, from the file: it is never behind."""
        from reactor.engine.state import read_switches

        with contextlib.suppress(sqlite3.Error), self._database() as db:
            return {each.rule: each for each in read_switches(db)}
        return {}

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        from reactor.engine.state import state_path

        address = f"{state_path(self.opts['state_dir']).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
            yield db

    def traces(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return traces, the newest first, of the running reactor or from its file."""
        if self.is_running:
            found: list[dict[str, Any]] = self.call("traces", **wanted)
            return found
        from reactor.engine.traces import Traces
        from reactor.engine.tracestore import read_traces

        traces = Traces(1_000_000)
        traces.load(read_traces(self.opts["state_dir"]))
        return traces.find(**wanted)

    def read_upto(self) -> int | None:
        """Return the number of the last event that the reactor has read, or None."""
        if self.is_running:
            return int(self.status["seq"])
        with contextlib.suppress(sqlite3.Error), self._database() as db:
            row = db.execute("SELECT seq FROM cursor").fetchone()
            return int(row[0]) if row else None
        return None

    @contextlib.contextmanager
    def journal(self) -> Iterator[JournalReader]:
        """Open the journal.

        Raises:
            JournalError: there is none.
        """
        reader = JournalReader(journal_path(self.opts["state_dir"]))
        try:
            yield reader
        finally:
            reader.close()

    def known(self, event: Event, journal: JournalReader) -> Known:
        """Return what is known about an event."""
        from reactor.engine.explaining import Known

        return Known(
            traces=self.traces(seq=event.seq, limit=1_000),
            reports=reports_about(event.seq, journal),
            read_upto=self.read_upto(),
            is_running=self.is_running,
            max_chain=int(self.opts["reactor_max_chain"]),
            unknown=tuple(self.unknown),
        )


def event_at(seq: int, journal: JournalReader) -> Event:
    """Return an event by its number.

    Raises:
        JournalError: it is not in the journal.
    """
    rows = journal.read(seq - 1, 1, seq)
    if not rows:
        first, last = journal.first_seq(), journal.last_seq()
        raise JournalError(f"there is no event {seq} in the journal: it has {first} to {last}")
    return Event.from_wire(rows[0][1], seq, journal.bus_id)


def newest(glob: str, journal: JournalReader, limit: int) -> list[Event]:
    """Return the newest events whose tags match, the newest first."""
    matches = matcher(glob, "fnmatch")
    found: list[Event] = []
    last, first = journal.last_seq(), journal.first_seq()
    stop = max(first - 1, last - _LOOK_BACK)
    upto = last
    while upto > stop and len(found) < limit:
        page = journal.read(max(stop, upto - _PAGE), _PAGE, upto)
        for seq, raw in reversed(page):
            if len(found) < limit and matches(wire.tag_of(raw)):
                with contextlib.suppress(WireError):
                    found.append(Event.from_wire(raw, seq, journal.bus_id))
        upto -= _PAGE
    return found


def reports_about(seq: int, journal: JournalReader) -> list[Mapping[str, Any]]:
    """Return the data of the reports on reactions to an event, as far as they came soon."""
    prefix = b"reactor/reaction/"
    found: list[Mapping[str, Any]] = []
    for number, raw in journal.scan(seq, seq + _LOOK_AHEAD):
        if raw.startswith(prefix):
            with contextlib.suppress(WireError):
                data = Event.from_wire(raw, number).data
                about = data.get("event")
                if isinstance(about, dict) and about.get("seq") == seq:
                    found.append(data)
    return found
