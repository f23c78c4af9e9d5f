"""What every command shares: which configuration, how errors are shown, how options are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reactor.cli import habits

if TYPE_CHECKING:
    from bus.config import Opts

_NEGATIVE = re.compile(r"-(\d|\.\d)")
_SHIELD = "\0"
"""Cannot occur in a program's arguments, so it marks those that only look like options."""

F = TypeVar("F", bound=Callable[..., Any])


class Settings:
    """The options that stand before or after a command's name.

    Attributes:
        config: the configuration directory, or None for the usual look-up.
        debug: show tracebacks.
    """

    def __init__(self) -> None:
        self.config: str | None = None
        self.debug = False
        self._warned: set[str] = set()

    def master(self, *, strict: bool = False) -> Opts:
        """Return the master's options.

        Args:
            strict: whether any wrong setting is an error, as for the daemons; for others it is
                a warning, unless it says where the daemons are.
        """
        return self._read("master", strict=strict)

    def minion(self, *, strict: bool = False) -> Opts:
        """Return the minion's options; see `master`."""
        return self._read("minion", strict=strict)

    def existing_master(self) -> Opts:
        """Return the master's options, for what would else begin a state of its own somewhere.

        Raises:
            ConfigError: there is no configuration directory, or one of a minion alone.
        """
        from bus.config import has_master, has_minion
        from bus.errors import ConfigError

        opts = self.master()
        require_directory(opts)
        if has_minion(opts.conf_dir) and not has_master(opts.conf_dir):
            raise ConfigError(
                f"{opts.conf_dir} is the configuration of a minion alone: do this where its "
                "master is, or name the master's directory with --config"
            )
        return opts

    def _read(self, role: str, *, strict: bool) -> Opts:
        from bus.config import master_config, minion_config, tolerant_config

        if strict:
            return (master_config if role == "master" else minion_config)(self.config)
        return tolerant_config(role, self.config, self._warn)

    def _warn(self, error: Exception) -> None:
        text = str(error)
        if text not in self._warned:
            self._warned.add(text)
            click.echo(f"reactor: warning: {text}; this setting is left out here", err=True)

    def node(self, name: str) -> Opts:
        """Return the options of ``master`` or ``minion``."""
        return self.master() if name == "master" else self.minion()

    def reactor(self, node: str) -> tuple[Opts, str]:
        """Return the options of a node, and the address where its reactor takes questions.

        Raises:
            ConfigError: it is a minion that has no reactor.
        """
        from bus import endpoints
        from bus.errors import ConfigError

        opts = self.node(node)
        if node == "master":
            return opts, endpoints.master_reactor(opts)
        if not (opts["rules"] or opts["reactor"]):
            raise ConfigError(
                f"the minion has no reactor: name its rules under 'rules' in {opts.conf_file}, "
                "and restart it"
            )
        return opts, endpoints.minion_reactor(opts)


def require_directory(opts: Opts) -> None:
    """Refuse a configuration directory that is not there: mostly, the caller is in another folder.

    Raises:
        ConfigError: it is not there.
    """
    from bus.errors import ConfigError

    if not opts.conf_dir.is_dir():
        raise ConfigError(
            f"there is no configuration directory {opts.conf_dir}: start in the folder of "
            "'reactor up', name one with --config, or make one with 'reactor init'"
        )


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        setattr(ctx.ensure_object(Settings), str(param.name), value)


def shared_options() -> list[click.Parameter]:
    """Return the options that every command has."""
    return [
        click.Option(
            ["--config"],
            metavar="DIR",
            expose_value=False,
            is_eager=True,
            callback=_remember,
            help="The configuration directory.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_remember,
            help="Show the traceback of an error.",
        ),
    ]


class _Helpful(click.Command):
    """A command that has ``-h`` in whatever context it is first asked for its help.

    click keeps the help option that the first context made, so a context's own setting is not
    enough.
    """

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """Return ``-h`` and ``--help``, but for those that the command uses otherwise."""
        ctx.help_option_names = ["-h", "--help"]
        return super().get_help_option_names(ctx)


class Command(_Helpful):
    """A command with the shared options, an example in its help, and arguments left as typed.

    Args:
        example: a command line that works.
    """

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params += shared_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let negative numbers be arguments, and say what to do about other dashes."""
        try:
            rest = super().parse_args(ctx, _shield(args, _with_value(self)))
        except click.NoSuchOption as error:
            raise _explained(error, ctx, takes_any=_takes_any(self)) from error
        except click.BadOptionUsage as error:
            raise click.UsageError(error.message, ctx) from error
        for name, value in ctx.params.items():
            ctx.params[name] = _unshield(value)
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the example below the options."""
        super().format_epilog(ctx, formatter)
        if self.example:
            formatter.write_paragraph()
            with formatter.section("Example"):
                for line in self.example.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Group(_Helpful, click.Group):
    """A group of commands."""


class ListingGroup(Group):
    """A group of commands that lists when none of them is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """List if nothing else is asked for; options without a command are those of the list."""
        if ctx.resilient_parsing:  # a shell asks what there is, to complete it
            return super().parse_args(ctx, args)
        named = any(arg in self.commands or arg in ("-h", "--help") for arg in args)
        lists = not named and (not args or args[0].startswith("-"))
        return super().parse_args(ctx, ["list", *args] if lists else args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the list's options as well: they are taken where no command is named."""
        super().format_options(ctx, formatter)
        own = {name for param in self.get_params(ctx) for name in param.opts}
        options = [one for one in self.commands["list"].params if isinstance(one, click.Option)]
        further = [one for one in options if not own & set(one.opts)]
        rows = [row for one in further if (row := one.get_help_record(ctx))]
        if rows:
            with formatter.section("Options without a command, of 'list'"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is near."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            import difflib

            near = difflib.get_close_matches(args[0], self.commands, 1)
            advice = f"did you mean '{near[0]}'?" if near else f"there are {_listed(self)}"
            ctx.fail(f"no such command: {args[0][:60]!r}; {advice}")
        return super().resolve_command(ctx, args)


def _listed(group: click.Group) -> str:
    return ", ".join(sorted(group.commands))


def _takes_any(command: click.Command) -> bool:
    return any(isinstance(p, click.Argument) and p.nargs == -1 for p in command.params)


def _explained(
    error: click.NoSuchOption, ctx: click.Context, *, takes_any: bool
) -> click.UsageError:
    near = error.possibilities or ()
    command = ctx.command_path.split()[1:2]
    habit = habits.advice(command[0], error.option_name) if command else ""
    if habit:
        advice = habit + ("; if it is an argument, put '--' before it" if takes_any else "")
    elif near:
        advice = f"did you mean {' or '.join(sorted(near))}?"
    elif takes_any:
        advice = "if it is an argument, put '--' before it"
    else:
        advice = f"see '{ctx.command_path} --help'"
    return click.UsageError(f"no such option: {error.option_name}; {advice}", ctx)


def _with_value(command: click.Command) -> set[str]:
    """Return the names of the options that take a value, which may well be negative."""
    options = (param for param in command.params if isinstance(param, click.Option))
    return {name for each in options if not each.is_flag for name in each.opts}


def _shield(args: list[str], with_value: set[str]) -> list[str]:
    end = args.index("--") if "--" in args else len(args)
    head = [
        _SHIELD + arg if _NEGATIVE.match(arg) and before not in with_value else arg
        for before, arg in zip(["", *args], args[:end], strict=False)
    ]
    return head + args[end:]


def _unshield(value: Any) -> Any:
    if isinstance(value, str):
        return value.removeprefix(_SHIELD)
    if isinstance(value, tuple):
        return tuple(_unshield(item) for item in value)
    return value


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """Keep from the terminal what the daemons log of what a command reads, and tells itself."""
    import logging

    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def with_json(function: F) -> F:
    """Give a command the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def with_node(function: F, text: str = "Whose bus.") -> F:
    """Give a command the option ``--node``; ``text`` is its help."""
    return click.option(
        "--node",
        type=click.Choice(["master", "minion"]),
        default="master",
        show_default=True,
        help=text,
    )(function)


def with_reactor(function: F) -> F:
    """Give a command the option ``--node``, for which reactor is asked."""
    return with_node(function, "Whose reactor.")
