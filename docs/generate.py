"""Writes what follows from the code: the pages of options and commands, man pages, completions.

Run it after a change of either: ``.venv/bin/python docs/generate.py``. A test compares.
"""
# ruff: noqa: INP001 - a script beside the pages, not a package

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PACKAGING = ROOT / "packaging"
COMPLETIONS = {"bash": "reactor", "zsh": "_reactor", "fish": "reactor.fish"}
"""Shell to the name that its completion script has to have where it is installed."""
WIDTH = 88

_OPTIONS = """\
# Options

Every option of the files `master`, `master.d/*.conf`, `minion` and `minion.d/*.conf`. \
<!-- Written by docs/generate.py. -->

The directory is the one of `--config`, else `REACTOR_CONFIG_DIR`, else `./.reactor` if it is \
yours and nobody else can write it, else `/etc/reactor` for root and `reactor` in the XDG \
directories for others. Relative paths start from it. An unknown option, a wrong type or a value \
out of range is refused at start, with file and line.
"""

_COMMANDS = """\
# Commands

One program, `reactor`. <!-- Written by docs/generate.py. -->

| Salt | here |
|---|---|
| `salt-master`, `salt-minion` | `reactor master`, `reactor minion`; `reactor up` is all in one |
| `salt '*' test.ping` | `reactor cmd '*' test.ping` |
| `salt-run state.event pretty=True` | `reactor run state.event pretty=True` |
| `salt-call event.send TAG DATA` | `reactor call event.send TAG DATA` |
| `salt-key -L`, `-a ID`, `-f ID` | `reactor key list`, `accept ID`, `finger ID` |
| `salt-key --gen-keys=ID` | `reactor key gen ID` |

The exit status is 0 only for success, 1 if the thing failed, and 2 for a wrong use. \
Errors are one line on standard error. Wherever data is printed there is `--json`. \
`--config DIR` may stand before or right after a command's name.
"""


def options_page() -> str:
    """Return the page of all options."""
    from bus.config import describe

    rows = [
        f"| `{row['option']}` | {row['roles']} | {row['type']} | {_default(row)} | {row['help']} |"
        for row in describe()
    ]
    head = ["| option | file | value | default | |", "|---|---|---|---|---|"]
    return "\n".join([_OPTIONS, *head, *rows, ""])


def _default(row: dict[str, str]) -> str:
    return row["default"] if row["default"] == "see help" else f"`{row['default']}`"


def commands_page() -> str:
    """Return the page of all commands: their own help."""
    from reactor.cli.program import SECTIONS, program

    parts = [_COMMANDS]
    context = click.Context(program, info_name="reactor")
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            command = program.get_command(context, name)
            assert command is not None
            parts += _sections(command, name, context)
    return "\n".join(parts)


def _sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"### {context.command_path}\n\n```text\n{text}\n```\n"
    for inner in getattr(command, "commands", {}).values():
        yield from _sections(inner, inner.name, context)


PAGES = {"options.md": options_page, "commands.md": commands_page}
"""File name and what writes it."""


def packaged() -> dict[Path, str]:
    """Return the manual pages and completion scripts that packages install, by their paths."""
    from reactor import __version__
    from reactor.cli.completion import script_of
    from reactor.cli.manpage import pages
    from reactor.cli.program import program

    files = {PACKAGING / "man" / name: text for name, text in pages(program, __version__).items()}
    for shell, name in COMPLETIONS.items():
        path = PACKAGING / "completions" / shell / name
        files[path] = script_of(shell, program).strip() + "\n"
    return files


def main() -> None:
    """Write all of it; a manual page whose command is gone goes too."""
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")
    files = packaged()
    for old in PACKAGING.glob("man/*.1"):
        if old not in files:
            old.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
