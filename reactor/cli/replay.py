"""``reactor replay``: has the present rules react to events of the journal once more."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from bus.journal import JournalReader
    from bus.record import Event
    from reactor.cli.lookup import Reactor
    from reactor.rules.snapshot import Snapshot

_BATCH = 200
_PAUSE = 0.05
_OWN = "reactor/"


@click.command(
    "replay",
    cls=Command,
    example="reactor replay --since 1h --rule restart_nginx --dry-run\n"
    "reactor replay --since 1200 --until 1300",
)
@click.option("--since", required=True, help="A sequence number, a time, or an age such as 1h.")
@click.option("--until", help="End there: the same.")
@click.option("--rule", default="", help="Only this rule reacts.")
@click.option("--tag", "glob", default="*", show_default=True, help="Only events with such tags.")
@click.option("--dry-run", is_flag=True, help="Only say what would run.")
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    since: str,
    until: str | None,
    rule: str,
    glob: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Feed past events to the rules as they are now.

    The reactions have ids of their own: what ran before neither blocks them nor runs for them.
    Conditions are asked; throttles, counts and windows, which belong to the present, are not.
    Events of the engine itself are left out.
    """
    from bus.native import resolve_since
    from reactor.cli.lookup import Reactor

    reactor = Reactor(ctx.ensure_object(Settings).master())
    if not reactor.is_running and not dry_run:
        raise click.ClickException("; ".join(reactor.unknown) + ": start it, or use --dry-run")
    snapshot = reactor.rules()
    if rule and rule not in {each.name for each in snapshot.rules}:
        raise click.ClickException(f"there is no rule {rule!r} in force: see 'reactor rules'")
    with reactor.journal() as journal:
        after = resolve_since(since, journal)
        if since.isdecimal():
            after = max(0, after - 1)  # a number is the first event, as elsewhere on this line
        upto = resolve_since(until, journal) if until else journal.last_seq()
        events = _events(journal, after, min(upto, journal.last_seq()), glob)
        if dry_run:
            _dry_run(events, snapshot, rule, as_json=as_json)
        else:
            _replay(reactor, events, snapshot, rule, as_json=as_json)


def _events(journal: JournalReader, after: int, upto: int, glob: str) -> Iterator[Event]:
    from bus import wire
    from bus.record import Event
    from bus.tags import matcher

    matches = matcher(glob, "fnmatch")
    for seq, raw in journal.scan(after, upto):
        tag = wire.tag_of(raw)
        if not tag.startswith(_OWN) and matches(tag):
            yield Event.from_wire(raw, seq, journal.bus_id)


def _dry_run(events: Iterator[Event], snapshot: Snapshot, rule: str, *, as_json: bool) -> None:
    from reactor.cli.telling import call_lines
    from reactor.rules.simulating import simulate

    shown: list[dict[str, Any]] = []
    count = 0
    for found in simulate(events, snapshot):
        outcome = found.describe()
        if rule and outcome["rule"] != rule:
            continue
        count += bool(outcome["calls"])
        if as_json:
            shown.append(outcome)
        elif outcome["calls"]:
            event = outcome["event"]
            click.echo(output.safe(f"{event['seq']}  {event['tag']}  {outcome['rule']}"))
            for text, _ in call_lines(outcome["calls"]):
                click.echo(output.safe(f"      {text}"))
        elif outcome["error"]:
            text = f"{outcome['event']['seq']}: {outcome['rule']}: {outcome['error']}"
            click.echo(f"reactor: {output.safe(text)}", err=True)
    if as_json:
        click.echo(output.as_json(shown))
    else:
        click.echo(f"{count} reactions would run")


def _replay(
    reactor: Reactor, events: Iterator[Event], snapshot: Snapshot, rule: str, *, as_json: bool
) -> None:
    from reactor.cli.journal import _Progress

    run = uuid.uuid4().hex[:8]
    total = {"events": 0, "matched": 0, "begun": 0}
    progress = _Progress("events replayed")
    waiting: list[int] = []
    try:
        for event in events:
            if any(not rule or each.name == rule for each in snapshot.match(event.tag)):
                waiting.append(event.seq)
            if len(waiting) >= _BATCH:
                _send(reactor, waiting, rule, run, total)
                progress(total["events"])
        _send(reactor, waiting, rule, run, total)
    finally:
        progress.clear()
    if as_json:
        click.echo(output.as_json({"run": run, **total}))
        return
    click.echo(
        f"{total['begun']} reactions begun to {total['events']} events: see 'reactor trace' for "
        "what comes of them"
    )


def _send(reactor: Reactor, waiting: list[int], rule: str, run: str, total: dict[str, int]) -> None:
    """Hand events over as the engine has room for them."""
    while waiting:
        done = reactor.call("replay", seqs=waiting[:_BATCH], rule=rule, run=run)
        del waiting[: done["taken"]]
        total["events"] += done["taken"]
        total["matched"] += done["matched"]
        total["begun"] += done["begun"]
        if waiting and not done["taken"]:
            time.sleep(_PAUSE)
