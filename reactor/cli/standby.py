"""``reactor standby``: one more reactor of a master, which takes over when the active one fails."""

from __future__ import annotations

import click

from reactor.cli.settings import Command, Settings
from reactor.logsetup import LEVELS


@click.command(
    "standby",
    cls=Command,
    example="reactor standby --config /etc/reactor\n"
    "reactor standby --config /etc/reactor --name second",
)
@click.option(
    "--name", default="standby", show_default=True, help="What this reactor is called: a-z, 0-9, -."
)
@click.option("--log-level", type=click.Choice(LEVELS), help="Instead of the option log_level.")
@click.pass_context
def command(ctx: click.Context, name: str, log_level: str | None) -> None:
    """Run a further reactor of the master on this host until SIGTERM or Ctrl-C.

    It reads the same rules, and does nothing as long as another one is active. When that one dies
    it takes over at once, when it hangs after reactor_take_over_after seconds, and goes on exactly
    where the other was. The master may be started before or after it. With the option
    reactor_standbys the master runs such reactors itself.
    """
    from bus import endpoints
    from bus.errors import ConfigError
    from reactor import daemon, logsetup, roles
    from reactor.engine.seat import MAIN

    opts = ctx.ensure_object(Settings).master(strict=True)
    endpoints.master_reactor_named(opts, name)
    if name == MAIN:
        raise ConfigError(f"--name {name}: so the master's own reactor is called; take another")
    logsetup.setup(opts, log_level)
    ctx.exit(daemon.run([roles.reactor_role(opts, name, waits=True)]))
