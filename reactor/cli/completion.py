"""``reactor completion``: prints what makes a shell complete commands and options."""

from __future__ import annotations

import os

import click

from reactor.cli.settings import Command

_IN_FPATH = ("$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _reactor")
"""How a script of zsh sees that it is a function of fpath. click's way holds for the first Tab
only: at the second the file is that function's body, not loaded any more, and completes nothing."""

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Command,
    example='eval "$(reactor completion bash)"\n'
    "reactor completion fish > ~/.config/fish/completions/reactor.fish",
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print a shell's completion script."""
    name = shell or os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119 - a name only
    if name not in SHELLS:
        raise click.UsageError(f"no completion for the shell {name!r}: name one of {SHELLS}", ctx)
    click.echo(script_of(name, ctx.find_root().command))


def script_of(shell: str, program: click.Command) -> str:
    """Return a shell's completion script."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    # Not source(), which starts a shell to ask for its version.
    script = found(program, {}, "reactor", "_REACTOR_COMPLETE")
    text = script.source_template % script.source_vars()
    return text.replace(*_IN_FPATH) if shell == "zsh" else text
