"""``reactor call``: runs an execution function in this process, as ``salt-call`` does."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import click

from reactor.cli.settings import Command, Settings, with_json

_TO_THE_MASTER = ("event.send", "event.fire_master")
_ASK_SECONDS = 1.0


@click.command(
    "call",
    cls=Command,
    example="reactor call event.send 'myco/mytag/success' "
    "'{success: True, message: \"It works!\"}'\n"
    "reactor call test.ping",
)
@click.argument("fun")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--local", is_flag=True, help="Without a master: events stay on this host.")
@with_json
@click.pass_obj
def command(
    settings: Settings, fun: str, args: tuple[str, ...], local: bool, as_json: bool
) -> None:
    """Run an execution function here, as the local minion.

    Arguments are read as Salt does: key=value is a keyword argument, values are YAML.
    """
    from bus import cliargs
    from bus.client import Caller
    from reactor.cli import output

    opts = settings.minion()
    caller = Caller(mopts=opts.with_(master_type="disable") if local else opts)
    positional, keyword = cliargs.parse(args)
    result = caller.cmd(fun, *positional, **keyword)
    if as_json:
        click.echo(output.as_json({"local": result}))
    else:
        output.show_return("local", result)
    if fun in _TO_THE_MASTER and result is True and not local:
        _say_if_spooled(opts)
    if caller.context.get("retcode"):
        click.get_current_context().exit(1)


def _say_if_spooled(opts: Mapping[str, Any]) -> None:
    """Say that an event waits on this host, where ``True`` only says that it is not lost."""
    from bus import endpoints, rpc
    from bus.errors import BusError

    with contextlib.suppress(BusError):
        status = rpc.call(endpoints.minion_pull(opts), "status", timeout=_ASK_SECONDS)
        if status["link"] not in ("connected", "disabled"):
            click.echo(
                f"reactor: kept in the minion's spool: its link to the master is {status['link']}",
                err=True,
            )
