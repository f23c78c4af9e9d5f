"""``reactor user``: who may log in to HTTP with a password."""

from __future__ import annotations

import sys
from typing import Any

import click

from reactor.cli.grants import granted, open_access, spoken, with_grants
from reactor.cli.settings import Command, ListingGroup, Settings, shared_options, with_json

command = ListingGroup(
    "user",
    params=shared_options(),
    help="Say who may log in to HTTP, and what they may do.\n\n"
    "Example: reactor user set admin --all",
)


@command.command(
    "set",
    cls=Command,
    example="reactor user set admin --all\n"
    "reactor user set watcher --pam --read 'salt/job/*' --run 'web*:test.*'\n"
    "reactor user set ci --fire 'ci/*' < password-file",
)
@click.argument("name")
@with_grants
@click.option("--pam", is_flag=True, help="PAM knows the password.")
@click.pass_obj
def set_(settings: Settings, /, name: str, pam: bool, **grants: Any) -> None:
    """Make or change a user: permissions and password. Their logins end.

    The password is asked for, or is the first line of standard input.
    """
    allowed = granted(**grants)
    if pam:
        from reactor.http.passwords import pam_library

        pam_library()  # said now, not at the first login
    password = None if pam else _password()
    with open_access(settings.existing_master()) as access:
        access.set_user(name, password, allowed)
    click.echo(f"user {name} may {spoken(allowed)}")


def _password() -> str:
    from reactor.http.passwords import SHORTEST

    if sys.stdin.isatty():
        password = str(
            click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        )
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < SHORTEST:
        raise click.UsageError(f"the password is shorter than {SHORTEST} characters")
    return password


@command.command("list", cls=Command, example="reactor user list")
@with_json
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List the users and what they may do."""
    from reactor.cli import output

    with open_access(settings.existing_master()) as access:
        users = access.users()
    if as_json:
        rows = [
            {"name": user.name, "pam": user.is_pam, "may": user.permissions.plain()}
            for user in users
        ]
        click.echo(output.as_json(rows))
        return
    lines = [(u.name, "pam" if u.is_pam else "password", spoken(u.permissions)) for u in users]
    output.show(output.table(("NAME", "BY", "MAY"), lines), title=True)


@command.command("remove", cls=Command, example="reactor user remove admin")
@click.argument("name")
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Remove a user; their logins end."""
    with open_access(settings.existing_master()) as access:
        access.remove_user(name)
    click.echo(f"removed: {name}")
