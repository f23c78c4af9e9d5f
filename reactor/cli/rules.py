"""``reactor rules``: what the running reactor has loaded, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

_HEAD = ("RULE", "STATE", "ON", "FIRED", "FAILED", "SOURCE", "LAST ERROR")


@click.command("rules", cls=Command, example="reactor rules\nreactor rules --json")
@with_json
@click.pass_obj
def command(settings: Settings, as_json: bool) -> None:
    """Show the rules of the running reactor.

    LAST ERROR is empty again after a reaction that went well. What could not be loaded is told
    on standard error; the exit status is 0 as long as the reactor answers ('reactor check' has
    one for what is wrong).
    """
    from bus import endpoints, rpc

    found = rpc.call(endpoints.master_reactor(settings.master()), "rules")
    if as_json:
        click.echo(output.as_json(found))
        return
    output.show(output.table(_HEAD, [_row(rule) for rule in found["rules"]]), title=True)
    for problem in found["problems"]:
        kept = " (the last good version stays in force)" if problem.get("kept") else ""
        text = output.safe(f"{problem['source']}: {problem['message']}{kept}")
        click.secho(text, fg="red", err=True)


def _row(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        rule["name"],
        rule["state"],
        " ".join(rule["patterns"]),
        rule["fired"],
        rule["failed"],
        rule["source"],
        _last_error(rule),
    )


def _last_error(rule: Mapping[str, Any]) -> str:
    """Return the last error and when it was."""
    if not rule.get("last_error"):
        return ""
    at = rule.get("last_error_at")
    when = datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S ") if at else ""
    return f"{when}{rule['last_error']}"
