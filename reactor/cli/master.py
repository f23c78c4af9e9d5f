"""``reactor master``: the master as a service, in the foreground."""

from __future__ import annotations

import click

from reactor.cli.settings import Command, Settings
from reactor.logsetup import LEVELS


@click.command("master", cls=Command, example="reactor master --config /etc/reactor")
@click.option("--log-level", type=click.Choice(LEVELS), help="Instead of the option log_level.")
@click.pass_context
def command(ctx: click.Context, log_level: str | None) -> None:
    """Run bus, link and reactor until SIGTERM or Ctrl-C. Rules are read again when they change."""
    from bus.config import has_master
    from reactor import daemon, logsetup, roles

    opts = ctx.ensure_object(Settings).master(strict=True)
    logsetup.setup(opts, log_level)
    if not has_master(opts.conf_dir):
        daemon.say_defaults(
            "master", opts.conf_dir, f"minions connect to {opts['interface']}:{opts['ret_port']}"
        )
    ctx.exit(daemon.run(roles.master_roles(opts)))
