"""``reactor cmd``: runs a function on minions and shows each return as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from bus.client import LocalClient

NOBODY = 2
"""The exit status when no minion is targeted: what was asked for cannot be meant."""

_TYPES = (
    ("-L", "--list", "list", "TGT is a list of ids: web1,web2."),
    ("-E", "--pcre", "pcre", "TGT is a regular expression."),
    ("-G", "--grain", "grain", "TGT is a grain and a glob: os:Debian."),
    ("-C", "--compound", "compound", "TGT is a compound expression: G@os:Debian and web*."),
    ("-N", "--nodegroup", "nodegroup", "TGT is the name of a nodegroup."),
    ("-S", "--ipcidr", "ipcidr", "TGT is an address or a network: 10.0.0.0/8."),
)


def _with_types(function: Any) -> Any:
    for short, long, kind, text in reversed(_TYPES):
        option = click.option(short, long, "tgt_type", flag_value=kind, help=text)
        function = option(function)
    return function


@click.command(
    "cmd",
    cls=Command,
    example="reactor cmd '*' test.ping\n"
    "reactor cmd -G os:Debian cmd.run 'uptime' --timeout 10\n"
    "reactor cmd minionname event.fire '{\"data\": \"...\"}' 'customtag/african/unladen'",
)
@click.argument("tgt")
@click.argument("fun")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@_with_types
@click.option("--async", "is_async", is_flag=True, help="Print the job id and do not wait.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0), help="Seconds to wait for returns.")
@click.option("-b", "--batch", metavar="N|P%", help="Run on so many minions at a time.")
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
    batch: str | None,
    as_json: bool,
) -> None:
    """Run a function on minions.

    TGT is a glob unless an option says otherwise.

    The exit status is 0 only if every minion answered with success, and 2 if TGT means none.
    With --json: {"web1": {"return": true, "retcode": 0, "success": true}}.
    """
    from bus import cliargs
    from bus.client import LocalClient

    if is_async and batch:
        raise click.UsageError("--async and --batch: a batch has to be waited for, choose one", ctx)
    settings = ctx.ensure_object(Settings)
    positional, keyword = cliargs.parse(args)
    job = {"fun": fun, "arg": positional, "kwarg": keyword}
    with LocalClient(mopts=settings.master()) as client:
        run = Run(client, tgt, tgt_type or "glob", job, timeout, as_json=as_json)
        if is_async:
            status = run.without_waiting()
        else:
            status = run.in_batches(batch) if batch else run.at_once()
    ctx.exit(status)


class Run:
    """One run of a function, and what it shows.

    Args:
        client: sends the job.
        tgt: which minions.
        tgt_type: how ``tgt`` is read.
        job: ``fun``, ``arg`` and ``kwarg``.
        timeout: seconds to wait for returns; None for the option ``timeout``.
        as_json: show one JSON document at the end.
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
    ) -> None:
        self._client = client
        self._tgt = tgt
        self._tgt_type = tgt_type
        self._job = job
        self._timeout = timeout
        self._as_json = as_json
        self._returns: dict[str, Any] = {}
        self._failed = False

    def without_waiting(self) -> int:
        """Send the job and show its id."""
        pub = self._publish(self._tgt, self._tgt_type)
        if not pub["minions"]:
            return self._nobody()
        if self._as_json:
            self._print_json({"jid": pub["jid"], "minions": pub["minions"]})
        else:
            click.echo(f"job {pub['jid']}: see 'reactor jobs show {pub['jid']}'")
        return 0

    def at_once(self) -> int:
        """Send the job, show each return as it comes, then who did not answer."""
        self._client.listen()
        pub = self._publish(self._tgt, self._tgt_type)
        if not pub["minions"]:
            return self._nobody()
        self._show_returns(pub)
        return self._finish(pub["minions"], pub["missing"])

    def in_batches(self, batch: str) -> int:
        """Send the job to a part of the minions at a time."""
        minions = self._client.match(self._tgt, self._tgt_type)
        size = _batch_size(batch, len(minions))
        if not minions:
            return self._nobody()
        missing: list[str] = []
        self._client.listen()
        for start in range(0, len(minions), size):
            pub = self._publish(minions[start : start + size], "list")
            missing += pub["missing"]
            self._show_returns(pub)
        return self._finish(minions, missing)

    def _publish(self, tgt: str | list[str], tgt_type: str) -> dict[str, Any]:
        return self._client.run_job(tgt, tgt_type=tgt_type, **self._job)

    def _show_returns(self, pub: Mapping[str, Any]) -> None:
        try:
            for answer in self._client.get_returns_iter(pub, self._timeout):
                for minion, data in answer.items():
                    self._take(minion, data)
        except KeyboardInterrupt:
            click.echo(
                f"reactor: the job goes on: see 'reactor jobs show {pub['jid']}', or end it with "
                f"'reactor cmd TGT saltutil.kill_job {pub['jid']}'",
                err=True,
            )
            raise

    def _take(self, minion: str, data: Mapping[str, Any]) -> None:
        from reactor.cli import output

        value, failed = data.get("return"), output.failure(data)
        self._returns[minion] = {
            "return": value,
            "retcode": data.get("retcode", 0),
            "success": not failed,
        }
        self._failed |= bool(failed)
        if not self._as_json:
            output.show_return(minion, value, failed)

    def _finish(self, minions: Iterable[str], missing: Iterable[str]) -> int:
        if self._as_json:
            self._print_json(self._returns)
        unknown = self._unknown(minions)
        for name in unknown:
            click.echo(f"reactor: {name} is no accepted minion: see 'reactor key list'", err=True)
        silent = sorted(set(minions) - set(self._returns))
        for minion in silent:
            why = "is not connected" if minion in set(missing) else "did not answer in time"
            click.echo(f"reactor: {minion} {why}", err=True)
        return 1 if silent or unknown or self._failed else 0

    def _unknown(self, minions: Iterable[str]) -> list[str]:
        """Return the names of a list that no minion has."""
        if self._tgt_type != "list":
            return []
        named = {name.strip() for name in self._tgt.split(",")} - {""}
        return sorted(named - set(minions))

    def _nobody(self) -> int:
        if self._as_json:
            self._print_json({})
        click.echo(
            f"reactor: no minion matches {self._tgt!r} as {self._tgt_type}: "
            "see 'reactor key list' for those that are accepted",
            err=True,
        )
        return NOBODY

    def _print_json(self, value: Any) -> None:
        from reactor.cli import output

        click.echo(output.as_json(value))


def _batch_size(batch: str, count: int) -> int:
    from bus.client import batch_size
    from bus.errors import TargetError

    try:
        return batch_size(batch, count)
    except TargetError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error
