"""``reactor trace``: the newest firings of rules, with their calls, results and reasons."""

from __future__ import annotations

import re
from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json, with_reactor

_REACTION = re.compile(r".+-\d+-.+-[0-9a-f]{8}\Z")


@click.command(
    "trace",
    cls=Command,
    example="reactor trace\nreactor trace --fired\nreactor trace restart_nginx --failed\n"
    "reactor trace 1234 --json",
)
@click.argument("what", required=False, metavar="[RULE|REACTION-ID|SEQ]")
@click.option("--fired", is_flag=True, help="Only reactions, not what rules turned away.")
@click.option("--failed", is_flag=True, help="Only reactions that failed.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=1000),
    default=20,
    show_default=True,
    help="How many.",
)
@with_reactor
@with_json
@click.pass_obj
def command(
    settings: Settings,
    what: str | None,
    fired: bool,
    failed: bool,
    limit: int,
    node: str,
    as_json: bool,
) -> None:
    """Show what rules did, and what they turned away: the newest first.

    The newest traces of each rule are kept (option reactor_trace_keep), without secrets. Works
    also while the reactor is down, from what it wrote when it was last idle or stopped.
    """
    from reactor.cli.lookup import Reactor
    from reactor.cli.telling import trace_lines
    from reactor.cli.why import _echo

    reactor = Reactor(*settings.reactor(node), node)
    reactor.require()
    wanted = _wanted(what)
    traces = reactor.traces(**wanted, fired=fired, failed=failed, limit=limit)
    if not traces and "rule" in wanted and wanted["rule"] not in _names(reactor):
        raise click.ClickException(
            f"there is no rule {wanted['rule']!r}: see 'reactor rules' or 'reactor check'"
        )
    if as_json:
        click.echo(output.as_json(traces))
    else:
        for text, colour in trace_lines(traces):
            _echo(text, colour)
    for text in reactor.unknown:
        click.echo(f"reactor: {text}", err=True)
    if not traces and not as_json:
        click.echo("reactor: nothing is traced of this: see 'reactor why TAG'", err=True)


def _wanted(what: str | None) -> dict[str, Any]:
    if not what:
        return {}
    if what.isascii() and what.isdecimal():
        return {"seq": int(what)}
    return {"reaction" if _REACTION.match(what) else "rule": what}


def _names(reactor: Any) -> set[str]:
    snapshot = reactor.rules()
    return {rule.name for rule in (*snapshot.remembered, *snapshot.disabled)}
