"""``reactor test``: runs rules against events without doing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

_SUFFIXES = (".test.yaml", ".test.yml")


@click.command(
    "test",
    cls=Command,
    example="reactor test rules/                        # every *.test.yaml below\n"
    "reactor test rules/restart.yaml --events events.jsonl\n"
    "reactor test rules/restart.yaml --since 1h",
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--events",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
    help="Events from a file: lines of JSON, a JSON event or list, or YAML; '-' for input.",
)
@click.option("--since", help="Events of the journal from there: a number, a time, or an age.")
@click.option("--on", "globs", multiple=True, help="Tag globs that *.sls files react to.")
@click.option(
    "--takes",
    default="1s",
    show_default=True,
    help="With events: how long an action lasts, for rules with a 'mode'.",
)
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    file: Path | None,
    since: str | None,
    globs: tuple[str, ...],
    takes: str,
    as_json: bool,
) -> None:
    """Run rules against events, on a simulated clock, without doing anything.

    With --events or --since: print what would run, and why the other rules would not. Otherwise
    run the expectations in *.test.yaml beside the rules; the exit status is 0 only if all hold.

    An event, a line of the log and a job that nobody waits for take no time, whatever --takes says.
    """
    from reactor.testing import quiet

    quiet()
    settings = ctx.ensure_object(Settings)
    if file and since:
        raise click.UsageError("events come from one of --events and --since", ctx)
    if file or since:
        events = read_events(file) if file else _journal(settings, str(since))
        ctx.exit(_show(settings, paths, list(globs), events, takes, as_json=as_json))
    ctx.exit(_expectations(settings, paths, as_json=as_json))


# -- what would run -----------------------------------------------------------------------------


def read_events(file: Path) -> list[dict[str, Any]]:
    """Return the events of a file: each a mapping with ``tag``, ``data`` and perhaps ``at``.

    Raises:
        UsageError: it holds none.
    """
    from bus.yamlfile import YamlError, load

    name = str(file)
    try:
        text = click.open_file(name, encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name}: no UTF-8 text") from error
    found = _json_lines(text)
    if found is None:
        try:
            value, _ = load(text, name)
        except YamlError as error:
            raise click.UsageError(str(error)) from error
        found = value if isinstance(value, list) else [value]
    for number, event in enumerate(found, 1):
        good = isinstance(event, dict) and isinstance(event.get("tag"), str)
        if not good or not isinstance(event.get("data", {}), dict):
            raise click.UsageError(
                f'{name}: event {number}: an event is {{"tag": "...", "data": {{...}}}}'
            )
    return found


def _json_lines(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            return None
    return value if isinstance(value, list) else [value]


def _journal(settings: Settings, since: str) -> Iterator[dict[str, Any]]:
    from bus.errors import WireError
    from bus.record import Event
    from bus.since import resolve_since
    from reactor.cli.lookup import Reactor

    with Reactor(settings.master()).journal() as journal:
        after = resolve_since(since, journal, name="--since")
        for seq, raw in journal.scan(max(0, after - 1) if since.isdecimal() else after):
            try:
                event = Event.from_wire(raw, seq)
            except WireError:
                continue
            yield {"tag": event.tag, "data": event.data, "seq": seq, "at": event.stamp}


def _show(
    settings: Settings,
    paths: tuple[Path, ...],
    globs: list[str],
    events: Any,
    takes: str,
    *,
    as_json: bool,
) -> int:
    from bus import wire
    from bus.record import Event
    from reactor.cli.check import load
    from reactor.rules.rehearsing import Durations
    from reactor.rules.simulating import Simulation
    from reactor.testing import START, load_rules, moment

    opts = settings.master()
    names = [str(path) for path in paths]
    roots = {name: list(folders) for name, folders in opts["file_roots"].items()}
    snapshot = load_rules(names, globs or ["*"], roots) if paths else load(opts, ())
    simulation = Simulation(snapshot, None, START.timestamp(), takes=Durations.read(takes))
    shown: list[dict[str, Any]] = []
    for number, given in enumerate(events, 1):
        at = moment(given.get("at") or given.get("data", {}).get(wire.STAMP) or 0, START)
        data = {wire.STAMP: wire.stamp(at), **given.get("data", {})}
        event = Event(given["tag"], data, given.get("seq", number), "test")
        found = [one.describe() for one in simulation.event(event, at.timestamp())]
        shown.append({"event": {"tag": event.tag, "seq": event.seq}, "rules": found})
        if not as_json:
            _show_event(event, found, snapshot)
    after = [one.describe() for one in simulation.finish()]
    if after and not as_json:
        click.secho("when its turn comes", bold=True)
        _show_outcomes(after, 0)
    for problem in snapshot.problems:
        click.echo(f"reactor: {output.safe(str(problem))}", err=True)
    if as_json:
        click.echo(output.as_json({"events": shown, "after": after}))
    failed = any(rule["error"] for one in [*shown, {"rules": after}] for rule in one["rules"])
    return 1 if failed or snapshot.problems else 0


def _show_event(event: Any, found: list[dict[str, Any]], snapshot: Any) -> None:
    from reactor.engine.explaining import others

    click.secho(output.safe(f"{event.seq}  {event.tag}"), bold=True)
    _show_outcomes(found, event.seq)
    if not found:
        click.echo("  no rule matches")
        for near in others(event.tag, snapshot)["near"]:
            text = f"    nearly {near['rule']}: on {near['pattern']}: {near['why']}"
            click.echo(output.safe(text))


def _show_outcomes(found: list[dict[str, Any]], seq: int) -> None:
    """Print what became of events: of the one of this number, and of what waited till then."""
    from reactor.cli.telling import call_lines

    for one in found:
        other = one["event"]["seq"]
        rule = one["rule"] if other == seq else f"{one['rule']}, for event {other}"
        if one["error"]:
            click.secho(output.safe(f"  {rule}: fails: {one['error']}"), fg="red")
        elif not one["calls"]:
            why = one["why"] or "it has nothing to do"
            click.secho(output.safe(f"  {rule}: {why}  ({one['source']})"), fg="yellow")
            for text, _ in call_lines(one.get("unbegun", ())):
                click.echo(output.safe(f"      not begun: {text}"))
        else:
            click.secho(output.safe(f"  {rule}: would run  ({one['source']})"), fg="green")
            for text, _ in call_lines(one["calls"]):
                click.echo(output.safe(f"      {text}"))


# -- expectations -------------------------------------------------------------------------------


def _expectations(settings: Settings, paths: tuple[Path, ...], *, as_json: bool) -> int:
    from reactor.suites import run_file

    files = list(_test_files(settings, paths))
    if not files:
        raise click.ClickException(
            "there are no *.test.yaml beside these rules: write one, or name events with --events "
            "or --since"
        )
    results = [result for file in files for result in run_file(file)]
    failed = [result for result in results if result["failures"]]
    if as_json:
        click.echo(output.as_json({"tests": results, "failed": len(failed)}))
        return 1 if failed else 0
    for result in results:
        _show_result(result)
    click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _show_result(result: Mapping[str, Any]) -> None:
    mark = click.style("FAIL", fg="red") if result["failures"] else click.style("ok  ", fg="green")
    click.echo(f"{mark}  {output.safe(result['name'])}  ({output.safe(result['source'])})")
    for failure in result["failures"]:
        click.echo(f"        {output.safe(failure)}")


def _test_files(settings: Settings, paths: tuple[Path, ...]) -> Iterator[Path]:
    wanted = list(paths) or [Path(path) for path in settings.master()["rules"]]
    for path in wanted:
        if path.is_dir():
            yield from sorted(
                file for file in path.rglob("*.test.y*ml") if file.name.endswith(_SUFFIXES)
            )
        elif path.name.endswith(_SUFFIXES):
            yield path
        else:
            beside = (path.with_name(path.stem + suffix) for suffix in _SUFFIXES)
            yield from (file for file in beside if file.is_file())
