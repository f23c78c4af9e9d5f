"""``reactor jobs``: what was run on minions, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, ListingGroup, Settings, shared_options, with_json

_HEAD = ("JID", "TARGET", "MINIONS", "USER", "FUNCTION")

command = ListingGroup(
    "jobs",
    params=shared_options(),
    help="Show the jobs that minions were sent.\n\nExample: reactor jobs list",
)


@command.command("list", cls=Command, example="reactor jobs list --limit 20")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many."
)
@with_json
@click.pass_obj
def list_(settings: Settings, limit: int, as_json: bool) -> None:
    """List the newest jobs, the newest first."""
    found: dict[str, Any] = _ask(settings, "jobs.list", {"limit": limit})
    if as_json:
        click.echo(output.as_json(found))
        return
    newest_first = sorted(found.items(), reverse=True)
    rows = [_row(jid, job) for jid, job in newest_first]
    output.show(output.table(_HEAD, rows), title=True)


@command.command("show", cls=Command, example="reactor jobs show 20261122093000123456")
@click.argument("jid")
@with_json
@click.pass_context
def show(ctx: click.Context, jid: str, as_json: bool) -> None:
    """Show a job and what each minion returned."""
    job: dict[str, Any] = _ask(ctx.ensure_object(Settings), "jobs.get", {"jid": jid})
    if not job:
        click.echo(f"reactor: there is no job {jid}: see 'reactor jobs list'", err=True)
        ctx.exit(1)
    if as_json:
        click.echo(output.as_json(job))
        return
    _show_job(jid, job)


def _show_job(jid: str, job: Mapping[str, Any]) -> None:
    returns: Mapping[str, Any] = job["returns"]
    arguments = " ".join(output.compact(value) for value in job.get("arg", ()))
    click.secho(output.safe(f"{jid}  {job['fun']} {arguments}".rstrip()), bold=True)
    for minion, data in returns.items():
        output.show_return(minion, data.get("return"), output.failure(data))
    for minion in sorted(set(job["minions"]) - set(returns)):
        why = "was not connected" if minion in job.get("missing", ()) else "has not answered"
        click.echo(output.safe(f"{minion}: {why}"))


def _ask(settings: Settings, method: str, params: Mapping[str, Any]) -> Any:
    from bus import endpoints, rpc

    return rpc.call(endpoints.master_link(settings.master()), method, params)


def _row(jid: str, job: Mapping[str, Any]) -> tuple[Any, ...]:
    target = job.get("tgt", "")
    return (
        jid,
        target if isinstance(target, str) else ",".join(target),
        len(job.get("minions", ())),
        job.get("user", ""),
        job.get("fun", ""),
    )
