"""``reactor why``: which rules looked at an event, and what stopped each of them."""

from __future__ import annotations

from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json


@click.command(
    "why",
    cls=Command,
    example="reactor why my/deploy/done\nreactor why 1234\nreactor why 'salt/job/*/ret/*' --json",
)
@click.argument("what", metavar="TAG|SEQ")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=100),
    default=1,
    show_default=True,
    help="How many of the newest events with that tag.",
)
@with_json
@click.pass_obj
def command(settings: Settings, what: str, limit: int, as_json: bool) -> None:
    """Say what became of an event, rule by rule, and why.

    TAG may be a glob: its newest event counts. Without any, the rules that would match are
    named. Works also while the reactor is down, as far as its files tell.
    """
    found = _look(settings, what, limit)
    if as_json:
        click.echo(output.as_json(found[0] if limit == 1 else found))
        return
    from reactor.cli.telling import explanation

    for number, one in enumerate(found):
        if number:
            click.echo()
        for text, colour in explanation(one):
            _echo(text, colour)


def _look(settings: Settings, what: str, limit: int) -> list[dict[str, Any]]:
    from bus.errors import JournalError
    from bus.tags import check_tag
    from reactor.cli.lookup import Reactor, event_at, newest
    from reactor.engine.explaining import explain, would

    reactor = Reactor(settings.master())
    reactor.require()
    snapshot = reactor.rules()
    is_number = what.isascii() and what.isdecimal()
    if not is_number:
        check_tag(what)
    try:
        with reactor.journal() as journal:
            events = [event_at(int(what), journal)] if is_number else newest(what, journal, limit)
            if events:
                return [explain(event, snapshot, reactor.known(event, journal)) for event in events]
    except JournalError as error:
        if is_number:
            raise
        reactor.unknown.append(str(error))
    return [would(what, snapshot, reactor.unknown)]


def _echo(text: str, colour: str) -> None:
    if colour == "bold":
        click.secho(text, bold=True)
    elif colour:
        click.secho(text, fg=colour)
    else:
        click.echo(text)
