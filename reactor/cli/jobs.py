"""``reactor jobs``: what was run on minions, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bus.calls import spoken
from reactor.cli import output
from reactor.cli.settings import Command, ListingGroup, Settings, shared_options, with_json

_HEAD = ("JID", "TARGET", "MINIONS", "USER", "FUNCTION")

_ACTIVE_HEAD = ("JID", "MINION", "PID", "SECONDS", "USER", "FUNCTION")

_timeout = click.option(
    "-t", "--timeout", type=click.FloatRange(min=0), help="Seconds to wait for the minions."
)

command = ListingGroup(
    "jobs",
    params=shared_options(),
    help="Show the jobs that minions were sent, and end them.\n\nExample: reactor jobs list",
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


@command.command("active", cls=Command, example="reactor jobs active")
@_timeout
@with_json
@click.pass_context
def active(ctx: click.Context, timeout: float | None, as_json: bool) -> None:
    """Ask the minions which jobs they run now.

    The exit status is 0 only if all of them answered.
    With --json: {JID: {"web1": {"fun": "cmd.run", "pid": 4711, "seconds": 3.2, ...}}}.
    """
    from bus import running_jobs
    from bus.client import LocalClient

    with LocalClient(mopts=ctx.ensure_object(Settings).master()) as client:
        found = running_jobs.active(client, timeout)
    if as_json:
        click.echo(output.as_json(found.jobs))
    else:
        rows = [
            (jid, minion, job.get("pid", ""), f"{job.get('seconds', 0):g}", *_who(job))
            for jid, minions in sorted(found.jobs.items(), reverse=True)
            for minion, job in minions.items()
        ]
        output.show(output.table(_ACTIVE_HEAD, rows), title=True)
    ctx.exit(_name_silent(found.silent))


@command.command("kill", cls=Command, example="reactor jobs kill 20261122093000123456")
@click.argument("jid")
@_timeout
@with_json
@click.pass_context
def kill(ctx: click.Context, jid: str, timeout: float | None, as_json: bool) -> None:
    """End a job on the minions that run it, with the processes that it started.

    The exit status is 0 only if it ran somewhere and all who may run it answered.
    With --json: {"jid": JID, "killed": ["web1"], "not_running": [], "silent": {}}.
    """
    from bus import running_jobs
    from bus.client import LocalClient

    with LocalClient(mopts=ctx.ensure_object(Settings).master()) as client:
        found = running_jobs.kill(client, jid, timeout)
    if as_json:
        where = {"killed": found.killed, "not_running": found.not_running}
        click.echo(output.as_json({"jid": jid, **where, "silent": found.silent}))
    elif found.killed:
        click.echo(output.safe(f"job {jid} was killed on {', '.join(found.killed)}"))
    status = _name_silent(found.silent)
    if not found.killed:
        click.echo(
            f"reactor: job {jid} was killed nowhere: see 'reactor jobs show {jid}' for what came "
            "of it",
            err=True,
        )
    ctx.exit(status if found.killed else 1)


def _name_silent(silent: Mapping[str, str]) -> int:
    """Say who did not answer and why; return the exit status."""
    for minion, why in sorted(silent.items()):
        click.echo(f"reactor: {output.safe(f'{minion} {why}')}", err=True)
    return 1 if silent else 0


def _who(job: Mapping[str, Any]) -> tuple[str, str]:
    return str(job.get("user", "")), spoken(job.get("fun", ""))


def _show_job(jid: str, job: Mapping[str, Any]) -> None:
    returns: Mapping[str, Any] = job["returns"]
    arguments = " ".join(output.compact(value) for value in job.get("arg", ()))
    click.secho(output.safe(f"{jid}  {spoken(job['fun'])} {arguments}".rstrip()), bold=True)
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
        spoken(job.get("fun", "")),
    )
