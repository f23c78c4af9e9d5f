"""``reactor events``: shows events as they come, or out of the journal."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json, with_node

if TYPE_CHECKING:
    from bus.listening import Listening
    from bus.native import Connection
    from bus.record import Event

_COMMIT_EVERY = 1000
"""Events shown after which the place of ``--cursor`` is saved."""

_STEP = 0.5
"""Seconds between two looks at the clock while nothing comes."""


@click.command(
    "events",
    cls=Command,
    example="reactor events 'salt/job/*/ret/*'\n"
    "reactor events 'myco/*' --since 1h --until 10m --json\n"
    "reactor events --cursor my-export --json --timeout 1",
)
@click.argument("glob", default="*")
@click.option("--since", help="Begin there: a sequence number, a time, or an age such as 1h.")
@click.option("--until", help="End there: the same.")
@click.option("--cursor", metavar="NAME", help="Go on after the last event shown under this name.")
@with_node
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    help="End after so many seconds, but not before all that the journal had is shown.",
)
@click.option("--pretty", is_flag=True, help="Show the data on several lines.")
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    glob: str,
    since: str | None,
    until: str | None,
    cursor: str | None,
    node: str,
    count: int | None,
    timeout: float | None,
    pretty: bool,
    as_json: bool,
) -> None:
    """Show events as they come, or from the journal.

    Each is a line, if its tag matches GLOB, until Ctrl-C.

    With --since, what the journal holds comes first and nothing is missed.

    With --cursor, the master remembers what was shown: the first time it begins at --since, or
    now, and later where it ended. What was shown just before a crash may come again.
    """
    import bus

    if cursor and until:
        raise click.UsageError("--until ends a look back, --cursor goes on: leave one out")
    opts = ctx.ensure_object(Settings).node(node)
    left = count
    with bus.connect(node, opts) as connection:
        shown = _Shown()
        try:
            for event in _events(connection, glob, since, until, cursor, timeout, shown):
                _show(event, pretty=pretty, as_json=as_json)
                shown.note(event.seq)
                left = None if left is None else left - 1
                if left == 0:
                    break
        finally:
            shown.save()
    if left:
        missing = f"{left} of {count} events did not come"
        click.echo(f"reactor: {missing}: give it more --timeout, or another GLOB", err=True)
        ctx.exit(1)


def _events(
    connection: Connection,
    glob: str,
    since: str | None,
    until: str | None,
    cursor: str | None,
    timeout: float | None,
    shown: _Shown,
) -> Iterator[Event]:
    deadline = None if timeout is None else time.monotonic() + timeout
    end = _End(connection, until) if until else None
    if until and not since:
        since = "0"
    if end and end.seq is not None:
        yield from _from_journal(connection, glob, str(since), end.seq, deadline)
        return
    there = _newest(connection) if since or cursor else 0
    listening = connection.listen(
        glob, since=since, cursor=cursor, auto_commit=False, on_gap=_gap_notice(connection)
    )
    if end:
        deadline = end.sooner(deadline)
    shown.listening = listening if cursor else None
    yield from _listen(listening, deadline, shown.save, there)


def _newest(connection: Connection) -> int:
    """Return the number of the newest event in the journal; 0 without a journal."""
    journal = connection.open_journal()
    if journal is None:
        return 0
    try:
        return journal.last_seq()
    finally:
        journal.close()


class _Shown:
    """Flushes what was shown, and lets the master know of it if there is a cursor."""

    def __init__(self) -> None:
        self.listening: Listening | None = None
        self._last = 0
        self._count = 0

    def note(self, seq: int) -> None:
        """Take note that an event was shown."""
        self._last = seq
        self._count += 1
        if self._count >= _COMMIT_EVERY:
            self.save()

    def save(self) -> None:
        """Flush, then save the place: what was not written must come again."""
        sys.stdout.flush()
        if self.listening and self._count:
            self.listening.commit(self._last)
            self._count = 0  # not before: Ctrl-C may come while the master is asked


def _gap_notice(connection: Connection) -> Callable[[int, int], None]:
    """Return what says on standard error which events this terminal was too slow for."""
    has_journal = connection.node == "master"

    def tell(first: int, last: int) -> None:
        count = last - first + 1
        what = f"lost {count} events (of any tag) between seq {first} and {last}"
        advice = f"; --since {first - 1} --until {last} shows them" if has_journal else ""
        click.echo(f"reactor: {what}{advice}", err=True)

    return tell


class _End:
    """Where ``--until`` points: a number, if the journal is there already, or a time to come."""

    def __init__(self, connection: Connection, until: str) -> None:
        from bus.errors import DataError
        from bus.since import resolve_since

        journal = connection.open_journal()
        if journal is None:
            raise DataError("--until needs a journal, and a minion's bus has none: leave it out")
        self.seq: int | None = None
        self._wait = 0.0
        try:
            moment = _future(until)
            if moment is None:
                self.seq = resolve_since(until, journal, name="--until")
            else:
                self._wait = moment - time.time()
        finally:
            journal.close()

    def sooner(self, deadline: float | None) -> float:
        """Return the earlier of ``deadline`` and the end, on `time.monotonic`."""
        end = time.monotonic() + self._wait
        return end if deadline is None else min(end, deadline)


def _future(until: str) -> float | None:
    """Return a time that is yet to come, in seconds since 1970."""
    if until.isdigit():
        return None
    try:
        moment = datetime.fromisoformat(until).astimezone(UTC).timestamp()
    except ValueError:
        return None
    return moment if moment > time.time() else None


def _from_journal(
    connection: Connection, glob: str, since: str, last: int, deadline: float | None
) -> Iterator[Event]:
    """Yield what the journal has up to ``last``; what it has not yet is waited for."""
    from bus import wire
    from bus.record import Event
    from bus.since import resolve_since
    from bus.tags import matcher

    matches = matcher(glob, "fnmatch")
    journal = connection.open_journal()
    assert journal is not None  # _End has made sure of it
    try:
        after = resolve_since(since, journal, name="--since")
        upto = journal.last_seq()
        for seq, raw in journal.scan(after, min(last, upto)):
            if matches(wire.tag_of(raw)):
                yield Event.from_wire(raw, seq, journal.bus_id)
    finally:
        journal.close()
    if last > upto:
        rest = connection.listen("*", since=max(after, upto))
        yield from _up_to(rest, matches, last, deadline)


def _up_to(
    listening: Listening, matches: Any, last: int, deadline: float | None
) -> Iterator[Event]:
    for event in _listen(listening, deadline, sys.stdout.flush):
        if event.seq > last:
            return
        if matches(event.tag):
            yield event
        if event.seq == last:
            return


def _listen(
    listening: Listening, deadline: float | None, on_idle: Callable[[], None], there: int = 0
) -> Iterator[Event]:
    """Yield events until the deadline, and up to the number ``there`` even after it.

    ``on_idle`` flushes what was printed.
    """
    while True:
        event = listening.next(0)
        if event is None:
            on_idle()
            _check_reader()
            left = _STEP if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            event = listening.next(min(left, _STEP))
        if event is not None:
            yield event
            is_late = deadline is not None and time.monotonic() > deadline
            if is_late and event.seq >= there:
                return


def _check_reader() -> None:
    """End when nobody reads any more (``| head -1``), even if no further event comes.

    Raises:
        BrokenPipeError: the other end of the pipe is closed.
    """
    try:
        output_fd = sys.stdout.fileno()
    except (OSError, ValueError):  # no file at all, as in a test
        return
    poller = select.poll()
    poller.register(output_fd, 0)
    if any(state & select.POLLERR for _, state in poller.poll(0)):
        raise BrokenPipeError


def _show(event: Event, *, pretty: bool, as_json: bool) -> None:
    """Write without flushing: thousands a second may go by."""
    if as_json:
        line = output.as_json(_document(event), pretty=pretty)
    elif pretty:
        head = f"{local_time(event.stamp)}  {event.seq}  {output.safe(event.tag)}"
        line = "\n".join([head, *output.nested(event.data, output.INDENT)])
    else:
        payload = output.compact(event.payload)
        line = f"{local_time(event.stamp)}  {event.seq}  {output.safe(event.tag)}  {payload}"
    sys.stdout.write(line + "\n")


def _document(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "id": event.id,
        "tag": event.tag,
        "stamp": event.stamp,
        "data": event.data,
        "payload": event.payload,
    }


def local_time(stamp: str) -> str:
    """Return the time of day of an ISO 8601 stamp, here, to the millisecond."""
    try:
        moment = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return "--:--:--.---"
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
