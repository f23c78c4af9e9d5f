"""``reactor up``: all of it in this folder, with a console."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.settings import Command, Settings
from reactor.logsetup import LEVELS

if TYPE_CHECKING:
    from bus.stopping import Stop
    from reactor.supervisor import Role
    from reactor.up import Prepared


@click.command("up", cls=Command, example="reactor up --rules examples/reactors")
@click.option("--id", "ident", help="The local minion's id; by default the host's name.")
@click.option("--rules", multiple=True, metavar="PATH", help="Rules for this run, besides others.")
@click.option(
    "--file-roots", multiple=True, metavar="PATH", help="One more folder of 'salt://', this run."
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65_535),
    help="Instead of the option http_port, this run; 0 for no HTTP.",
)
@click.option("--quiet", is_flag=True, help="Show no events.")
@click.option("--log-level", type=click.Choice(LEVELS), help="Log to the terminal, from there on.")
@click.pass_context
def command(
    ctx: click.Context,
    ident: str | None,
    rules: tuple[str, ...],
    file_roots: tuple[str, ...],
    http_port: int | None,
    quiet: bool,
    log_level: str | None,
) -> None:
    """Run master, reactor, HTTP and a local minion, and show what happens.

    The directory is --config, $REACTOR_CONFIG_DIR or ./.reactor; it is made if it is missing.
    """
    from reactor import logsetup, up

    since = time.time()
    directory = up.default_directory(ctx.ensure_object(Settings).config)
    prepared = up.prepare(directory, ident)
    master = up.for_this_run(prepared.master, rules, file_roots)
    if http_port is not None:
        master = master.with_(http_port=http_port)
    minion = up.for_this_run(prepared.minion, (), file_roots)
    log_file = "" if log_level else prepared.log_file()
    logsetup.setup({**master, "log_file": log_file}, log_level)
    ctx.exit(_supervise(prepared, master, minion, since, quiet=quiet, log_file=log_file))


def _supervise(
    prepared: Prepared,
    master: Mapping[str, Any],
    minion: Mapping[str, Any],
    since: float,
    *,
    quiet: bool,
    log_file: str,
) -> int:
    from reactor import roles
    from reactor.supervisor import Supervisor

    parts = roles.master_roles(master)
    if master["http_port"]:
        parts.append(roles.http_role(master))
    parts.extend(roles.minion_roles(minion))
    if not quiet:
        parts.append(_console(prepared, master, minion, since, log_file))
    status = Supervisor(parts, say=_say, on_hangup=True).run()
    if status == 0 and not quiet:
        click.echo("stopped")
    return status


def _console(
    prepared: Prepared,
    master: Mapping[str, Any],
    minion: Mapping[str, Any],
    since: float,
    log_file: str,
) -> Role:
    from reactor import console
    from reactor.cli import output
    from reactor.http.address import url_of
    from reactor.supervisor import Role

    facts = console.Facts(
        minion=str(minion["id"]),
        address=f"{master['interface']}:{master['ret_port']}",
        directory=str(prepared.directory),
        rules=tuple(str(path) for path in master["rules"]),
        log_file=log_file,
        is_new=bool(prepared.made),
        url=url_of(master),
    )

    def run(stop: Stop) -> None:
        console.run(master, facts, since, stop, colour=output.in_colour())

    def again(stop: Stop) -> None:
        console.run_again(master, stop, colour=output.in_colour())

    return Role("console", run, keep=False, again=again)


def _say(text: str) -> None:
    click.echo(f"reactor: {text}", err=True)
