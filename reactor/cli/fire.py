"""``reactor fire``: puts one event onto a bus.

It imports as little as it can, since scripts call it often (docs/explanation/performance.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reactor.cli.settings import Command, Settings, with_json, with_node

if TYPE_CHECKING:
    from bus.config import Opts


@click.command(
    "fire",
    cls=Command,
    example="reactor fire myco/deploy/done '{version: 1.2, ok: true}'\n"
    "reactor fire myco/deploy/done version=1.2 ok=true",
)
@click.argument("tag")
@click.argument("data", nargs=-1, type=click.UNPROCESSED)
@with_node
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds to wait until the event is in the journal.",
)
@with_json
@click.pass_obj
def command(
    settings: Settings, tag: str, data: tuple[str, ...], node: str, timeout: float, as_json: bool
) -> None:
    """Fire an event and print its sequence number.

    DATA is a mapping in YAML or JSON, or key=value arguments, or both.
    """
    seq = fire(settings.node(node), node, tag, read_data(data), timeout)
    if as_json:
        import json

        click.echo(json.dumps({"tag": tag, "seq": seq}))
    else:
        click.echo(seq)


def read_data(args: tuple[str, ...]) -> dict[str, Any]:
    """Return the event data that command-line arguments mean.

    Raises:
        UsageError: an argument is neither a mapping nor ``key=value``.
    """
    from bus import cliargs

    positional, data = cliargs.parse(args)
    mappings: dict[str, Any] = {}
    for value in positional:
        if not isinstance(value, dict):
            raise click.UsageError(
                f"the data {str(value)[:60]!r} is no mapping: write '{{key: value}}' or key=value"
            )
        mappings.update(value)
    return {**mappings, **data}


def fire(opts: Opts, node: str, tag: str, data: dict[str, Any], timeout: float) -> int:
    """Fire an event and return its number once it is kept.

    Raises:
        NotRunningError: no bus answers within ``timeout`` seconds.
        ValueError: the event cannot go onto a bus.
    """
    from bus import endpoints, wire
    from bus.publisher import Publisher
    from bus.sockets import not_running

    event = wire.pack_event(tag, data, int(opts["max_event_size"]))
    address = (endpoints.master_pull if node == "master" else endpoints.minion_pull)(opts)
    publisher = Publisher(address)
    try:
        if not publisher.reachable():
            raise not_running(address)
        return publisher.fire([event], timeout)
    finally:
        publisher.close()
