"""``reactor minion``: the minion as a service, in the foreground."""

from __future__ import annotations

import click

from reactor.cli.settings import Command, Settings
from reactor.logsetup import LEVELS


@click.command("minion", cls=Command, example="reactor minion --config /etc/reactor")
@click.option("--log-level", type=click.Choice(LEVELS), help="Instead of the option log_level.")
@click.pass_context
def command(ctx: click.Context, log_level: str | None) -> None:
    """Run the minion until SIGTERM or Ctrl-C."""
    from bus.config import has_minion
    from reactor import daemon, logsetup, roles

    opts = ctx.ensure_object(Settings).minion(strict=True)
    logsetup.setup(opts, log_level)
    if not has_minion(opts.conf_dir):
        daemon.say_defaults("minion", opts.conf_dir, f"its master is {opts['master']}")
    ctx.exit(daemon.run(roles.minion_roles(opts)))
