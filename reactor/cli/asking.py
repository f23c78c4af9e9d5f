"""Asks before something is done that somebody may not mean; one policy for all commands."""

from __future__ import annotations

import sys

import click


def is_terminal() -> bool:
    """Say whether there is a person to ask."""
    return sys.stdin.isatty()


def confirm(ctx: click.Context, question: str, act: str, not_done: str) -> None:
    """Go on only after a yes, typed or on standard input.

    Args:
        ctx: the command's.
        question: what to ask.
        act: what ``--yes`` would do, for whoever calls it where nobody answers.
        not_done: what has not happened after a no, such as "dropped".

    Raises:
        click.UsageError: nobody answers.
        click.ClickException: the answer is no.
    """
    try:
        agreed = click.confirm(question, default=False, err=True)
    except click.Abort:
        if is_terminal():
            raise
        click.echo(err=True)
        raise click.UsageError(f"nobody is there to answer: add --yes to {act}", ctx) from None
    if not agreed:
        raise click.ClickException(f"nothing was {not_done}")
