"""What `reactor check` looks at: loaded rules, their texts, and the functions there are."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bus import loader
from bus.loader.custom import custom_dirs, offered_dirs
from bus.yamlfile import YamlError, load
from reactor.errors import RuleError
from reactor.rules.customnames import functions_of
from reactor.rules.findings import (
    Finding,
    Fires,
    Functions,
    cannot_match,
    column_of,
    fires_of,
    loop_findings,
    native_findings,
    salt_findings,
)
from reactor.rules.loadstate import MapEntry
from reactor.rules.maps import read_map
from reactor.rules.model import Source
from reactor.rules.snapshot import Problem, Snapshot
from reactor.rules.sources import Finder, Reader
from reactor.rules.templates import Templates, is_fixed

_ON_MASTER = {
    "caller": "'caller' runs on the minion whose reactor it is, and these are the master's rules: "
    "use 'local' with a target, or name the file under 'rules' in the minion's configuration "
    "and check it with --minion"
}
_ON_MINION = dict.fromkeys(
    ("local", "runner", "wheel"),
    "'{kind}' runs on the master, and these are a minion's rules: use 'caller' for what this "
    "minion can do itself, or 'caller: event.send' and a rule on the master",
)


def findings(
    snapshot: Snapshot,
    opts: Mapping[str, Any],
    reactor_map: Sequence[Any],
    role: str = "master",
) -> list[Finding]:
    """Return all that is wrong with rules, in order of files and lines.

    Args:
        snapshot: the rules.
        opts: the options of the role: where functions and files are.
        reactor_map: the map of the configuration, if it is part of what is checked.
        role: whose rules they are, ``master`` or ``minion``.
    """
    texts = {path: text.text for path, text in snapshot.state.texts.items()}
    functions = _functions(opts, role)
    found = [_of_problem(problem, texts) for problem in snapshot.problems]
    fires: list[Fires] = []
    templates = Templates()
    rules = (*snapshot.rules, *snapshot.disabled)
    for path, text in texts.items():
        here = [rule for rule in rules if rule.source.path == path]
        if any(rule.style == "native" for rule in here):
            found += native_findings(text, path, functions, opts["reactor_notify"])
            fires += fires_of(text, path, [rule for rule in here if rule.enabled])
        elif here:
            found += _of_salt(text, path, templates, functions)
    found += loop_findings(fires)
    found += _map_findings(snapshot, opts, reactor_map)
    return in_order(found)


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Return findings in order of files and lines, each once."""
    return sorted(set(found), key=lambda one: (one.file, one.line, one.column, one.message))


def _of_salt(text: str, path: str, templates: Templates, functions: Functions) -> list[Finding]:
    """Return what is odd about a reactor file that can be loaded."""
    try:
        uses = templates.uses(text, path)
    except RuleError as error:
        return [Finding(path, error.line, 0, "error", error.problem)]
    except RecursionError:
        return [Finding(path, 0, 0, "error", "the template nests too deeply")]
    return salt_findings(text, path, functions, uses)


def unnamed_files(paths: Sequence[str], conf_dir: str, snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the reactor files in folders of rules that no map names, by the folder.

    Args:
        paths: files, folders and globs, as the option ``rules`` has them.
        conf_dir: what relative ones start from.
        snapshot: what was loaded of them.
    """
    finder = Finder(conf_dir, {})
    for path in paths:
        with contextlib.suppress(RuleError):  # it has been said
            finder.rule_paths(path)
    read = snapshot.state.texts
    found = {
        folder: [file for file in files if file not in read]
        for folder, files in finder.reactor_files.items()
    }
    return {folder: files for folder, files in found.items() if files}


def syntax_findings(files: Iterable[str]) -> Iterator[Finding]:
    """Yield what is wrong with the syntax of reactor files of which no tag is known.

    Whether what they call is there is not asked: a folder may well hold Salt's states too.
    """
    reader, templates = Reader({}, time.time_ns), Templates()
    for file in files:
        try:
            text = reader.read(file).text
            _check_syntax(text, file, templates)
        except FileNotFoundError:
            continue  # it was there a moment ago
        except RuleError as error:
            yield _of_problem(Problem(Source(file, error.line), error.problem), {})


def _check_syntax(text: str, file: str, templates: Templates) -> None:
    """Read a reactor file as far as that goes without an event.

    Raises:
        RuleError: its syntax is broken.
    """
    try:
        templates.check_syntax(text, file)
        if is_fixed(text):
            load(text, file)
    except YamlError as error:
        raise RuleError(error.problem, file, error.line) from error
    except RecursionError as error:
        raise RuleError("it nests too deeply", file) from error


def warning_findings(snapshot: Snapshot) -> list[Finding]:
    """Return what of the configuration's rules is probably not meant."""
    return [
        Finding(one.source.path, one.source.line, 0, "warning", one.message)
        for one in snapshot.warnings
    ]


def _functions(opts: Mapping[str, Any], role: str) -> Functions:
    """Load what the daemons would load: nothing that is not in their own directories."""
    dirs = custom_dirs(opts, "modules") if role == "minion" else ()
    modules = loader.execution_modules(opts, grains={}, dirs=dirs)
    if role == "minion":
        misplaced = {kind: text.format(kind=kind) for kind, text in _ON_MINION.items()}
        return Functions({"caller": modules}, misplaced)
    return Functions(
        {"local": modules, "runner": loader.runners(opts), "wheel": loader.wheels(opts)},
        _ON_MASTER,
        _on_minions(opts),
    )


def _on_minions(opts: Mapping[str, Any]) -> dict[str, inspect.Signature]:
    """Return the functions of the modules that the master brings to its minions."""
    files = {
        path.name: path
        for folder in offered_dirs(opts, "modules")
        for path in sorted(folder.glob("*.py"))
    }
    return {
        name: signature
        for path in files.values()
        for name, signature in functions_of(_text(str(path), {}), path.stem).items()
    }


def _of_problem(problem: Problem, texts: Mapping[str, str]) -> Finding:
    source = problem.source
    column = column_of(_text(source.path, texts), source.line, problem.message)
    return Finding(source.path, source.line, column, "error", problem.message, problem.kept)


def _text(path: str, texts: Mapping[str, str]) -> str:
    if path in texts:
        return texts[path]
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _map_findings(
    snapshot: Snapshot, opts: Mapping[str, Any], reactor_map: Sequence[Any]
) -> Iterator[Finding]:
    conf_dir, roots = str(opts["config_dir"]), opts["file_roots"]
    entries, _ = read_map(reactor_map, lambda _path: Source(str(opts["conf_file"])))
    groups: list[tuple[tuple[MapEntry, ...], str]] = [(entries, conf_dir)]
    for path, file in snapshot.state.rule_files.items():
        groups.append((file.entries, str(Path(path).parent)))
    finder = Finder(conf_dir, roots)
    for group, folder in groups:
        for entry in group:
            yield from _entry_findings(entry, folder, finder)


def _entry_findings(entry: MapEntry, folder: str, finder: Finder) -> Iterator[Finding]:
    why = cannot_match(entry.glob)
    if why:
        message = f"reactor: {entry.glob!r} matches no tag: {why}"
        yield Finding(entry.source.path, entry.source.line, 0, "error", message)
    for named in entry.files:
        try:
            files = finder.reaction_paths(named.text, folder)
        except RuleError:
            continue  # it has been said
        if not files:
            message = f"reactor: {entry.glob}: {named.text!r} matches no file"
            yield Finding(named.source.path, named.source.line, 0, "warning", message)
