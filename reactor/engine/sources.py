"""The rules of a master's configuration, read anew when the configuration itself changes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bus.config import Opts, master_config
from bus.errors import ConfigError
from bus.yamlfile import YamlError, load
from reactor.rules.loading import PlaceOfEntry, RuleSet
from reactor.rules.model import Source
from reactor.rules.snapshot import Problem, Snapshot

log = logging.getLogger(__name__)

_OPTIONS = ("reactor", "rules", "file_roots")


class ConfiguredRules:
    """A `RuleSet` that follows the options ``reactor``, ``rules`` and ``file_roots``.

    Args:
        opts: the master's options; rule paths that its files do not name (those of
            ``reactor up --rules``) stay in force besides whatever the files say.
        read: reads the configuration's file.
        in_force: whether a reactor already acts by ``opts``, so that they are what stays in force
            while the file is broken.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        read: Callable[[Path], Opts] = master_config,
        *,
        in_force: bool = True,
    ) -> None:
        self._read_file = read
        self._in_force = in_force
        self._conf_file = Path(str(opts["conf_file"]))
        self._conf_dir = str(opts["config_dir"])
        self._problem: Problem | None = None
        self._loaded: Snapshot | None = None
        self._seen = self._stat()
        in_files = self._read() or opts
        self._extra = {name: _beyond(opts[name], in_files[name]) for name in ("reactor", "rules")}
        self._file_roots = opts["file_roots"]
        self._roots_in_files = in_files["file_roots"]
        self._gone: frozenset[str] = frozenset()
        self._told = False
        self._in_files = in_files
        self._options = self._merge(in_files)
        self._rule_set = self._make(self._options)

    def load(self, previous: Snapshot | None = None) -> Snapshot:
        """Read what changed, the configuration first."""
        seen = self._stat()
        if seen != self._seen:
            self._seen = seen
            self._follow()
        if self._told:
            self._told = False
            self._use(self._in_files)
        # Compared with what the files alone gave, so that its version stays if they stay.
        snapshot = self._loaded = self._rule_set.load(self._loaded or previous)
        return snapshot.with_problem(self._problem) if self._problem else snapshot

    # The reloader's thread loads; what is told from another thread is one assignment each.

    @property
    def entries(self) -> list[dict[str, list[str]]]:
        """The entries of the configuration's reactor map, as they are in force."""
        return [
            {glob: [files] if isinstance(files, str) else list(files)}
            for entry in self._options["reactor"]
            for glob, files in entry.items()
        ]

    def add_entry(self, glob: str, files: list[str]) -> None:
        """Put an entry into the map, for this run; the next `load` takes it."""
        self._gone -= {glob}
        self._extra = {**self._extra, "reactor": [*self._extra["reactor"], {glob: files}]}
        self._told = True

    def delete_entry(self, glob: str) -> bool:
        """Take the entries of a glob out of the map, for this run; say whether there were any."""
        known = any(glob in entry for entry in self.entries)
        kept = [entry for entry in self._extra["reactor"] if glob not in entry]
        self._extra = {**self._extra, "reactor": kept}
        self._gone |= {glob}
        self._told = True
        return known

    @property
    def file_roots(self) -> Mapping[str, Sequence[str]]:
        """The folders that ``salt://`` means, as they are in force."""
        roots: Mapping[str, Sequence[str]] = self._options["file_roots"]
        return roots

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, folders and globs that native rules are read from."""
        return tuple(self._options["rules"])

    def prepare(self, paths: Iterable[str], before: Snapshot) -> None:
        """Make rules of changed files for the next load; see `RuleSet.prepare`."""
        self._rule_set.prepare(paths, before)

    def watch_paths(self) -> Iterable[str | Path]:
        """Return the files and folders that everything depends on."""
        return [self._conf_file, self._conf_folder, *self._rule_set.watch_paths()]

    def _follow(self) -> None:
        fresh = self._read()
        if fresh is None:
            return
        self._in_files = fresh
        self._use(fresh)

    def _use(self, in_files: Mapping[str, Any]) -> None:
        options = self._merge(in_files)
        if options != self._options:
            self._options = options
            self._rule_set = self._make(options)

    def _read(self) -> Opts | None:
        try:
            opts = self._read_file(self._conf_file)
        except ConfigError as error:
            log.error(  # noqa: TRY400 - a config error is one line for its reader
                "%s; the rules stay as they were", error
            )
            source = Source(error.path, error.line)
            self._problem = Problem(source, str(error).removeprefix(f"{source}: "), self._in_force)
            return None
        self._problem = None
        return opts

    def _merge(self, in_files: Mapping[str, Any]) -> dict[str, Any]:
        same_roots = in_files["file_roots"] == self._roots_in_files
        return {
            "reactor": [
                entry
                for entry in (*in_files["reactor"], *self._extra["reactor"])
                if not self._gone & entry.keys()
            ],
            "rules": [*in_files["rules"], *self._extra["rules"]],
            "file_roots": self._file_roots if same_roots else in_files["file_roots"],
        }

    def _make(self, options: Mapping[str, Any]) -> RuleSet:
        return RuleSet(
            reactor_map=options["reactor"],
            rules=options["rules"],
            file_roots=options["file_roots"],
            conf_dir=self._conf_dir,
            map_place=self._place_of("reactor"),
            rules_place=self._place_of("rules"),
        )

    def _place_of(self, name: str) -> PlaceOfEntry:
        """Return what finds an entry of an option in the files; only a problem asks for it."""
        files = self._files()

        @functools.cache
        def places() -> list[Source]:
            return [place for file in files for place in _places(file, name)]

        def place(number: int) -> Source:
            known = places()
            return known[number] if number < len(known) else Source(self._conf_dir)

        return place

    @property
    def _conf_folder(self) -> Path:
        return self._conf_file.parent / f"{self._conf_file.name}.d"

    def _files(self) -> list[Path]:
        return [self._conf_file, *sorted(self._conf_folder.glob("*.conf"))]

    def _stat(self) -> dict[str, tuple[int, int]]:
        return {str(file): _stamp(file) for file in self._files()}


def _places(file: Path, name: str) -> list[Source]:
    """Return where each entry of the list ``name`` stands in a file of the configuration."""
    try:
        value, lines = load(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError, YamlError):
        return []  # changed since it was read; it will be read again
    listed = value.get(name) if isinstance(value, dict) else None
    count = len(listed) if isinstance(listed, list) else 0
    return [Source(str(file), lines.at((name, number))) for number in range(count)]


def _beyond(values: Iterable[Any], known: Iterable[Any]) -> list[Any]:
    known = list(known)
    return [value for value in values if value not in known]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
