"""``reactor journal``: looks after the journal, and takes events out of it and in again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Group, Settings, shared_options, with_json

if TYPE_CHECKING:
    from bus.config import Opts
    from bus.journal import JournalReader
    from bus.journal.check import Finding
    from bus.journal.stats import Stats

_SHOW_EVERY = 0.2
"""Seconds between two lines of progress on a terminal."""

command = Group(
    "journal",
    params=shared_options(),
    help="Check the journal, take events out and in, list cursors.\n\n"
    "Example: reactor journal check",
)


class _Progress:
    """Shows on a terminal's standard error how far it is; elsewhere nothing.

    Args:
        what: such as ``events checked``.
        total: how many there will be, 0 if that is not known.
    """

    def __init__(self, what: str, total: int = 0) -> None:
        self._what = what
        self._total = total
        self._is_shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + _SHOW_EVERY
            of = f" of {self._total:,}" if self._total else ""
            click.echo(f"\r\x1b[K{count:,}{of} {self._what}", err=True, nl=False)

    def clear(self) -> None:
        """Leave the line empty."""
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)


@command.command(
    "check", cls=Command, example="reactor journal check\nreactor journal check --repair"
)
@click.option(
    "--repair", is_flag=True, help="Save what is whole in damaged files; the bus must be stopped."
)
@with_json
@click.pass_context
def check(ctx: click.Context, repair: bool, as_json: bool) -> None:
    """Look at every event of the journal, and say what is wrong; exit 1 if anything is."""
    opts = ctx.ensure_object(Settings).master()
    if repair:
        _repair(Path(opts["state_dir"]))
    if not _check(opts, as_json=as_json):
        ctx.exit(1)


def _repair(state_dir: Path) -> None:
    from bus.journal.check import repair

    for done in repair(state_dir):
        click.echo(output.safe(str(done)), err=True)


def _check(opts: Opts, *, as_json: bool) -> bool:
    """Print what is found; return whether the journal is whole."""
    from bus.journal import journal_path
    from bus.journal.check import check as look

    path = journal_path(opts["state_dir"])
    progress = _Counting(_Progress("events checked"))
    findings = []
    for finding in look(path, progress):
        findings.append(finding)
        if not as_json:
            progress.clear()
            click.echo(output.safe(str(finding)))
    progress.clear()
    damaged = sum(finding.is_damage for finding in findings)
    if as_json:
        click.echo(output.as_json(_checked_document(progress.count, findings)))
    elif not damaged:
        click.echo(f"{progress.count} events, nothing wrong")
    else:
        click.echo(
            f"reactor: {damaged} of these are damage: stop the bus and run "
            "'reactor journal check --repair'",
            err=True,
        )
    return not damaged


class _Counting:
    """Passes progress on and remembers the last count."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress
        self.count = 0
        self.clear = progress.clear

    def __call__(self, count: int) -> None:
        self.count = count
        self._progress(count)


def _checked_document(events: int, findings: Iterable[Finding]) -> dict[str, Any]:
    return {
        "events": events,
        "findings": [
            {"file": str(found.file), "what": found.what, "is_damage": found.is_damage}
            for found in findings
        ],
    }


@command.command("stats", cls=Command, example="reactor journal stats")
@with_json
@click.pass_obj
def stats_(settings: Settings, as_json: bool) -> None:
    """Show how much the journal holds, from when to when, and of what."""
    from bus.journal.stats import stats

    with _reader(settings.master()) as reader:
        found = stats(reader)
    if as_json:
        click.echo(output.as_json(_stats_document(found)))
        return
    for name, value in _stats_lines(found):
        click.echo(f"{name + ':':12}{value}")
    click.echo()
    title = "EVENTS (about)" if found.is_sampled else "EVENTS"
    rows = [(count, tag) for tag, count in found.tags.items()]
    output.show(output.table((title, "TAG"), rows), title=True)


def _stats_document(found: Stats) -> dict[str, Any]:
    return {
        "events": found.events,
        "first_seq": found.first_seq,
        "last_seq": found.last_seq,
        "first_at": found.first_at.isoformat() if found.first_at else None,
        "last_at": found.last_at.isoformat() if found.last_at else None,
        "files": found.files,
        "bytes": found.size,
        "tags": found.tags,
        "tags_are_estimates": found.is_sampled,
    }


def _stats_lines(found: Stats) -> list[tuple[str, str]]:
    return [
        ("events", f"{found.events:,}"),
        ("first", f"{found.first_seq}  {_moment(found.first_at)}"),
        ("last", f"{found.last_seq}  {_moment(found.last_at)}"),
        ("files", f"{found.files}"),
        ("bytes", f"{found.size:,}"),
    ]


def _moment(at: datetime | None) -> str:
    return at.astimezone().isoformat(" ", "seconds") if at else "-"


def _reader(opts: Opts) -> JournalReader:
    from bus.journal import JournalReader, journal_path

    return JournalReader(journal_path(opts["state_dir"]))


@command.command(
    "export",
    cls=Command,
    example="reactor journal export 'salt/job/*' --since 1d --file jobs.jsonl",
)
@click.argument("glob", default="*")
@click.option("--since", help="Begin there: a sequence number, a time, or an age such as 1h.")
@click.option("--until", help="End there: the same.")
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write there."
)
@click.pass_obj
def export(
    settings: Settings, glob: str, since: str | None, until: str | None, file: Path | None
) -> None:
    """Write events as lines of JSON: seq, at, tag, data.

    'reactor journal import' reads them again. Bytes are written as {"$bytes": "base64"}.
    """
    from bus.journal.transfer import export_lines
    from bus.since import resolve_since
    from bus.tags import matcher

    with _reader(settings.master()) as reader:
        after = resolve_since(since, reader, name="--since") if since else reader.first_seq() - 1
        upto = resolve_since(until, reader, name="--until") if until else reader.last_seq()
        total = max(0, upto - max(after, reader.first_seq() - 1))
        progress = _Progress("events", total)
        lines = export_lines(reader, matcher(glob, "fnmatch"), after, upto, progress)
        if file:
            click.echo(f"{_write(file, lines)} events", err=True)
        else:
            sys.stdout.writelines(lines)
        progress.clear()


def _write(file: Path, lines: Iterable[str]) -> int:
    """Write a file that only its owner can read, whole or not at all; return how many lines."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    count = 0
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as target:  # noqa: PTH123 - of a descriptor
            for line in lines:
                target.write(line)
                count += 1
        unfinished.replace(file)
    except BaseException:  # an interruption too must not leave half a file
        unfinished.unlink(missing_ok=True)
        raise
    return count


@command.command(
    "import",
    cls=Command,
    example="reactor journal import jobs.jsonl\nzcat old.jsonl.gz | reactor journal import -",
)
@click.argument("file", type=click.File("rb"))
@click.option(
    "--again", is_flag=True, help="Take the events even if this file was imported before."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds without progress after which to give up.",
)
@with_json
@click.pass_obj
def import_(
    settings: Settings, file: IO[bytes], again: bool, timeout: float, as_json: bool
) -> None:
    """Fire the events of an exported FILE ('-' for standard input) on the running bus.

    They keep their data and time stamps, and get new numbers; rules see them as new events.
    After an interruption the same command goes on where it was.
    """
    name = str(getattr(file, "name", "standard input"))
    if file.seekable():
        _import(settings.master(), file, name, again, timeout, as_json)
        return
    with tempfile.TemporaryFile() as copy:  # it is read more than once
        shutil.copyfileobj(file, copy)
        _import(settings.master(), copy, name, again, timeout, as_json)


def _import(
    opts: Opts, file: IO[bytes], name: str, again: bool, timeout: float, as_json: bool
) -> None:
    from bus import endpoints, rpc
    from bus.journal import transfer
    from bus.publisher import Publisher

    address = endpoints.master_pull(opts)
    last_seq = int(rpc.call(address, "status")["last_seq"])
    limit = int(opts["max_event_size"])
    producer = None if again else transfer.producer_of(file)
    file.seek(0)
    total = transfer.check_lines(file, name=name, max_event_size=limit)
    file.seek(0)
    progress = _Progress("events imported", total)
    publisher = Publisher(address, producer=producer)
    try:
        done = transfer.import_lines(
            file,
            publisher,
            last_seq,
            name=name,
            max_event_size=limit,
            timeout=timeout,
            progress=progress,
        )
    finally:
        publisher.close()
        progress.clear()
    if as_json:
        click.echo(output.as_json({"events": done.events, "new": done.fresh}))
        return
    click.echo(f"{done.fresh} events imported")
    if done.fresh < done.events:
        here = done.events - done.fresh
        click.echo(f"{here} were imported before from the same file: --again takes them anew")


@command.command(
    "cursors", cls=Command, example="reactor journal cursors\nreactor journal cursors --delete old"
)
@click.option("--delete", metavar="NAME", help="Forget a cursor.")
@with_json
@click.pass_obj
def cursors(settings: Settings, delete: str | None, as_json: bool) -> None:
    """List the named places that listeners go on from."""
    ask = _asking(settings.master())
    if delete is not None:
        if not ask("cursors.delete", {"name": delete}):
            raise click.ClickException(
                f"there is no cursor {delete!r}: see 'reactor journal cursors'"
            )
        return
    status = ask("status", {})
    found = {name: _with_behind(place, status) for name, place in ask("cursors.list", {}).items()}
    if as_json:
        click.echo(output.as_json(found))
        return
    rows = [(name, place["seq"], place["behind"], place["moved"]) for name, place in found.items()]
    output.show(output.table(("NAME", "SEQ", "BEHIND", "MOVED"), rows), title=True)


def _with_behind(place: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    seq = place["seq"] if place["bus_id"] == status["bus_id"] else 0
    moved = datetime.fromtimestamp(place["at"] / 1_000_000, UTC).astimezone()
    return {
        "seq": seq,
        "behind": status["last_seq"] - seq,
        "moved": moved.isoformat(timespec="seconds"),
    }


def _asking(opts: Opts) -> Callable[[str, dict[str, Any]], Any]:
    from bus import endpoints, rpc

    address = endpoints.master_pull(opts)
    return lambda method, params: rpc.call(address, method, params)
