"""``reactor key``: which minions the master accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.asking import confirm, is_terminal
from reactor.cli.settings import Command, ListingGroup, Settings, shared_options, with_json

if TYPE_CHECKING:
    from pathlib import Path

_STATES = ("accepted", "pending", "rejected", "denied")

_CHOICES = {
    "accepted": "minions",
    "acc": "minions",
    "pending": "minions_pre",
    "pre": "minions_pre",
    "unaccepted": "minions_pre",
    "un": "minions_pre",
    "rejected": "minions_rejected",
    "rej": "minions_rejected",
    "denied": "minions_denied",
    "den": "minions_denied",
    "all": "",
}
"""What a person may call a state, Salt's words among them, and its folder."""

_SHOWN = 10

_COLOURS = {
    "minions": "green",
    "minions_pre": "yellow",
    "minions_rejected": "red",
    "minions_denied": "magenta",
}


command = ListingGroup(
    "key",
    params=shared_options(),
    help="List, accept, reject and delete the keys of minions.\n\n"
    "Example: reactor key accept 'web*'",
)


@command.command("list", cls=Command, example="reactor key list pending")
@click.argument("state", type=click.Choice(list(_CHOICES)), default="all")
@with_json
@click.pass_obj
def list_(settings: Settings, state: str, as_json: bool) -> None:
    """List the ids of minions by the state of their key."""
    from bus.keys import KeyStore
    from reactor.cli import output

    found: dict[str, list[str]] = KeyStore(settings.existing_master()["pki_dir"]).list()
    folder = _CHOICES[state]
    if folder:
        found = {folder: found[folder]}
    if as_json:
        click.echo(output.as_json(found))
        return
    for name, ids in found.items():
        click.echo(f"{_spoken(name)}:")
        for ident in ids:
            click.secho(f"    {output.safe(ident)}", fg=_COLOURS[name])


def _spoken(folder: str) -> str:
    from bus.keys import FOLDERS

    return next(state for state, name in FOLDERS.items() if name == folder).capitalize()


def _changing(function: Any) -> Any:
    """Give a command what the commands that change keys share."""
    for option in (
        click.argument("globs", nargs=-1, metavar="[GLOB]..."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("-A", "--all", "everybody", is_flag=True, help="The same as '*'."),
        with_json,
        click.pass_context,
    )[::-1]:
        function = option(function)
    return function


@command.command("accept", cls=Command, example="reactor key accept web1\nreactor key accept -A -y")
@_changing
@click.option("--include-rejected", is_flag=True, help="Rejected keys too.")
@click.option("--include-denied", is_flag=True, help="Denied keys too: they replace the old ones.")
def accept(ctx: click.Context, include_rejected: bool, include_denied: bool, **common: Any) -> None:
    """Accept pending keys."""
    states = ["pending", *_more(rejected=include_rejected, denied=include_denied)]
    options = {"include_rejected": include_rejected, "include_denied": include_denied}
    _change(ctx, "accept", states, options, **common)


@command.command("reject", cls=Command, example="reactor key reject 'test*'")
@_changing
@click.option("--include-accepted", is_flag=True, help="Accepted keys too.")
@click.option("--include-denied", is_flag=True, help="Denied keys too.")
def reject(ctx: click.Context, include_accepted: bool, include_denied: bool, **common: Any) -> None:
    """Reject pending keys; their minions are told so, and may not connect."""
    states = ["pending", *_more(accepted=include_accepted, denied=include_denied)]
    options = {"include_accepted": include_accepted, "include_denied": include_denied}
    _change(ctx, "reject", states, options, **common)


@command.command("delete", cls=Command, example="reactor key delete web1")
@_changing
def delete(ctx: click.Context, **common: Any) -> None:
    """Delete keys, in whatever state; a minion that comes again is pending."""
    _change(ctx, "delete", _STATES, {}, **common)


@command.command("gen", cls=Command, example="reactor key gen web1 --dir web1-pki")
@click.argument("ident", metavar="ID")
@click.option("--dir", "folder", metavar="DIR", help="Where to put the files; by default ./ID.")
@click.option("--no-accept", is_flag=True, help="Do not accept the key on this master.")
@with_json
@click.pass_context
def gen(ctx: click.Context, ident: str, folder: str | None, no_accept: bool, as_json: bool) -> None:
    """Make the key of a new minion and accept it, before the minion comes.

    Copy minion.pem and minion_master.pub into the minion's pki_dir.
    """
    from pathlib import Path

    from bus.keys import Keypair, check_minion_id, fingerprint
    from reactor.cli import output

    opts = ctx.ensure_object(Settings).existing_master()
    place = Path(folder or check_minion_id(ident))
    check_minion_id(ident)
    pair = Keypair.create(place, "minion")
    if not no_accept:
        _accept_made(opts, ident, pair.public, place)
    files = [str(place / "minion.pem"), str(place / "minion.pub")]
    files += _copy_of_masters_key(opts, place)
    found = {"id": ident, "finger": fingerprint(pair.public), "files": files}
    if as_json:
        click.echo(output.as_json({**found, "accepted": not no_accept}))
        return
    click.echo(f"{'made' if no_accept else 'made and accepted'}: {ident}  {found['finger']}")
    for file in files:
        click.echo(f"    {output.safe(file)}")
    if len(files) < 3:
        click.echo("reactor: this master has no key yet: start it once", err=True)


def _accept_made(opts: Mapping[str, Any], ident: str, public: bytes, place: Path) -> None:
    """Accept a key that was just made; the files do not stay if that fails."""
    from bus.client import WheelClient
    from bus.errors import BusError

    client = WheelClient(opts)
    try:
        client.cmd("key.add", [ident, public.decode()])
    except BusError:
        for name in ("minion.pem", "minion.pub"):
            (place / name).unlink(missing_ok=True)
        raise
    finally:
        client.close()


def _copy_of_masters_key(opts: Mapping[str, Any], place: Path) -> list[str]:
    from pathlib import Path

    from bus.keys import read_public, write_public
    from bus.link.trust import PINNED

    own = read_public(Path(opts["pki_dir"], "master.pub"))
    if own is None:
        return []
    write_public(place / PINNED, own)
    return [str(place / PINNED)]


def _more(**wanted: bool) -> list[str]:
    return [state for state, is_wanted in wanted.items() if is_wanted]


def _change(
    ctx: click.Context,
    act: str,
    states: Sequence[str],
    options: Mapping[str, bool],
    *,
    globs: tuple[str, ...],
    yes: bool,
    everybody: bool,
    as_json: bool,
) -> None:
    """Ask, change, and show what has changed."""
    if everybody == bool(globs):
        raise click.UsageError(f"name ids or globs to {act}, or --all for every one", ctx)
    opts = ctx.ensure_object(Settings).existing_master()
    meant = matching(opts, states, globs or ("*",))
    if not meant:
        _fail(ctx, _none_meant(opts, act, states, options, globs or ("*",)))
    if not yes and not _is_meant(globs):
        _confirm(ctx, act, shown_keys(opts, states, meant))
    _show(act, _apply(opts, act, meant, options), as_json=as_json)


def _none_meant(
    opts: Mapping[str, Any],
    act: str,
    states: Sequence[str],
    options: Mapping[str, bool],
    globs: Sequence[str],
) -> str:
    """Say that no key is meant, and which option would mean some."""
    from reactor.cli import output

    where = "" if act == "delete" else f" {' or '.join(states)}"
    found = f"no{where} key matches {output.safe(' '.join(globs))}"
    left_out = [name.removeprefix("include_") for name, given in options.items() if not given]
    there = [state for state in left_out if matching(opts, [state], globs)]
    if not there:
        return f"{found}: see 'reactor key list'"
    needed = " ".join(f"--include-{state}" for state in there)
    return f"{found}, but {' and '.join(there)} ones do: add {needed} if you mean them"


def matching(opts: Mapping[str, Any], states: Sequence[str], globs: Sequence[str]) -> list[str]:
    """Return the ids in ``states`` that match one of ``globs``, sorted."""
    import fnmatch

    from bus.keys import FOLDERS, KeyStore

    found: dict[str, list[str]] = KeyStore(opts["pki_dir"]).list()
    ids = {ident for state in states for ident in found[FOLDERS[state]]}
    return sorted(i for i in ids if any(fnmatch.fnmatchcase(i, glob) for glob in globs))


def shown_keys(
    opts: Mapping[str, Any], states: Sequence[str], meant: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Return id, state and fingerprint of the keys of ``meant`` that are in one of ``states``."""
    from bus.keys import FOLDERS, KeyStore

    found = KeyStore(opts["pki_dir"]).finger()
    return [
        (ident, state, found[FOLDERS[state]][ident])
        for ident in meant
        for state in states
        if ident in found[FOLDERS[state]]
    ]


def _is_meant(globs: Sequence[str]) -> bool:
    """Say whether there is nothing to ask: a script that writes ids out means them."""
    return bool(globs) and not is_terminal() and not any(set("*?[") & set(one) for one in globs)


def _confirm(ctx: click.Context, act: str, keys: Sequence[tuple[str, str, str]]) -> None:
    """Ask, with the fingerprints: only by them a person can tell whose keys they are."""
    from reactor.cli import output

    for ident, state, finger in keys:
        click.echo(f"    {output.safe(ident)} ({state}):  {finger}", err=True)
    confirm(ctx, f"{act.capitalize()} these keys?", act, "changed")


def _apply(
    opts: Mapping[str, Any], act: str, meant: Sequence[str], options: Mapping[str, bool]
) -> list[str]:
    """Change the keys one by one, so that exactly those are changed that were shown."""
    from bus.client import WheelClient

    client = WheelClient(opts)
    changed = []
    try:
        for ident in meant:
            result = client.cmd(f"key.{act}", [_literal(ident)], kwarg=dict(options))
            changed += [name for names in result.values() for name in names]
    finally:
        client.close()
    return changed


def _literal(ident: str) -> str:
    """Return a glob that means this id only."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in ident)


def _show(act: str, changed: Sequence[str], *, as_json: bool) -> None:
    from reactor.cli import output

    if as_json:
        click.echo(output.as_json({act: list(changed)}))
        return
    done = {"accept": "accepted", "reject": "rejected", "delete": "deleted"}[act]
    for ident in changed:
        click.echo(f"{done}: {output.safe(ident)}")


@command.command("rotate-master", cls=Command, example="reactor key rotate-master")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=3600),
    default=10.0,
    metavar="SECONDS",
    help="How long to wait until the connected minions have the new key; 10 by default.",
)
@click.option("--force", is_flag=True, help="Though minions are left behind for good.")
@with_json
@click.pass_context
def rotate_master(
    ctx: click.Context, yes: bool, timeout: float, force: bool, as_json: bool
) -> None:
    """Exchange the master's own key for a new one; minions take it over by themselves."""
    from bus.client import WheelClient
    from reactor.cli import output

    opts = ctx.ensure_object(Settings).existing_master()
    if not yes:
        _confirm_rotation(ctx)
    client = WheelClient(opts)
    try:
        done = client.cmd("key.rotate_master", kwarg={"timeout": timeout, "force": force})
    finally:
        client.close()
    if as_json:
        click.echo(output.as_json(done))
        return
    click.echo(f"the master's key is now  {done['finger']}")
    click.echo(f"it was                   {done['before']}")
    _tell_behind(done)


def _confirm_rotation(ctx: click.Context) -> None:
    click.echo("All minions connect anew and are shown a new key of this master.", err=True)
    confirm(ctx, "Rotate the master's key?", "rotate the key", "changed")


def _tell_behind(done: Mapping[str, Any]) -> None:
    from reactor.cli import output

    behind = [*done["waiting"], *done["away"]]
    if not behind:
        return
    names = ", ".join(output.safe(ident) for ident in behind[:_SHOWN])
    more = f" and {len(behind) - _SHOWN} others" if len(behind) > _SHOWN else ""
    days = f"{done['grace'] / 86_400:.3g} days"
    text = f"learn of it if they come back within {days}, by UDP on the port of the link"
    if not done["grace"]:
        text = "have to be given it: master_finger, and no minion_master.pub"
    click.echo(f"reactor: {names}{more} did not take it now; they {text}", err=True)


@command.command("finger", cls=Command, example="reactor key finger web1")
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
@with_json
@click.pass_context
def finger(ctx: click.Context, globs: tuple[str, ...], as_json: bool) -> None:
    """Show fingerprints, the master's own too: it is what 'master_finger' of a minion takes."""
    from reactor.cli import output

    found = fingerprints(ctx.ensure_object(Settings).existing_master(), globs or ("*",))
    if globs and not found.keys() - {"local"}:
        _fail(ctx, f"no key matches {output.safe(' '.join(globs))}: see 'reactor key list'")
    if as_json:
        click.echo(output.as_json(found))
        return
    for folder, fingers in found.items():
        click.echo(f"{'Master' if folder == 'local' else _spoken(folder)}:")
        for name, text in fingers.items():
            click.echo(f"    {output.safe(name)}:  {text}")


def fingerprints(opts: Mapping[str, Any], globs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return fingerprints by folder and id; the master's own, if it has a key, under ``local``."""
    from pathlib import Path

    from bus.keys import KeyStore, fingerprint, read_public

    own = read_public(Path(opts["pki_dir"], "master.pub"))
    found = {"local": {"master.pub": fingerprint(own)}} if own else {}
    store = KeyStore(opts["pki_dir"])
    for glob in globs:
        for folder, fingers in store.finger(glob).items():
            if fingers:
                found.setdefault(folder, {}).update(fingers)
    return found


def _fail(ctx: click.Context, text: str) -> None:
    click.echo(f"reactor: {text}", err=True)
    ctx.exit(1)
