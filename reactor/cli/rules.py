"""``reactor rules``: what the running reactor has loaded, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

_HEAD = ("RULE", "STATE", "ON", "FIRED", "FAILED", "SOURCE", "LAST ERROR")


@click.command("rules", cls=Command, example="reactor rules\nreactor rules --json")
@with_json
@click.pass_obj
def command(settings: Settings, as_json: bool) -> None:
    """Show the rules of the running reactor."""
    from bus import endpoints, rpc

    found = rpc.call(endpoints.master_reactor(settings.master()), "rules")
    if as_json:
        click.echo(output.as_json(found))
        return
    output.show(output.table(_HEAD, [_row(rule) for rule in found["rules"]]), title=True)
    for problem in found["problems"]:
        kept = " (the last good version stays in force)" if problem.get("kept") else ""
        click.secho(output.safe(f"{problem['source']}: {problem['message']}{kept}"), fg="red")


def _row(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        rule["name"],
        rule["state"],
        " ".join(rule["patterns"]),
        rule["fired"],
        rule["failed"],
        rule["source"],
        rule.get("last_error") or "",
    )
