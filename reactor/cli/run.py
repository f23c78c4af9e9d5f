"""``reactor run``: runs a runner on the master, as ``salt-run`` does."""

from __future__ import annotations

import click

from reactor.cli.settings import Command, Settings, with_json


@click.command(
    "run",
    cls=Command,
    example="reactor run doc.runner\nreactor run state.event pretty=True\n"
    "reactor run event.send myco/tag '{a: 1}'",
)
@click.argument("fun")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@with_json
@click.pass_obj
def command(settings: Settings, fun: str, args: tuple[str, ...], as_json: bool) -> None:
    """Run a runner function, on the master's host.

    Arguments are read as Salt does: key=value is a keyword argument, values are YAML.
    """
    from bus import cliargs
    from bus.client import RunnerClient
    from reactor.cli import output

    positional, keyword = cliargs.parse(args)
    shows_itself = fun == "state.event"
    if shows_itself and as_json:
        keyword.setdefault("as_json", True)
    client = RunnerClient(settings.master())
    try:
        result = client.cmd(fun, positional, kwarg=keyword)
    finally:
        client.close()
    if as_json and not shows_itself:
        click.echo(output.as_json(result))
    elif result is not None:
        output.show(output.nested(result))
