"""``reactor http``: HTTP as a service of its own, in the foreground, beside a master."""

from __future__ import annotations

import click

from reactor.cli.settings import Command, Settings
from reactor.logsetup import LEVELS


@click.command("http", cls=Command, example="reactor http --config /etc/reactor --port 8443")
@click.option("--port", type=click.IntRange(1, 65_535), help="Instead of the option http_port.")
@click.option("--log-level", type=click.Choice(LEVELS), help="Instead of the option log_level.")
@click.pass_context
def command(ctx: click.Context, port: int | None, log_level: str | None) -> None:
    """Serve events, webhooks, the API and the page until SIGTERM or Ctrl-C.

    The master on this host may be started before or after it. 'reactor up' has it built in.
    """
    from reactor import daemon, logsetup, roles

    opts = ctx.ensure_object(Settings).master()
    if port:
        opts = opts.with_(http_port=port)
    logsetup.setup(opts, log_level)
    ctx.exit(daemon.run([roles.http_role(opts)]))
