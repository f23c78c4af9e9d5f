"""The group of all commands: finds, loads and runs one, and shows errors in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

import click

from reactor import __version__
from reactor.cli.settings import Settings, shared_options

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run it": ("up", "master", "minion", "http", "standby", "init"),
    "Events": ("fire", "events"),
    "Rules": ("check", "test", "rules", "why", "trace", "replay", "dead", "convert"),
    "Functions and jobs": ("cmd", "call", "run", "jobs"),
    "Look after it": ("status", "key", "token", "user", "journal", "completion"),
}
"""The commands as the help shows them; each is ``command`` in the module of its name."""

INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 and the number of the signal, as shells say it."""


class Program(click.Group):
    """The group; a command's module is imported when the command is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help if nothing is asked for."""
        return super().parse_args(ctx, args or ["--help"])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"reactor.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which ones are near."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(self._unknown(ctx, args[0]))
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
        advice = f"did you mean '{near[0]}'?" if near else "see 'reactor --help'"
        return f"no such command: {name[:60]!r}; {advice}"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the commands in their sections."""
        for title, names in SECTIONS.items():
            rows = [(name, self._short_help(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(200) if command else ""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command and exit: 0 for success, 2 for a wrong use, else 1."""
        kwargs["standalone_mode"] = False
        settings = kwargs.setdefault("obj", Settings())
        _open_what_is_closed()
        if os.environ.get("NO_COLOR"):
            kwargs.setdefault("color", False)
        try:
            status = super().main(*args, **kwargs)
            sys.stdout.flush()
        except Exception as error:  # the boundary of the program: each ends in one line
            if settings.debug and not isinstance(error, click.ClickException | click.Abort):
                raise
            status = self._on_error(error)
        sys.exit(status if isinstance(status, int) else 0)

    def _on_error(self, error: Exception) -> int:
        from bus.errors import BusError

        if isinstance(error, click.Abort):
            return INTERRUPTED
        if isinstance(error, BrokenPipeError):
            _hush()
            return BROKEN_PIPE
        if isinstance(error, OSError) and _is_of_printing(error):
            _hush()
            _complain(f"what is printed cannot be written: {error.strerror or error}")
            return 1
        if isinstance(error, click.ClickException):
            _complain(_in_one_line(error))
            return error.exit_code
        if isinstance(error, BusError | OSError):
            _complain(str(error))
        else:
            _complain(f"{type(error).__name__}: {error} (--debug before the command shows where)")
        return 1


def _in_one_line(error: click.ClickException) -> str:
    text = error.format_message()
    ctx = getattr(error, "ctx", None)
    if ctx is None or "--help" in text:
        return text
    return f"{text.rstrip('.')} (see '{ctx.command_path} --help')"


def _complain(text: str) -> None:
    click.echo(f"reactor: {' '.join(text.split())}", err=True)


def _open_what_is_closed() -> None:
    """Give a program that was started without standard output or error somewhere to write."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - until exit


def _is_of_printing(error: OSError) -> bool:
    """Say whether an error ends in what prints: a full disk there is not one of ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or error.filename is not None:
        return False
    file = trace.tb_frame.f_code.co_filename
    return file == click.echo.__code__.co_filename or file.startswith(os.path.dirname(__file__))  # noqa: PTH120


def _hush() -> None:
    """Let nothing complain, at exit, of the reader that went away."""
    with contextlib.suppress(OSError):
        sys.stdout = _nowhere()


program = Program(
    name="reactor",
    params=[
        *shared_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, _param, value: _show_version(ctx, value),
            help="Show the version.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An event bus and a reactor: fire events, and have rules act on them.\n\n"
    "'reactor up' starts all of it in this folder; 'reactor COMMAND --help' shows an example.",
)


def _show_version(ctx: click.Context, value: bool) -> None:
    if value:
        click.echo(f"reactor {__version__}")
        ctx.exit()


def exit_with(status: int) -> NoReturn:
    """End the command with an exit status."""
    click.get_current_context().exit(status)


def names() -> Sequence[str]:
    """Return the names of all commands."""
    return [name for section in SECTIONS.values() for name in section]
