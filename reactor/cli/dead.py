"""``reactor dead``: reactions that failed for good: look at them, try them again, drop them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from reactor.cli import output
from reactor.cli.asking import confirm
from reactor.cli.settings import (
    Command,
    ListingGroup,
    Settings,
    shared_options,
    with_json,
    with_reactor,
)

_HEAD = ("ID", "WHEN", "RULE", "EVENT", "TRIES", "ERROR")

command = ListingGroup(
    "dead",
    params=shared_options(),
    help="Look after reactions that failed for good.\n\nExample: reactor dead retry --all",
)


@command.command("list", cls=Command, example="reactor dead list --rule restart_nginx")
@click.option("--rule", default="", help="Only those of this rule.")
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=100, show_default=True)
@with_reactor
@with_json
@click.pass_obj
def list_(settings: Settings, rule: str, limit: int, node: str, as_json: bool) -> None:
    """List failed reactions, the newest first."""
    found = _ask(settings, node, "dead.list", rule=rule, limit=limit)
    if as_json:
        click.echo(output.as_json(found))
    else:
        rows = [
            (
                letter["id"],
                _when(letter["at"]),
                letter["rule"],
                f"{letter['event']['seq']} {letter['event']['tag']}",
                letter["tries"],
                letter["error"],
            )
            for letter in found["letters"]
        ]
        output.show(output.table(_HEAD, rows), title=True)
    if found["dropped"]:
        click.echo(
            f"reactor: {found['dropped']} older ones were dropped since the start: see the option "
            "reactor_dead_keep",
            err=True,
        )


@command.command("show", cls=Command, example="reactor dead show REACTION-ID")
@click.argument("ident", metavar="ID")
@with_reactor
@with_json
@click.pass_obj
def show(settings: Settings, ident: str, node: str, as_json: bool) -> None:
    """Show one failed reaction; 'reactor why SEQ' says more of its event."""
    letter = _one(settings, node, ident)
    if as_json:
        click.echo(output.as_json(letter))
        return
    output.show(output.nested({ident: {**letter, "at": _when(letter["at"])}}))


@command.command("retry", cls=Command, example="reactor dead retry --rule restart_nginx")
@click.argument("idents", nargs=-1, metavar="[ID]...")
@click.option("--rule", default="", help="All of this rule.")
@click.option("--all", "everything", is_flag=True, help="All.")
@with_reactor
@with_json
@click.pass_context
def retry(
    ctx: click.Context,
    idents: tuple[str, ...],
    rule: str,
    everything: bool,
    node: str,
    as_json: bool,
) -> None:
    """Run failed reactions again, under the same ids; calls that were done are left out.

    A reaction that goes well is no longer dead; one that fails stays, with one try more.
    """
    settings = ctx.ensure_object(Settings)
    _check_choice(ctx, idents, rule, everything)
    for ident in idents:
        _one(settings, node, ident)
    found = _ask(settings, node, "dead.retry", ids=list(idents), rule=rule)
    bad = [one for one in found if one["problem"]]
    if as_json:
        click.echo(output.as_json(found))
    else:
        click.echo(f"{len(found) - len(bad)} begun again: see 'reactor trace' for what comes of it")
    for one in bad:
        click.echo(f"reactor: {output.safe(one['id'])}: {output.safe(one['problem'])}", err=True)
    ctx.exit(1 if bad else 0)


@command.command("drop", cls=Command, example="reactor dead drop --all --yes")
@click.argument("idents", nargs=-1, metavar="[ID]...")
@click.option("--rule", default="", help="All of this rule.")
@click.option("--all", "everything", is_flag=True, help="All.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_reactor
@with_json
@click.pass_context
def drop(
    ctx: click.Context,
    idents: tuple[str, ...],
    rule: str,
    everything: bool,
    yes: bool,
    node: str,
    as_json: bool,
) -> None:
    """Forget failed reactions: they cannot be retried then."""
    settings = ctx.ensure_object(Settings)
    _check_choice(ctx, idents, rule, everything)
    for ident in idents:
        _one(settings, node, ident)
    what = f"all of rule {rule}" if rule else "all" if everything else f"{len(idents)}"
    if not yes:
        confirm(ctx, f"Drop {what} for good?", "drop", "dropped")
    count = _ask(settings, node, "dead.drop", ids=list(idents), rule=rule, all=everything)
    click.echo(output.as_json({"dropped": count}) if as_json else f"{count} dropped")


def _check_choice(ctx: click.Context, idents: tuple[str, ...], rule: str, everything: bool) -> None:
    if bool(idents) + bool(rule) + everything != 1:
        raise click.UsageError("name IDs, or one of --rule and --all", ctx)


def _one(settings: Settings, node: str, ident: str) -> dict[str, Any]:
    found = _ask(settings, node, "dead.list", ids=[ident], limit=1)["letters"]
    if not found:
        raise click.ClickException(f"there is no dead reaction {ident!r}: see 'reactor dead list'")
    letter: dict[str, Any] = found[0]
    return letter


def _ask(settings: Settings, node: str, method: str, **params: Any) -> Any:
    from bus import rpc

    _opts, address = settings.reactor(node)
    return rpc.call(address, method, params)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
