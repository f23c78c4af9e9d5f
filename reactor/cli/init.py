"""``reactor init``: makes a configuration directory without starting anything."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from reactor.cli.settings import Command, Settings


@click.command("init", cls=Command, example="reactor init\nreactor init /srv/reactor --id web1")
@click.argument("directory", required=False)
@click.option("--id", "ident", help="The local minion's id; by default the host's name.")
@click.pass_obj
def command(settings: Settings, directory: str | None, ident: str | None) -> None:
    """Make a configuration directory, by default ./.reactor.

    It has all that a master and a local minion need; nothing is started.
    """
    from reactor import up

    prepared = up.prepare(up.default_directory(directory or settings.config), ident)
    for path in prepared.made:
        click.echo(f"wrote {path}")
    if not prepared.made:
        click.echo(f"{prepared.directory} has all it needs")
    option = _option(prepared.directory)
    click.echo(f"Next: put rules into {prepared.directory / 'rules'}, then 'reactor up{option}'")


def _option(directory: Path) -> str:
    return (
        ""
        if directory == Path(".reactor").absolute()
        else f" --config {shlex.quote(str(directory))}"
    )
