"""Manual pages of the commands, in roff, made of what their ``--help`` says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import click

SECTION = 1


def pages(program: click.Group, version: str) -> dict[str, str]:
    """Return the manual pages by file name: one of the program, one of each command."""
    context = click.Context(program, info_name=program.name, **program.context_settings)
    made = {f"{program.name}.{SECTION}": page(program, context, version)}
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        made[f"{program.name}-{name}.{SECTION}"] = page(command, inner, version)
    return made


def page(command: click.Command, context: click.Context, version: str) -> str:
    """Return one manual page."""
    title = context.command_path.replace(" ", "-")
    lines = [
        f'.TH "{_escaped(title.upper())}" "{SECTION}" "" "reactor {version}" "Reactor"',
        ".SH NAME",
        f"{_escaped(title)} \\- {_escaped(command.get_short_help_str(300))}",
        *_synopsis(command, context),
        ".SH DESCRIPTION",
        *_text(command.help or ""),
        *_options(command, context),
        *_commands(command, context),
        *_examples(command),
        *_see_also(command, context),
    ]
    return "\n".join(lines) + "\n"


def _synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".B {_escaped(context.command_path)}"
    yield _escaped(usage)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = [row for param in command.get_params(context) if (row := param.get_help_record(context))]
    yield from _listed("OPTIONS", rows)


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the commands of a group: with pages of their own, or, further in, described here."""
    if not isinstance(command, click.Group):
        return
    if context.parent is None:
        rows = [(name, inner.get_short_help_str(300)) for name, inner in _inner(command, context)]
        yield from _listed("COMMANDS", rows)
        return
    for name, inner in _inner(command, context):
        below = click.Context(inner, info_name=name, parent=context)
        yield f'.SH "COMMAND {_escaped(name.upper())}"'
        yield f".B {_escaped(below.command_path)}"
        yield _escaped(" ".join(inner.collect_usage_pieces(below)))
        yield ".PP"
        yield from _text(inner.help or "")
        for row in filter(None, (each.get_help_record(below) for each in inner.get_params(below))):
            yield from _item(*row)
        yield from _example(inner)


def _inner(command: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None and not inner.hidden:
            yield name, inner


def _examples(command: click.Command) -> Iterator[str]:
    example = list(_example(command))
    if example:
        yield ".SH EXAMPLES"
        yield from example


def _example(command: click.Command) -> Iterator[str]:
    text = str(getattr(command, "example", "") or "")
    if text:
        yield ".PP"
        yield ".nf"
        yield ".RS"
        yield from map(_escaped, text.splitlines())
        yield ".RE"
        yield ".fi"


def _see_also(command: click.Command, context: click.Context) -> Iterator[str]:
    root = context.find_root()
    if context.parent is None and isinstance(command, click.Group):
        names: Iterable[str] = command.list_commands(context)
        others = [f"{root.info_name}-{name}" for name in names]
    else:
        others = [str(root.info_name)]
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {_escaped(other)} ({SECTION})" for other in others).replace(",\n", "\n")


def _listed(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    found = list(rows)
    if found:
        yield f".SH {title}"
        for term, text in found:
            yield from _item(term, text)


def _item(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escaped(term)}"
    yield _escaped(" ".join(text.split())) or "\\&"


def _text(text: str) -> Iterator[str]:
    """Yield a text, paragraph by paragraph."""
    for number, paragraph in enumerate(text.replace("\b", "").strip().split("\n\n")):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


_SPECIAL: Mapping[str, str] = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha",
                               "~": "\\(ti"}  # fmt: skip


def _escaped(text: str) -> str:
    """Return a line that roff shows as it is: no request, no quotation marks that bend."""
    plain = "".join(_SPECIAL.get(char, char) for char in text)
    return f"\\&{plain}" if plain.startswith((".", "\\(aq")) else plain
