"""``reactor check``: reads rules without running them, and says what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from reactor.rules.snapshot import Problem, Snapshot

_ASK_SECONDS = 1.0


@click.command(
    "check",
    cls=Command,
    example="reactor check\nreactor check rules/ reactors/start.sls",
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True), metavar="[PATH]...")
@with_json
@click.pass_context
def command(ctx: click.Context, paths: tuple[str, ...], as_json: bool) -> None:
    """Check rules without running them.

    By default those of the configuration; in PATH, *.sls are Salt's reactor files.
    """
    opts = ctx.ensure_object(Settings).master()
    snapshot = load(opts, paths)
    if not paths:
        _say_what_else_runs(opts)
    if as_json:
        click.echo(output.as_json(_document(snapshot)))
    else:
        for problem in snapshot.problems:
            click.echo(output.safe(str(problem)))
    count = len(snapshot.problems)
    if count:
        click.echo(f"reactor: {_counted(count, 'problem')} in the rules: see above", err=True)
        ctx.exit(1)
    if not as_json:
        click.echo(f"{_counted(len(snapshot.rules), 'rule')}, no problems")


def _say_what_else_runs(opts: Mapping[str, Any]) -> None:
    """Name what a running reactor was given for its run only, and no file knows."""
    from bus import endpoints, rpc
    from bus.errors import BusError

    try:
        status = rpc.call(endpoints.master_reactor(opts), "status", timeout=_ASK_SECONDS)
    except BusError:
        return  # none runs here, and checking needs none
    extra = [path for path in status.get("paths", ()) if path not in opts["rules"]]
    if extra:
        click.echo(
            f"reactor: the running reactor also loads {', '.join(extra)}, which is not checked "
            f"here: reactor check {shlex.join(extra)}",
            err=True,
        )


def load(opts: Mapping[str, Any], paths: Sequence[str]) -> Snapshot:
    """Load the rules of ``opts``, or those in ``paths``."""
    from reactor.engine.sources import ConfiguredRules
    from reactor.rules.loading import RuleSet

    if not paths:
        return ConfiguredRules(opts).load()
    absolute = [str(Path(path).absolute()) for path in paths]
    salt = [path for path in absolute if path.endswith(".sls")]
    rules = RuleSet(
        # A reactor file says nothing of tags, so any will do.
        reactor_map=[{"*": salt}] if salt else [],
        rules=[path for path in absolute if path not in salt],
        file_roots=opts["file_roots"],
        conf_dir=str(Path.cwd()),
    )
    return rules.load()


def _document(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "rules": len(snapshot.rules),
        "problems": [_described(problem) for problem in snapshot.problems],
    }


def _described(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.source.path,
        "line": problem.source.line,
        "message": problem.message,
        "kept": problem.kept,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
