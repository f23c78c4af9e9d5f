"""``reactor check``: reads rules without running them, and says what is wrong."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, require_directory, with_json, without_log

if TYPE_CHECKING:
    from bus.config import Opts
    from reactor.rules.findings import Finding
    from reactor.rules.snapshot import Snapshot

_ASK_SECONDS = 1.0


@click.command(
    "check",
    cls=Command,
    example="reactor check\nreactor check rules/ reactors/start.sls\n"
    "reactor check --schema > rules.schema.json",
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True), metavar="[PATH]...")
@click.option(
    "--minion", "is_minion", is_flag=True, help="They are the rules of a minion's own reactor."
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of native rule files.")
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    is_minion: bool,
    strict: bool,
    schema: bool,
    as_json: bool,
) -> None:
    """Check rules without running them.

    By default those of the configuration: the master's, or where there is only a minion's,
    that one's. In PATH, *.sls are Salt's reactor files; of those in a folder that no map there
    names only the syntax is checked. Each line is FILE:LINE:COLUMN: error or warning, and what is
    wrong.

    The exit status is 0 if there is no error, 1 if there is one, 2 for a wrong use.
    """
    if schema:
        _print_schema()
        return
    from reactor.cli.checking import (
        findings,
        in_order,
        syntax_findings,
        unnamed_files,
        warning_findings,
    )

    role, opts = _role(ctx.ensure_object(Settings), is_minion=is_minion)
    if not paths:
        require_directory(opts)
    snapshot = load(opts, paths, role)
    running = _ask_what_runs(opts, role)
    aside = unnamed_files(_absolute(paths) or opts["rules"], str(opts["config_dir"]), snapshot)
    if paths:
        _say_what_nothing_names(aside)
    else:
        _say_what_else_runs(running, opts)
    # What was added for this run only, minions have too.
    opts = opts.with_(file_roots=running.get("file_roots", opts["file_roots"]))
    found = findings(snapshot, opts, () if paths else opts["reactor"], role)
    for files in aside.values():
        found += syntax_findings(files)
    found = in_order(found if paths else [*found, *warning_findings(snapshot)])
    errors = [one for one in found if strict or one.severity == "error"]
    if as_json:
        click.echo(output.as_json(_document(snapshot, found)))
    else:
        for one in found:
            click.echo(output.safe(str(one)))
    if errors:
        click.echo(f"reactor: {_counted(len(errors), 'problem')} in the rules: see above", err=True)
        ctx.exit(1)
    if not as_json:
        warned = f", {_counted(len(found), 'warning')}" if found else ""
        click.echo(f"{_counted(len(snapshot.rules), 'rule')}, no problems{warned}")


def _print_schema() -> None:
    import json

    from reactor.rules.validation import load_schema

    click.echo(json.dumps(load_schema(), indent=2))


def _role(settings: Settings, *, is_minion: bool) -> tuple[str, Opts]:
    """Return whose rules are checked, and the options of that one."""
    if is_minion:
        return "minion", settings.minion(strict=True)
    opts = settings.master(strict=True)
    folder = Path(opts["config_dir"])
    only_minion = (folder / "minion").exists() and not (
        (folder / "master").exists() or (folder / "master.d").exists()
    )
    return ("minion", settings.minion(strict=True)) if only_minion else ("master", opts)


def _say_what_nothing_names(aside: Mapping[str, Sequence[str]]) -> None:
    """Name the folders with reactor files that no map in them names: they may be of other maps."""
    for folder, files in aside.items():
        click.echo(
            f"reactor: of {_counted(len(files), 'reactor file')} (*.sls) in {output.safe(folder)} "
            "that no map there names only the syntax was checked: for the rest name "
            f"{'it' if len(files) == 1 else 'them'}, as in 'reactor check {output.safe(files[0])}'"
            ", or the map",
            err=True,
        )


def _ask_what_runs(opts: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """Return what the running reactor says of itself; nothing if none runs, for none is needed."""
    from bus import endpoints, rpc
    from bus.errors import BusError

    address = (endpoints.minion_reactor if role == "minion" else endpoints.master_reactor)(opts)
    try:
        status: Mapping[str, Any] = rpc.call(address, "status", timeout=_ASK_SECONDS)
    except BusError:
        return {}
    return status


def _say_what_else_runs(status: Mapping[str, Any], opts: Mapping[str, Any]) -> None:
    """Name what no rule file knows: what runs for this run only, and what is switched off."""
    for text in status.get("off", ()):
        click.echo(f"reactor: {output.safe(text)}: 'reactor rules enable' ends it", err=True)
    extra = [path for path in status.get("paths", ()) if path not in opts["rules"]]
    if extra:
        click.echo(
            f"reactor: the running reactor also loads {', '.join(extra)}, which is not checked "
            f"here: reactor check {shlex.join(extra)}",
            err=True,
        )


def load(opts: Mapping[str, Any], paths: Sequence[str], role: str = "master") -> Snapshot:
    """Load the rules of ``opts``, or those in ``paths``."""
    from bus.config import master_config, minion_config
    from reactor.engine.sources import ConfiguredRules
    from reactor.rules.loading import RuleSet

    if not paths:
        read = minion_config if role == "minion" else master_config
        with without_log():
            return ConfiguredRules(opts, read).load()
    absolute = _absolute(paths)
    salt = [path for path in absolute if path.endswith(".sls")]
    rules = RuleSet(
        # A reactor file says nothing of tags, so any will do.
        reactor_map=[{"*": salt}] if salt else [],
        rules=[path for path in absolute if path not in salt],
        file_roots=opts["file_roots"],
        conf_dir=str(Path.cwd()),
    )
    with without_log():
        return rules.load()


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _document(snapshot: Snapshot, found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "rules": len(snapshot.rules),
        "problems": [dataclasses.asdict(one) for one in found],
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
