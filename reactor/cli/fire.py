"""``reactor fire``: puts one event onto a bus.

It imports as little as it can, since scripts call it often (docs/explanation/performance.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from reactor.cli.settings import Command, Settings, with_json, with_node

if TYPE_CHECKING:
    from pathlib import Path

    from bus.config import Opts


@click.command(
    "fire",
    cls=Command,
    example="reactor fire myco/deploy/done '{version: 1.2, ok: true}'\n"
    "reactor fire myco/deploy/done version=1.2 ok=true\n"
    "reactor fire --file event.json",
)
@click.argument("tag", required=False)
@click.argument("data", nargs=-1, type=click.UNPROCESSED)
@with_node
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait until the event is in the journal.",
)
@click.option(
    "-f",
    "--file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help='A JSON file with {"tag": ..., "data": ...}; TAG and DATA go over what it says.',
)
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    tag: str | None,
    data: tuple[str, ...],
    node: str,
    timeout: float,
    file: TextIO | None,
    as_json: bool,
) -> None:
    """Fire an event and print its sequence number.

    DATA is a mapping in YAML or JSON, or key=value arguments, or both.
    """
    given = read_event(file) if file else {}
    tag = tag if tag is not None else given.get("tag")
    if tag is None:
        raise click.UsageError("name a TAG, or a --file that has one", ctx)
    if isinstance(tag, str) and not tag.strip():
        raise click.UsageError("the tag is empty: name one such as myco/deploy/done", ctx)
    settings = ctx.ensure_object(Settings)
    values = {**given.get("data", {}), **read_data(data)}
    seq = fire(settings.node(node), node, tag, values, timeout)
    if as_json:
        import json

        click.echo(json.dumps({"tag": tag, "seq": seq}))
    else:
        click.echo(seq)


def read_event(file: TextIO) -> dict[str, Any]:
    """Return the event in a JSON file: a mapping with ``tag`` and ``data``, or one of them.

    Raises:
        UsageError: it holds none.
    """
    import json

    try:
        event: dict[str, Any] = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name}: no JSON: {error}") from error
    good = isinstance(event, dict) and event and event.keys() <= {"tag", "data"}
    if not good or not isinstance(event.get("data", {}), dict):
        raise click.UsageError(f'{file.name}: an event is {{"tag": "...", "data": {{...}}}}')
    return event


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
            raise click.UsageError(_no_mapping(value))
        mappings.update(value)
    return {**mappings, **data}


def _no_mapping(value: Any) -> str:
    """Say why a value is no event data: mostly, that it was to be a mapping and has a slip."""
    from bus import yamlfile

    shown = repr(str(value)[:60])
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            yamlfile.load(value, "argument")
        except yamlfile.YamlError as error:
            return f"the data {shown} cannot be read: {error.problem} (column {error.column})"
    return f"the data {shown} is no mapping: write '{{key: value}}' or key=value"


def fire(opts: Opts, node: str, tag: str, data: dict[str, Any], timeout: float) -> int:
    """Fire an event and return its number once it is kept.

    Raises:
        NotRunningError: no bus is there.
        AnswerTimeoutError: it does not answer within ``timeout`` seconds.
        ValueError: the event cannot go onto a bus.
    """
    from bus import endpoints, wire

    event = wire.pack_event(tag, data, int(opts["max_event_size"]))
    is_master = node == "master"
    direct = (endpoints.master_direct if is_master else endpoints.minion_direct)(opts)
    address = (endpoints.master_pull if is_master else endpoints.minion_pull)(opts)
    seq = _fire_directly(direct, address, event, timeout) if direct else None
    return seq if seq is not None else _fire(address, event, timeout)


def _fire_directly(path: Path, address: str, event: bytes, timeout: float) -> int | None:
    """Fire on the direct line, which needs no ZeroMQ: its import is a quarter of the time.

    Returns:
        The event's number; None if there is no such line.

    Raises:
        AnswerTimeoutError: the bus is there and does not answer.
    """
    import os

    from bus import wire
    from bus.direct.firing import DirectLine

    line = DirectLine(path)
    try:
        if not line.open():
            return None
        seq = line.fire(os.urandom(12), 1, wire.pack([event]), timeout)
    finally:
        line.close()
    if seq is None:
        from bus.rpc.base import too_late

        raise too_late(address, timeout)
    return seq


def _fire(address: str, event: bytes, timeout: float) -> int:
    from bus.publisher import Publisher
    from bus.sockets import not_running

    publisher = Publisher(address)
    try:
        if not publisher.reachable():
            raise not_running(address)
        return publisher.fire([event], timeout)
    finally:
        publisher.close()
