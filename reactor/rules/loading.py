"""Makes a snapshot of the rules from files, and makes the next one from what has changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bus.yamlfile import YamlError, load
from reactor.errors import RuleError
from reactor.rules.loadstate import (
    Checked,
    LoadState,
    MapEntry,
    NamedPath,
    Reaction,
    RuleFile,
    Text,
)
from reactor.rules.maps import read_map
from reactor.rules.model import Rule, Source
from reactor.rules.native import Builder
from reactor.rules.saltfile import ReactorFile, SaltRule
from reactor.rules.snapshot import Problem, Snapshot
from reactor.rules.sources import Finder, Reader
from reactor.rules.templates import Sources, Templates
from reactor.rules.validation import Validator

_MOST_NAMED = 3
"""How many of the reactor files that no map names a warning lists."""

PlaceOfEntry = Callable[[int], Source]


class RuleSet:
    """Knows where rules come from, and loads them. Use it in one thread at a time.

    Args:
        reactor_map: Salt's option ``reactor``; paths are relative to ``conf_dir``.
        rules: the option ``rules``: files, folders (every ``*.yaml`` and ``*.yml`` below, but
            none that is hidden) and globs, relative to ``conf_dir``.
        file_roots: environment -> folders, which ``salt://`` and includes are looked up in.
        conf_dir: the configuration's folder.
        map_place: where the entry of that number of ``reactor_map`` stands.
        rules_place: the same for ``rules``.
        clock: nanoseconds since 1970.
    """

    def __init__(
        self,
        *,
        reactor_map: Sequence[Mapping[str, Any]] = (),
        rules: Sequence[str] = (),
        file_roots: Mapping[str, Sequence[str]] | None = None,
        conf_dir: str = "",
        map_place: PlaceOfEntry | None = None,
        rules_place: PlaceOfEntry | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._reactor_map = reactor_map
        self._rules = tuple(rules)
        self._file_roots = file_roots or {}
        self._conf_dir = str(Path(conf_dir).absolute())
        self._map_place = map_place or self._place
        self._rules_place = rules_place or self._place
        self._clock = clock
        self._makers = Makers()
        self._watched: frozenset[str] = frozenset()

    def _place(self, _number: int) -> Source:
        return Source(self._conf_dir)

    def load(self, previous: Snapshot | None = None) -> Snapshot:
        """Return the rules as the files now have them; a bad file is a problem, never an error.

        Args:
            previous: the last snapshot; its version stays if nothing differs. Files that did not
                change since are not read again, and of a file that is now broken its last good
                version stays in force.
        """
        previous = previous or Snapshot()
        finder = Finder(self._conf_dir, self._file_roots)
        one = _Load(self._makers, finder, previous.state, self._clock)
        rules = one.rules(self._config_entries(one), self._paths(finder, one))
        self._makers.prepared.clear()
        self._watched = frozenset(finder.watched | one.read_paths())
        warnings = [*unnamed(finder.reactor_files, one.read_paths())]
        if previous.version and previous.holds(rules, one.problems, warnings):
            return previous.with_state(one.state())
        return Snapshot(rules, one.problems, previous.version + 1, one.state(), warnings)

    def prepare(self, paths: Iterable[str], before: Snapshot) -> None:
        """Make rules of files that have changed, for a load that is to come soon.

        It changes nothing about what that load finds, only how long it takes.

        Args:
            paths: the files.
            before: the rules in force.
        """
        known = before.state.rule_files
        reader = Reader({}, self._clock)
        for path in paths:
            if path in known:
                with contextlib.suppress(OSError, RuleError):
                    self._makers.prepare(reader.read(path))

    def watch_paths(self) -> frozenset[str]:
        """Return the files and folders that the last load depended on.

        A folder stands for what appears and vanishes in it; the folders below it that matter
        are listed too.
        """
        return self._watched

    def _config_entries(self, one: _Load) -> tuple[MapEntry, ...]:
        entries, errors = read_map(
            self._reactor_map,
            lambda path: self._map_place(path[0]) if path else self._place(0),
        )
        for error in errors:
            one.report(error, kept=False)
        return entries

    def _paths(self, finder: Finder, one: _Load) -> list[str]:
        found: dict[str, None] = {}
        for number, entry in enumerate(self._rules):
            try:
                found.update(dict.fromkeys(finder.rule_paths(entry)))
            except RuleError as error:
                one.name_problem("rules", error, self._rules_place(number))
        for unreadable in finder.unreadable:
            one.report(unreadable, kept=False)
        return list(found)


def unnamed(files: Mapping[str, Sequence[str]], read: Container[str]) -> Iterator[Problem]:
    """Yield a warning for each folder of rules with reactor files that nothing reacts by.

    Args:
        files: the reactor files in each folder.
        read: the files that some map names, or that one of those includes.
    """
    for folder, paths in files.items():
        left = [path for path in paths if path not in read]
        if left:
            many = f"{len(left)} reactor files" if len(left) > 1 else "a reactor file"
            named = ", ".join(str(Path(path).relative_to(folder)) for path in left[:_MOST_NAMED])
            more = ", ..." if len(left) > _MOST_NAMED else ""
            first = Path(left[0]).relative_to(folder)
            yield Problem(
                Source(folder),
                f"nothing reacts by {many} here ({named}{more}), for no reactor map names "
                f"{'them' if len(left) > 1 else 'it'}: write a map, as in "
                f"\"reactor: [{{'my/tag': {first}}}]\", into a file map.yaml in this folder",
            )


class Makers:
    """What makes rules of texts: costly to make, without state that a load could see.

    Attributes:
        prepared: by path, what was made beforehand of a text with that digest.
    """

    def __init__(self) -> None:
        self.prepared: dict[str, RuleFile] = {}
        self.validator = Validator()
        self.builder = Builder()
        self.templates = Templates()

    def prepare(self, text: Text) -> None:
        """Make a rule file beforehand."""
        known = self.prepared.get(text.path)
        if known is None or known.digest != text.digest:
            self.prepared[text.path] = self._made(text)

    def rule_file(self, text: Text) -> RuleFile:
        """Return a native rule file or a map; `RuleFile.errors` says what is wrong with it."""
        known = self.prepared.get(text.path)
        return known if known is not None and known.digest == text.digest else self._made(text)

    def _made(self, text: Text) -> RuleFile:
        try:
            return self._read(text)
        except Exception as error:  # the boundary of a file: it must not take others with it
            return RuleFile(text.digest, errors=(_unreadable(text, error),), good=False)

    def _read(self, text: Text) -> RuleFile:
        try:
            value, lines = load(text.text, text.path)
        except YamlError as error:
            broken = RuleError(error.problem, text.path, error.line)
            return RuleFile(text.digest, errors=(broken,), good=False)
        if value is None:
            return RuleFile(text.digest)
        if isinstance(value, dict) and list(value) == ["reactor"]:
            entries, errors = read_map(
                value["reactor"],
                lambda path: Source(text.path, lines.at(("reactor", *path))),
            )
            return RuleFile(text.digest, (), entries, tuple(errors), not errors)
        wrong = self.validator.check(value, text.path, lines)
        if wrong:
            return RuleFile(text.digest, errors=tuple(wrong), good=False)
        rules, wrong = self.builder.build(value, text.path, lines)
        return RuleFile(text.digest, tuple(rules), (), tuple(wrong), not wrong)

    def checked(self, text: Text) -> Checked:
        """Return what a template includes, or what is wrong with it."""
        try:
            return Checked(text.digest, self.templates.references(text.text, text.path))
        except RuleError as error:
            return Checked(text.digest, error=error)
        except Exception as error:  # the boundary of a file, as above
            return Checked(text.digest, error=_unreadable(text, error))


def _unreadable(text: Text, error: Exception) -> RuleError:
    if isinstance(error, RecursionError):
        return RuleError("it nests too deeply", text.path)
    return RuleError(f"it cannot be read: {type(error).__name__}: {error}", text.path)


class _Load:
    """One load: what it has read and made so far, and what went wrong."""

    def __init__(
        self, makers: Makers, finder: Finder, before: LoadState, clock: Callable[[], int]
    ) -> None:
        self._makers = makers
        self._finder = finder
        self._before = before
        self._reader = Reader(before.texts, clock)
        self._rule_files: dict[str, RuleFile] = {}
        self._checked: dict[str, Checked] = {}
        self._reactions: dict[str, Reaction] = {}
        self.problems: list[Problem] = []

    def rules(self, entries: Iterable[MapEntry], paths: Sequence[str]) -> list[Rule]:
        """Return all rules: those of the configuration's map, then those of files."""
        files = {path: self._rule_file(path) for path in paths}
        rules: list[Rule] = list(self._salt_rules(entries, self._finder.conf_dir))
        by_file = {
            path: list(self._salt_rules(file.entries, str(Path(path).parent)))
            for path, file in files.items()
        }
        for path, file in files.items():
            # A file that a map names is Jinja first, and only lies in a folder of rules.
            if path not in self._reactions:
                self._report_file(file)
                rules += file.rules
                rules += by_file[path]
        return rules

    def report(self, error: RuleError, *, kept: bool) -> None:
        """Note what is wrong with a file."""
        at = f"line {error.line} of the rendered file: " if error.rendered else ""
        message = ": ".join(part for part in (at + error.path, error.problem) if part)
        line = 0 if error.rendered else error.line
        self.problems.append(Problem(Source(error.file, line), message, kept))

    def name_problem(self, option: str, error: RuleError, source: Source) -> None:
        """Note that what an option or map names cannot be found."""
        self.problems.append(Problem(source, f"{option}: {error.problem}"))

    def read_paths(self) -> set[str]:
        """Return every file that was read."""
        return set(self._reader.texts)

    def state(self) -> LoadState:
        """Return what the next load need not do again."""
        return LoadState(self._reader.texts, self._rule_files, self._checked, self._reactions)

    def _report_file(self, file: RuleFile) -> None:
        for error in file.errors:
            self.report(error, kept=file.good)

    def _rule_file(self, path: str) -> RuleFile:
        before = self._before.rule_files.get(path)
        try:
            text = self._reader.read(path)
        except FileNotFoundError:
            # It vanished after the folder was listed: the next load will not list it.
            return RuleFile(b"", errors=(RuleError("is gone", path),), good=False)
        except RuleError as error:
            file = _keep(RuleFile(b"", errors=(error,), good=False), before)
        else:
            file = self._made(text, before)
        self._rule_files[path] = file
        return file

    def _made(self, text: Text, before: RuleFile | None) -> RuleFile:
        if before is not None and before.digest == text.digest:
            return before
        return _keep(replace(self._makers.rule_file(text), text=text.text), before)

    def _salt_rules(self, entries: Iterable[MapEntry], folder: str) -> Iterator[SaltRule]:
        for entry in entries:
            for named in entry.files:
                yield from self._named_rules(entry.glob, named, folder)

    def _named_rules(self, glob: str, named: NamedPath, folder: str) -> Iterator[SaltRule]:
        try:
            paths = self._finder.reaction_paths(named.text, folder)
        except RuleError as error:
            self.name_problem(f"reactor: {glob}", error, named.source)
            return
        for path in paths:
            reaction = self._reaction(path)
            if reaction.file is not None:
                yield SaltRule(Path(path).stem, Source(path, 1), (glob,), reaction.file)

    def _reaction(self, path: str) -> Reaction:
        """Return a reactor file with what it includes; what is wrong with it is noted once."""
        known = self._reactions.get(path)
        if known is not None:
            return known
        reaction = self._reactions[path] = self._make_reaction(path)
        if reaction.error is not None:
            self.report(reaction.error, kept=reaction.file is not None)
        return reaction

    def _make_reaction(self, path: str) -> Reaction:
        before = self._before.reactions.get(path)
        try:
            sources = self._sources(path)
        except FileNotFoundError:
            return Reaction((), None, RuleError("is gone", path))
        except RuleError as error:
            return Reaction((), before.file if before else None, error)
        parts = tuple((part, self._reader.read(part).digest) for part in sources.texts)
        if before is not None and before.error is None and before.parts == parts:
            return before
        file = ReactorFile(self._makers.templates.template(sources))
        try:
            file.check()
        except RuleError as error:
            return Reaction(parts, before.file if before else None, error)
        return Reaction(parts, file)

    def _sources(self, root: str) -> Sources:
        """Read a reactor file and everything that it includes.

        Raises:
            FileNotFoundError: the file itself is gone.
            RuleError: one of them cannot be read, or its syntax is broken.
        """
        texts: dict[str, str] = {}
        links: dict[tuple[str, str], str] = {}
        todo = [root]
        while todo:
            path = todo.pop()
            if path in texts:
                continue
            text = self._reader.read(path)
            texts[path] = text.text
            found = self._links(text, root)
            links.update(found)
            todo += found.values()
        return Sources(root, texts, links)

    def _links(self, text: Text, root: str) -> dict[tuple[str, str], str]:
        links: dict[tuple[str, str], str] = {}
        for reference in self._check(text).references:
            found = self._finder.include_path(reference.name, text.path, root)
            if found is not None:
                links[text.path, reference.name] = found
            elif reference.required:
                problem = (
                    f"the include {reference.name!r} is not found: it is looked for beside the "
                    "file and in file_roots"
                )
                raise RuleError(problem, text.path, reference.line)
        return links

    def _check(self, text: Text) -> Checked:
        checked = self._checked.get(text.path) or self._before.checked.get(text.path)
        if checked is None or checked.digest != text.digest:
            checked = self._makers.checked(text)
        self._checked[text.path] = checked
        if checked.error is not None:
            raise checked.error
        return checked


def _keep(file: RuleFile, before: RuleFile | None) -> RuleFile:
    """Put the last good version in place of a broken one."""
    if not file.errors:
        return file
    if before is None or not before.good:
        return RuleFile(file.digest, errors=file.errors, good=False)
    return replace(before, digest=file.digest, errors=file.errors)
