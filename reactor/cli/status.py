"""``reactor status``: whether each part serves, and what it says of itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from reactor.cli import output
from reactor.cli.settings import Command, Settings, with_json

if TYPE_CHECKING:
    from bus.config import Opts

ASK_SECONDS = 1.0
_POLL = 0.1

Ask = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Part:
    """How one part does.

    Attributes:
        name: ``bus``, ``link``, ``reactor``, ``http`` or ``minion``.
        serves: whether it does what it is for.
        text: what a person is told.
        details: all that it says.
        is_needed: whether the whole serves only if this does.
    """

    name: str
    serves: bool
    text: str
    details: dict[str, Any] = field(default_factory=dict)
    is_needed: bool = True


@click.command(
    "status",
    cls=Command,
    example="reactor status\nreactor status --wait 10 && reactor fire my/tag '{a: 1}'",
)
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait until all serve."
)
@with_json
@click.pass_context
def command(ctx: click.Context, wait: float, as_json: bool) -> None:
    """Show whether all parts serve.

    The exit status is 0 only if bus, link, reactor and minion do. HTTP is shown, but a master
    does without it.

    A part counts if the configuration directory has its file, 'master' or 'minion'.
    """
    parts = _await(ctx.ensure_object(Settings), time.monotonic() + wait)
    if as_json:
        click.echo(output.as_json(_document(parts)))
    else:
        for part in parts:
            click.echo(_line(part))
    ctx.exit(0 if _all_serve(parts) else 1)


def _await(settings: Settings, deadline: float) -> list[Part]:
    """Look until all serve or the deadline, whichever is first.

    A directory that is not there yet is waited for too: `reactor up` may be making it.
    """
    from bus.errors import ConfigError

    while True:
        is_late = time.monotonic() >= deadline
        try:
            parts = look(settings)
        except ConfigError:
            if is_late:
                raise
        else:
            # HTTP need not serve, but if it is about to, it is waited for.
            is_settled = not any(part.details.get("starting") for part in parts)
            if is_late or (_all_serve(parts) and is_settled):
                return parts
        time.sleep(_POLL)


def look(settings: Settings) -> list[Part]:
    """Ask every part that the configuration has.

    Raises:
        ConfigError: the directory has neither a master nor a minion.
    """
    from bus.config import has_master, has_minion
    from bus.errors import ConfigError

    master = settings.master()
    parts: list[Part] = []
    if has_master(master.conf_dir):
        parts += _master_parts(master)
    if has_minion(master.conf_dir):
        parts.append(_minion_part(settings.minion()))
    if not parts:
        raise ConfigError(
            f"there is neither a master nor a minion in {master.conf_dir}: "
            "start in the folder of 'reactor up', or name the directory with --config"
        )
    return parts


def _master_parts(opts: Opts) -> list[Part]:
    from bus import endpoints

    return [
        _part("bus", endpoints.master_pull(opts), _of_bus),
        _part("link", endpoints.master_link(opts), _of_link),
        _reactor_part(opts),
        *_http_part(opts),
    ]


def _reactor_part(opts: Opts) -> Part:
    """Ask the active reactor, and who stands by."""
    from bus import endpoints, rpc
    from bus.errors import BusError

    part = _part("reactor", endpoints.master_reactor(opts), _of_reactor)
    others: list[dict[str, Any]] = []
    for address in endpoints.master_reactors(opts).values():
        # One that was killed has left its socket; one that is stopped does not answer.
        with contextlib.suppress(BusError):
            others.append(rpc.call(address, "leader", timeout=ASK_SECONDS))
    standing_by = [other for other in others if not other["active"]]
    if not standing_by:
        return part
    text = part.text if part.serves else "no reactor is active"
    text += f"; standing by: {', '.join(_standing_by(other) for other in standing_by)}"
    return replace(part, text=text, details={**part.details, "standing_by": standing_by})


def _standing_by(other: Mapping[str, Any]) -> str:
    told = "" if other.get("may_lead") else ", told not to lead"
    return f"{other['name']} (process {other['pid']}{told})"


def _http_part(opts: Opts) -> list[Part]:
    from bus import endpoints

    if not opts["http_port"]:
        return []
    part = _part("http", endpoints.master_http(opts), _of_http)
    return [replace(part, is_needed=False)]


def _minion_part(opts: Opts) -> Part:
    from bus import endpoints

    return _part("minion", endpoints.minion_pull(opts), _of_minion)


def _part(
    name: str, address: str, describe: Callable[[Mapping[str, Any]], tuple[bool, str]]
) -> Part:
    """Ask one part; what does not answer does not serve."""
    from bus import rpc
    from bus.errors import AnswerTimeoutError, BusError, NotRunningError

    try:
        details = rpc.call(address, "status", timeout=ASK_SECONDS)
    except NotRunningError:
        return Part(name, serves=False, text="is not running")
    except AnswerTimeoutError:
        text = f"runs, but gave no answer within {ASK_SECONDS:g} s: it is overloaded or stopped"
        return Part(name, serves=False, text=text)
    except BusError as error:
        return Part(name, serves=False, text=str(error))
    serves, text = describe(details)
    return Part(name, serves, text, dict(details))


def _of_bus(details: Mapping[str, Any]) -> tuple[bool, str]:
    text = f"serves; the last event is {details.get('last_seq', 0)}"
    counters = details.get("counters") or {}
    if counters.get("refused"):
        text += f", {counters['refused']} fires refused"
    if counters.get("dropped"):
        text += f", {counters['dropped']} events lost by slow listeners"
    behind = [one for one in details.get("slow_listeners", ()) if one["queued"]]
    if behind:
        text += f", the listener of process {behind[0]['pid']} is {behind[0]['queued']} behind"
    return True, text


def _of_link(details: Mapping[str, Any]) -> tuple[bool, str]:
    connected = details.get("connected")
    if connected is None:
        return True, "serves"
    count = connected if isinstance(connected, int) else len(connected)
    return True, f"serves; {count} connected"


def _of_reactor(details: Mapping[str, Any]) -> tuple[bool, str]:
    leader = (details.get("leader") or {}).get("leader") or {}
    named = leader.get("name", "reactor")
    who = f" as {named} (process {leader.get('pid')})" if named != "reactor" else ""
    text = f"serves{who}; {details.get('rules', 0)} rules"
    if details.get("switched_off"):
        text += f", {details['switched_off']} switched off"
    if details.get("problems"):
        text += f", {details['problems']} problems (see 'reactor rules')"
    if details.get("behind"):
        text += f", {details['behind']} events behind"
    return True, text


def _of_http(details: Mapping[str, Any]) -> tuple[bool, str]:
    if details.get("starting"):
        return False, f"is starting on {details.get('url', '')}"
    return True, f"serves on {details.get('url', '')}; {details.get('streams', 0)} event streams"


def _of_minion(details: Mapping[str, Any]) -> tuple[bool, str]:
    link = str(details.get("link", "unknown"))
    text = f"{details.get('id', '')}: {link}"
    spool = details.get("spool") or {}
    if spool.get("events"):
        text += f", {spool['events']} events in the spool"
    if spool.get("dropped"):
        text += f", {spool['dropped']} dropped from it"
    return link in ("connected", "disabled"), text


def _all_serve(parts: list[Part]) -> bool:
    return all(part.serves for part in parts if part.is_needed)


def _line(part: Part) -> str:
    mark = click.style("ok  ", fg="green") if part.serves else click.style("down", fg="red")
    return f"{mark}  {part.name:<8}  {output.safe(part.text)}"


def _document(parts: list[Part]) -> dict[str, Any]:
    return {
        "ok": _all_serve(parts),
        "parts": {
            part.name: {"ok": part.serves, "text": part.text, "details": part.details}
            for part in parts
        },
    }
