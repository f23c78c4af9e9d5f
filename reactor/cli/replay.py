"""``reactor replay``: has the present rules react to events of the journal once more."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from bus.journal import JournalReader
    from bus.record import Event
    from reactor.cli.lookup import Reactor
    from reactor.rules.rehearsing import Durations, Outcome
    from reactor.rules.snapshot import Snapshot

_BATCH = 200
_PAUSE = 0.05
_OWN = "reactor/"
_MOST_WAITED = 100_000
"""Events that a dry run keeps for rules which wait upon them."""


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
@click.option(
    "--conditions-only", is_flag=True, help="Ask no policies: each event stands for itself."
)
@click.option(
    "--takes",
    default="1s",
    show_default=True,
    help="With --dry-run: how long an action lasts, for rules with a 'mode'.",
)
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    since: str,
    until: str | None,
    rule: str,
    glob: str,
    dry_run: bool,
    conditions_only: bool,
    takes: str,
    as_json: bool,
) -> None:
    """Feed past events to the rules as they are now.

    The reactions have ids of their own: what ran before neither blocks them nor runs for them.
    Throttles, counts and windows are asked as if the events came now, one after the other at the
    times of their stamps; they begin empty, and what the rules remember of the present is not
    touched. Rules that act by the clock alone (every, cron) and events of the engine itself are
    left out.

    A dry run asks 'mode' as well, as if each action lasted as long as --takes says; an event, a
    line of the log and a job that nobody waits for take no time.
    """
    from bus.since import resolve_since
    from reactor.cli.lookup import Reactor
    from reactor.rules.rehearsing import Durations
    from reactor.rules.simulating import simulate

    lasting = Durations.read(takes)
    reactor = Reactor(ctx.ensure_object(Settings).master())
    if not reactor.is_running and not dry_run:
        raise click.ClickException("; ".join(reactor.unknown) + ": start it, or use --dry-run")
    reactor.require()
    snapshot = reactor.rules()
    for off, switch in snapshot.switched_off:
        if rule == off.name:
            raise click.ClickException(f"the rule {rule} is {switch.why}: switch it on first")
    if rule and rule not in {each.name for each in snapshot.rules}:
        raise click.ClickException(f"there is no rule {rule!r} in force: see 'reactor rules'")
    with reactor.journal() as journal:
        after = resolve_since(since, journal, name="--since")
        if since.isdecimal():
            after = max(0, after - 1)  # a number is the first event, as elsewhere on this line
        last = resolve_since(until, journal, name="--until") if until else sys.maxsize
        upto = min(last, journal.last_seq())
        events = _events(journal, after, upto, glob)
        end = _time_of(journal, upto) if until else time.time()
        if dry_run:
            if conditions_only:
                outcomes = simulate(events, snapshot)
            else:
                outcomes = _asked(events, snapshot, rule, end, lasting)
            _dry_run(outcomes, rule, as_json=as_json)
        else:
            run = _Run(reactor, rule, None if conditions_only else end)
            _replay(run, events, snapshot, as_json=as_json)


def _events(journal: JournalReader, after: int, upto: int, glob: str) -> Iterator[Event]:
    from bus import wire
    from bus.record import Event
    from bus.tags import matcher
    from reactor.engine.actions.functions import USER

    matches = matcher(glob, "fnmatch")
    for seq, raw in journal.scan(after, upto):
        tag = wire.tag_of(raw)
        if not tag.startswith(_OWN) and matches(tag):
            event = Event.from_wire(raw, seq, journal.bus_id)
            if event.data.get("user") != USER:  # as in Salt, nothing reacts to these
                yield event


def _time_of(journal: JournalReader, seq: int) -> float:
    """Return when an event was fired."""
    from bus.record import Event
    from reactor.rules.replaying import moment

    rows = journal.read(seq - 1, 1, seq)
    return moment(Event.from_wire(rows[0][1], seq, journal.bus_id)) if rows else time.time()


def _asked(
    events: Iterable[Event], snapshot: Snapshot, rule: str, end: float, takes: Durations
) -> Iterator[Outcome]:
    """Yield what rules would do, policies included."""
    from reactor.rules.replaying import Replaying
    from reactor.rules.simulating import refused_functions
    from reactor.rules.turns import Turns

    waited: dict[int, Event] = {}
    replaying = Replaying(
        snapshot, refused_functions(), waited.get, lambda each: not rule or each.name == rule
    )
    turns = Turns(takes=takes)
    for event in events:
        if replaying.matches(event.tag):
            waited[event.seq] = event
            if len(waited) > _MOST_WAITED:
                del waited[next(iter(waited))]
            for found in replaying.event(event):
                yield from turns.decided(found, found.at or replaying.time)
    for found in replaying.end(end):
        yield from turns.decided(found, found.at or replaying.time)
    yield from turns.finish()


def _dry_run(outcomes: Iterable[Outcome], rule: str, *, as_json: bool) -> None:
    shown: list[dict[str, Any]] = []
    count = kept = 0
    for found in outcomes:
        outcome = found.describe()
        if rule and outcome["rule"] != rule:
            continue
        count += outcome["state"] == "runs"
        kept += outcome["policy"] == "mode" and outcome["state"] in ("skipped", "ended")
        if as_json:
            shown.append(outcome)
        else:
            _tell(outcome)
    if as_json:
        click.echo(output.as_json(shown))
    else:
        by_mode = f", and {kept} were turned away or ended by their rule's mode" if kept else ""
        click.echo(f"{count} reactions would run{by_mode}")


def _tell(outcome: dict[str, Any]) -> None:
    from reactor.cli.telling import call_lines

    event = outcome["event"]
    if outcome["error"]:
        text = f"{event['seq']}: {outcome['rule']}: {outcome['error']}"
        click.echo(f"reactor: {output.safe(text)}", err=True)
    elif outcome["calls"]:
        click.echo(output.safe(f"{event['seq']}  {event['tag']}  {outcome['rule']}"))
        for text, _ in call_lines(outcome["calls"]):
            click.echo(output.safe(f"      {text}"))
    elif outcome["state"] == "ended":
        click.echo(output.safe(f"{event['seq']}  {event['tag']}  {outcome['rule']}: ended"))
        click.echo(output.safe(f"      {outcome['why']}"))
        for text, _ in call_lines(outcome["unbegun"]):
            click.echo(output.safe(f"      not begun: {text}"))


class _Run:
    """Hands events over as the engine has room for them.

    Args:
        reactor: the engine.
        rule: the one rule that reacts; empty for all.
        end: the time at which what still waits ends; None where no policies are asked.
    """

    def __init__(self, reactor: Reactor, rule: str, end: float | None) -> None:
        self.rule = rule
        self.name = uuid.uuid4().hex[:8]
        self.total = {"events": 0, "matched": 0, "begun": 0}
        self._reactor = reactor
        self._end = end
        self._has_begun = False

    def send(self, waiting: list[int]) -> None:
        """Replay events by their numbers, and forget these."""
        while waiting:
            done = self._call(waiting[:_BATCH])
            del waiting[: done["taken"]]
            if waiting and not done["taken"]:
                time.sleep(_PAUSE)

    def end(self) -> None:
        """Let the time pass to the end."""
        if self._end is not None:
            self._call([], until=self._end)

    def _call(self, seqs: list[int], **more: float) -> dict[str, int]:
        how: dict[str, Any] = {"seqs": seqs, "rule": self.rule, "run": self.name, **more}
        if self._end is not None:
            how["policies"] = "go on" if self._has_begun else "begin"
            self._has_begun = True
        done: dict[str, int] = self._reactor.call("replay", **how)
        for name, key in (("events", "taken"), ("matched", "matched"), ("begun", "begun")):
            self.total[name] += done[key]
        return done


def _replay(run: _Run, events: Iterator[Event], snapshot: Snapshot, *, as_json: bool) -> None:
    from reactor.cli.journal import _Progress

    progress = _Progress("events replayed")
    waiting: list[int] = []
    try:
        for event in events:
            if any(not run.rule or each.name == run.rule for each in snapshot.match(event.tag)):
                waiting.append(event.seq)
            if len(waiting) >= _BATCH:
                run.send(waiting)
                progress(run.total["events"])
        run.send(waiting)
        run.end()
    finally:
        progress.clear()
    total = run.total
    if as_json:
        click.echo(output.as_json({"run": run.name, **total}))
        return
    click.echo(
        f"{total['begun']} reactions begun to {total['events']} events: see 'reactor trace' for "
        "what comes of them"
    )
