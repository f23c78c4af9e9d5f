"""``reactor token``: makes, lists and revokes the tokens of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reactor.cli.grants import granted, open_access, spoken, with_grants
from reactor.cli.settings import Command, ListingGroup, Settings, shared_options, with_json

if TYPE_CHECKING:
    from reactor.http.access import Token

DEFAULT_LIFETIME = "30d"

_HEAD = ("ID", "NAME", "USER", "EXPIRES", "MAY")

command = ListingGroup(
    "token",
    params=shared_options(),
    help="Make, list and revoke the tokens that HTTP takes.\n\n"
    'Example: curl -SsNk "https://127.0.0.1:8000/events?token=$(reactor token create)"',
)


@command.command(
    "create",
    cls=Command,
    example="reactor token create\n"
    "reactor token create page --all\n"
    "reactor token create ci --fire 'ci/*' --expires 1h\n"
    "reactor token create ops --read '*' --run 'web*:test.*' --wheel 'key.*'",
)
@click.argument("name", default="token")
@with_grants
@click.option(
    "--expires",
    default=DEFAULT_LIFETIME,
    show_default=True,
    metavar="DURATION",
    help="After how long it ends; 0 for never.",
)
@with_json
@click.pass_obj
def create(settings: Settings, /, name: str, expires: str, as_json: bool, **grants: Any) -> None:
    """Make a token and print it. It is shown this once; only a digest of it is kept.

    Without further options it may read every event, and do nothing.
    """
    from bus import durations
    from reactor.cli import output

    try:
        lifetime = durations.seconds(expires)
    except durations.DurationError as error:
        raise click.UsageError(f"--expires {expires}: give a duration such as 1h or 30d") from error
    with open_access(settings.existing_master()) as access:
        secret, token = access.create_token(name, granted(**grants), lifetime or None)
    if as_json:
        click.echo(output.as_json({"token": secret, **_plain(token)}))
        return
    click.echo(secret)
    click.echo(f"reactor: token {token.id} may {spoken(token.permissions)}", err=True)


@command.command("list", cls=Command, example="reactor token list")
@with_json
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List the tokens that have not ended; those of logins have a user."""
    from reactor.cli import output

    with open_access(settings.existing_master()) as access:
        tokens = access.tokens()
    if as_json:
        click.echo(output.as_json([_plain(token) for token in tokens]))
        return
    rows = [
        (token.id, token.name, token.user or "", _moment(token.expires), spoken(token.permissions))
        for token in tokens
    ]
    output.show(output.table(_HEAD, rows), title=True)


@command.command("revoke", cls=Command, example="reactor token revoke 1f2e3d4c")
@click.argument("wanted", metavar="ID|NAME")
@with_json
@click.pass_obj
def revoke(settings: Settings, wanted: str, as_json: bool) -> None:
    """End a token by its id, or all of a name; open event streams end with it."""
    from reactor.cli import output

    with open_access(settings.existing_master()) as access:
        ended = access.revoke(wanted)
    if as_json:
        click.echo(output.as_json({"revoked": [token.id for token in ended]}))
        return
    for token in ended:
        click.echo(f"revoked: {token.id}  {token.name}")


def _plain(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "user": token.user,
        "created": _moment(token.created),
        "expires": _moment(token.expires) if token.expires else None,
        "may": token.permissions.plain(),
    }


def _moment(seconds: float | None) -> str:
    from datetime import UTC, datetime

    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
