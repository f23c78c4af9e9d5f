"""``reactor cmd``: runs a function on minions and shows each return as it comes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bus.errors import BusError
from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from bus.client import LocalClient
    from bus.returns import Following

NOBODY = 2
"""The exit status when no minion is targeted: what was asked for cannot be meant."""

_PROGRESS_SECONDS = 0.5

_TYPES = (
    ("-L", "--list", "list", "TGT is a list of ids: web1,web2."),
    ("-E", "--pcre", "pcre", "TGT is a regular expression."),
    ("-G", "--grain", "grain", "TGT is a grain and a glob: os:Debian."),
    (
        "-P",
        "--grain-pcre",
        "grain_pcre",
        "TGT is a grain and a regular expression: os:(Arch|Debian).",
    ),
    ("-C", "--compound", "compound", "TGT is a compound expression: G@os:Debian and web*."),
    ("-N", "--nodegroup", "nodegroup", "TGT is the name of a nodegroup."),
    ("-S", "--ipcidr", "ipcidr", "TGT is an address or a network: 10.0.0.0/8."),
)


def _with_types(function: Any) -> Any:
    for short, long, kind, text in reversed(_TYPES):
        option = click.option(
            short,
            long,
            f"is_{kind}",
            is_flag=True,
            expose_value=False,
            callback=functools.partial(_choose_type, kind),
            help=text,
        )
        function = option(function)
    return function


def _choose_type(kind: str, ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    """Take one type of target, and refuse a second one."""
    chosen = ctx.params.setdefault("tgt_type", None)
    if given and chosen:
        names = ", ".join(short for short, _, name, _ in _TYPES if name in (chosen, kind))
        raise click.UsageError(f"TGT has one type, not two: {names}", ctx)
    if given:
        ctx.params["tgt_type"] = kind


@click.command(
    "cmd",
    cls=Command,
    example="reactor cmd '*' test.ping\n"
    "reactor cmd -G os:Debian cmd.run 'uptime' --timeout 10\n"
    "reactor cmd '*' pkg.upgrade --batch 10% --failhard\n"
    "reactor cmd '*' test.ping,cmd.run , uptime\n"
    "reactor cmd minionname event.fire '{\"data\": \"...\"}' 'customtag/african/unladen'",
)
@click.argument("tgt")
@click.argument("fun")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_with_types
@click.option("--async", "is_async", is_flag=True, help="Print the job id and do not wait.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0), help="Seconds to wait for returns.")
@click.option(
    "--job-timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a minion ends the job; by default its option job_timeout.",
)
@click.option(
    "-b", "--batch", metavar="N|P%", help="Run on so many minions at a time: one done, one begins."
)
@click.option("--failhard", is_flag=True, help="With --batch: begin no more once one has failed.")
@click.option(
    "--subset", type=click.IntRange(min=1), help="Run on so many of the connected, at random."
)
@click.option(
    "--summary/--no-summary",
    default=None,
    help="End with a line that counts the returns; on a terminal it is there by itself.",
)
@click.option(
    "--args-separator",
    default=",",
    show_default=True,
    help="Between the arguments of two functions.",
)
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    tgt: str,
    fun: str,
    args: tuple[str, ...],
    tgt_type: str | None,
    is_async: bool,
    timeout: float | None,
    job_timeout: float | None,
    batch: str | None,
    failhard: bool,
    subset: int | None,
    summary: bool | None,
    args_separator: str,
    as_json: bool,
) -> None:
    """Run a function on minions.

    TGT is a glob unless an option says otherwise. FUN may be several, with commas between them and
    between their arguments: each minion runs one after the other.

    The exit status is 0 only if every minion answered with success, and 2 if TGT means none.
    With --json: {"web1": {"return": true, "retcode": 0, "success": true}}.
    """
    from bus.client import LocalClient

    if is_async and batch:
        raise click.UsageError("--async and --batch: a batch has to be waited for, choose one", ctx)
    if failhard and not batch:
        raise click.UsageError("--failhard is for batches: give --batch too", ctx)
    settings = ctx.ensure_object(Settings)
    job = {**_calls(fun, args, args_separator), "job_timeout": job_timeout}
    with LocalClient(mopts=settings.master()) as client:
        run = Run(
            client, tgt, tgt_type or "glob", job, timeout,
            as_json=as_json, summary=_wants_summary(summary, as_json=as_json),
        )  # fmt: skip
        if subset:
            run.choose(subset)
        if is_async:
            status = run.without_waiting()
        else:
            status = run.in_batches(batch, failhard=failhard) if batch else run.at_once()
    ctx.exit(status)


def _calls(fun: str, args: Sequence[str], separator: str) -> dict[str, Any]:
    """Return what the command line says to run, as `LocalClient` takes it."""
    from bus import cliargs

    names = [name.strip() for name in fun.split(",")]
    if len(names) == 1:
        positional, keyword = cliargs.parse(args)
        return {"fun": fun, "arg": positional, "kwarg": keyword}
    groups = cliargs.split(args, len(names), separator)
    return {"fun": names, "arg": [cliargs.condense(*cliargs.parse(group)) for group in groups]}


def _wants_summary(asked: bool | None, *, as_json: bool) -> bool:
    if asked is not None:
        return asked
    return not as_json and sys.stdout.isatty()


class Run:
    """One run of a function, and what it shows.

    Args:
        client: sends the job.
        tgt: which minions.
        tgt_type: how ``tgt`` is read.
        job: ``fun``, ``arg`` and ``kwarg``.
        timeout: seconds to wait for returns; None for the option ``timeout``.
        as_json: show one JSON document at the end.
        summary: end with a line, on standard error, that counts the returns.
    """

    def __init__(
        self,
        client: LocalClient,
        tgt: str,
        tgt_type: str,
        job: Mapping[str, Any],
        timeout: float | None,
        *,
        as_json: bool,
        summary: bool = False,
    ) -> None:
        self._client = client
        self._named = tgt
        self._tgt: str | list[str] = tgt
        self._tgt_type = tgt_type
        self._job = job
        self._timeout = timeout
        self._as_json = as_json
        self._summary = summary
        self._returns: dict[str, Any] = {}

    def choose(self, count: int) -> None:
        """Mean only some of the connected minions from now on, chosen at random."""
        chosen = self._client.choose(self._tgt, count, self._tgt_type)
        self._tgt, self._tgt_type = chosen, "list"

    def without_waiting(self) -> int:
        """Send the job and show its id."""
        pub = self._client.run_job(self._tgt, tgt_type=self._tgt_type, **self._job)
        if not pub["minions"]:
            return self._nobody()
        if self._as_json:
            self._print_json({"jid": pub["jid"], "minions": pub["minions"]})
        else:
            click.echo(f"job {pub['jid']}: see 'reactor jobs show {pub['jid']}'")
        return 0

    def at_once(self) -> int:
        """Send the job, show each return as it comes, then who did not answer."""
        answers = self._client.follow(
            self._tgt, timeout=self._timeout, tgt_type=self._tgt_type, **self._job
        )
        minions = set(answers.silent) | answers.minions
        if not minions:
            return self._nobody()
        self._show_returns(answers, len(minions))
        return self._finish(minions, answers.silent)

    def in_batches(self, batch: str, *, failhard: bool = False) -> int:
        """Send the job to so many minions at a time; as one is done, the next begins."""
        minions = self._client.match(self._tgt, self._tgt_type)
        _batch_size(batch, len(minions))
        if not minions:
            return self._nobody()
        answers = self._client.follow_batch(
            minions, timeout=self._timeout, tgt_type="list", batch=batch, failhard=failhard,
            **self._job,
        )  # fmt: skip
        self._show_returns(answers, len(minions))
        return self._finish(minions, answers.silent)

    def _show_returns(self, answers: Following, total: int) -> None:
        progress = Progress(total)
        try:
            while not answers.over:
                answer = answers.step(progress.pause)
                if answer is None:
                    progress.show(len(self._returns))
                    continue
                progress.clear()
                for minion, data in answer.items():
                    self._take(minion, data)
        except KeyboardInterrupt:
            progress.clear()
            jid = answers.jids[-1] if answers.jids else ""
            click.echo(
                f"reactor: the job goes on: see 'reactor jobs show {jid}', or end it with "
                f"'reactor jobs kill {jid}'",
                err=True,
            )
            raise
        except BusError:
            # The master is gone; what has come is shown all the same.
            if self._as_json:
                self._print_json(self._returns)
            raise
        finally:
            progress.clear()

    def _take(self, minion: str, data: Mapping[str, Any]) -> None:
        from reactor.cli import output

        value, failed = data.get("return"), output.failure(data)
        self._returns[minion] = {
            "return": value,
            "retcode": data.get("retcode", 0),
            "success": not failed,
        }
        if not self._as_json:
            output.show_return(minion, value, failed)

    def _finish(self, minions: Iterable[str], silent: Mapping[str, str]) -> int:
        from reactor.cli import output

        if self._as_json:
            self._print_json(self._returns)
        unknown = self._unknown(minions)
        for name in unknown:
            click.echo(f"reactor: {name} is no accepted minion: see 'reactor key list'", err=True)
        left = {minion: silent.get(minion, "did not answer") for minion in minions}
        left = {one: why for one, why in sorted(left.items()) if one not in self._returns}
        for minion, why in left.items():
            click.echo(f"reactor: {output.safe(f'{minion} {why}')}", err=True)
        failed = sum(not ret["success"] for ret in self._returns.values())
        if self._summary:
            click.echo(summary_line(len(self._returns), failed, len(left)), err=True)
        return 1 if left or unknown or failed else 0

    def _unknown(self, minions: Iterable[str]) -> list[str]:
        """Return the names of a list that no minion has."""
        if self._tgt_type != "list" or not isinstance(self._tgt, str):
            return []
        from bus import targets

        return sorted(set(targets.list_words(self._tgt)) - set(minions))

    def _nobody(self) -> int:
        if self._as_json:
            self._print_json({})
        if self._tgt == []:
            text = f"no minion that {self._named!r} means is connected: see 'reactor status'"
        else:
            text = (
                f"no minion matches {self._named!r} as {self._tgt_type}: "
                "see 'reactor key list' for those that are accepted"
            )
        click.echo(f"reactor: {text}", err=True)
        return NOBODY

    def _print_json(self, value: Any) -> None:
        from reactor.cli import output

        click.echo(output.as_json(value))


def summary_line(returned: int, failed: int, silent: int) -> str:
    """Return the last line of a run in words.

    >>> summary_line(3, 1, 2)
    '5 minions: 3 returned (1 failed), 2 did not answer'
    """
    total = returned + silent
    minions = "1 minion" if total == 1 else f"{total} minions"
    return f"{minions}: {returned} returned ({failed} failed), {silent} did not answer"


class Progress:
    """A line on the terminal that says how many have answered; nothing where there is none.

    Args:
        total: how many are to answer.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._on = sys.stderr.isatty()
        self._shown = ""

    @property
    def pause(self) -> float | None:
        """Seconds to wait for an answer before there is something to show."""
        return _PROGRESS_SECONDS if self._on else None

    def show(self, answered: int) -> None:
        """Say how many have answered."""
        text = f"{answered} of {self._total} minions have answered"
        if self._on and text != self._shown:
            self._shown = text
            self._write(f"\r{text} ...\x1b[K")

    def clear(self) -> None:
        """Take the line away, so that something else can stand there."""
        if self._shown:
            self._shown = ""
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _batch_size(batch: str, count: int) -> int:
    from bus.errors import TargetError
    from bus.returns import batch_size

    try:
        return batch_size(batch, count)
    except TargetError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error
