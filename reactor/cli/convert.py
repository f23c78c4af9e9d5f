"""``reactor convert``: writes the native form of a Salt-style reactor file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json


@click.command(
    "convert",
    cls=Command,
    example="reactor convert reactors/start.sls > rules/start.yaml\n"
    "reactor convert reactors/start.sls --on 'salt/minion/*/start'",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--on", "globs", multiple=True, help="The tag globs; by default those of the map.")
@with_json
@click.pass_context
def command(ctx: click.Context, file: Path, globs: tuple[str, ...], as_json: bool) -> None:
    """Print the native form of a reactor FILE.sls.

    What cannot be converted is named on standard error, with its line; the exit status is then 1.
    """
    from reactor.rules.converting import convert

    wanted = list(globs) or _globs_of(ctx.ensure_object(Settings), file)
    if not wanted:
        raise click.UsageError(
            f"the reactor map does not name {file}: say with --on which tags it reacts to", ctx
        )
    try:
        source = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: no UTF-8 text") from error
    text, troubles = convert(source, str(file), wanted, file.stem)
    if as_json:
        told = [{"file": str(file), "line": one.line, "problem": one.problem} for one in troubles]
        click.echo(output.as_json({"native": text, "not_converted": told}))
    else:
        click.echo(text, nl=False)
    for trouble in troubles:
        click.echo(f"reactor: {file}:{trouble.line}: {output.safe(trouble.problem)}", err=True)
    ctx.exit(1 if troubles else 0)


def _globs_of(settings: Settings, file: Path) -> list[str]:
    """Return the globs under which a map names a file: of the configuration, or of what runs."""
    from reactor.cli.lookup import Reactor

    path = os.path.normpath(file.absolute())
    snapshot = Reactor(settings.master()).rules()
    return [
        rule.patterns[0]
        for rule in snapshot.rules
        if rule.style == "salt" and rule.source.path == path
    ]
