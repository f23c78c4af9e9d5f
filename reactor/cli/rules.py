"""``reactor rules``: what the running reactor has loaded, what became of it, and switches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from reactor.cli import output
from reactor.cli.settings import (
    Command,
    ListingGroup,
    Settings,
    shared_options,
    with_json,
    with_reactor,
)

_COMPLETE_SECONDS = 1.0
"""Somebody waits with a finger on the Tab key."""

_HEAD = ("RULE", "STATE", "ON", "FIRED", "FAILED", "SOURCE", "LAST ERROR")

command = ListingGroup(
    "rules",
    params=shared_options(),
    help="Show the rules of the running reactor, and switch them off and on.\n\n"
    "Example: reactor rules disable 'deploy_*'",
)


def _completed(ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the names that begin so, of the running reactor; none if there is none."""
    from bus.errors import BusError

    node = ctx.params.get("node") or "master"
    try:
        found = _ask(ctx.ensure_object(Settings), node, "rules", timeout=_COMPLETE_SECONDS)
    except (BusError, OSError):
        return []
    names = dict.fromkeys(rule["name"] for rule in found["rules"])
    return [CompletionItem(name) for name in names if name.startswith(begun)]


@command.command("list", cls=Command, example="reactor rules\nreactor rules list --json")
@with_reactor
@with_json
@click.pass_obj
def list_(settings: Settings, node: str, as_json: bool) -> None:
    """List the rules of the running reactor.

    STATE is 'on', or 'off' with the reason. LAST ERROR is there if a rule's last reaction failed.
    What could not be loaded is told on standard error; the exit status is 0 as long as the
    reactor answers ('reactor check' has one for what is wrong).
    """
    found = _ask(settings, node, "rules")
    if as_json:
        click.echo(output.as_json(found))
        return
    rows = [_row(rule) for rule in found["rules"]]
    shown = len(_HEAD) if any(row[-1] for row in rows) else len(_HEAD) - 1
    output.show(output.table(_HEAD[:shown], [row[:shown] for row in rows]), title=True)
    for problem in found["problems"]:
        kept = " (the last good version stays in force)" if problem.get("kept") else ""
        text = output.safe(f"{problem['source']}: {problem['message']}{kept}")
        click.secho(text, fg="red", err=True)
    for warning in found.get("warnings", ()):
        click.secho(
            output.safe(f"{warning['source']}: {warning['message']}"), fg="yellow", err=True
        )
    there = {rule["name"] for rule in found["rules"]}
    for switch in found["switches"]:
        if switch["rule"] not in there:
            text = f"reactor: {switch['rule']} is {switch['why']}, and no file has it now"
            click.echo(output.safe(text), err=True)


@command.command("disable", cls=Command, example="reactor rules disable restart_nginx 'deploy_*'")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_completed)
@with_reactor
@with_json
@click.pass_obj
def disable(settings: Settings, names: tuple[str, ...], node: str, as_json: bool) -> None:
    """Switch rules off at once, until they are switched on again.

    NAME may be a glob; all rules of a name are meant. It survives restarts and changes of the
    rule's file. What a rule has begun ends as it would have; what it counted is forgotten, and
    events that come while it is off are not made up for.
    """
    _switch(settings, node, names, on=False, as_json=as_json)


@command.command("enable", cls=Command, example="reactor rules enable restart_nginx 'deploy_*'")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_completed)
@with_reactor
@with_json
@click.pass_obj
def enable(settings: Settings, names: tuple[str, ...], node: str, as_json: bool) -> None:
    """Switch rules on again that were switched off; they react to what comes from now on.

    NAME may be a glob. A rule whose file says 'enabled: false' stays off.
    """
    _switch(settings, node, names, on=True, as_json=as_json)


def _switch(
    settings: Settings, node: str, names: tuple[str, ...], *, on: bool, as_json: bool
) -> None:
    from bus.running import current_user

    user = current_user()
    found = _ask(settings, node, "rules.switch", rules=list(names), on=on, user=user)
    if as_json:
        click.echo(output.as_json(found))
        return
    for rule in found:
        already = "" if rule["changed"] else "already "
        why = f" ({rule['why']})" if rule["why"] and (on or not rule["changed"]) else ""
        click.echo(output.safe(f"{rule['rule']}: {already}{rule['state']}{why}"))


def _ask(settings: Settings, node: str, method: str, timeout: float = 5.0, **params: Any) -> Any:
    from bus import rpc

    _opts, address = settings.reactor(node)
    return rpc.call(address, method, params, timeout)


def _row(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        rule["name"],
        f"off: {rule['why_off']}" if rule["switched_off"] else rule["state"],
        " ".join(rule["patterns"]),
        rule["fired"],
        rule["failed"],
        _from_here(rule["source"]),
        _last_error(rule),
    )


def _from_here(source: str) -> str:
    """Return a place, relative to the present folder if it is below it."""
    here = f"{Path.cwd()}/"
    return source.removeprefix(here) if here != "//" else source


def _last_error(rule: Mapping[str, Any]) -> str:
    """Return the last error and when it was."""
    if not rule.get("last_error"):
        return ""
    at = rule.get("last_error_at")
    when = datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S ") if at else ""
    return f"{when}{rule['last_error']}"
