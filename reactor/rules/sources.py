"""Finds rule files: folders, globs, ``salt://`` addresses and includes. Reads the file system."""

# Thousands of files are looked at again after every change, so paths stay text:
# ruff: noqa: PTH110, PTH111, PTH112, PTH113, PTH116, PTH118, PTH120, PTH123, PTH207

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

from reactor.errors import RuleError
from reactor.rules.loadstate import Stamp, Text

SALT = "salt://"
MAX_FILE = 1_048_576
"""Bytes of a rule file: more than any person writes, and as large as an event may be."""

_SUFFIXES = (".yaml", ".yml")
REACTOR_SUFFIX = ".sls"
"""What Salt's reactor files end with: a map names them, or nothing reacts by them."""
TESTS = (".test.yaml", ".test.yml")
"""What test suites of rules end with; they lie beside the rules and are none."""

_RACY = 100_000_000
"""Nanoseconds: a file that changed so lately may change again within one tick of its clock, as
git's "racy" entries do."""


class Finder:
    """Finds files, and keeps count of everything whose change would change what it finds.

    Args:
        conf_dir: the folder that relative paths of the configuration start from.
        file_roots: environment -> folders that ``salt://`` means.

    Attributes:
        watched: files and folders whose change would change what was found.
        unreadable: what is wrong with folders that were to be walked.
        reactor_files: the reactor files in folders that were walked for rules, by the folder.
    """

    def __init__(self, conf_dir: str, file_roots: Mapping[str, Sequence[str]]) -> None:
        self.conf_dir = conf_dir
        self._file_roots = file_roots
        self.watched: set[str] = set()
        self.unreadable: list[RuleError] = []
        self.reactor_files: dict[str, list[str]] = {}

    def rule_paths(self, entry: str) -> list[str]:
        """Return the files that an entry of the option ``rules`` means.

        Raises:
            RuleError: there is no such file or folder.
        """
        path = os.path.join(self.conf_dir, os.path.expanduser(entry))
        if glob.has_magic(path) and not os.path.exists(path):
            return [found for match in self._glob(path) for found in self._files_of(match)]
        if not os.path.exists(path):
            self._watch_above(path)
            raise RuleError(f"{entry!r}: there is no such file or folder")
        return list(self._files_of(os.path.normpath(path)))

    def reaction_paths(self, text: str, folder: str) -> list[str]:
        """Return the files that a path in a ``reactor:`` map means.

        Args:
            text: a path, a glob of paths, or ``salt://...``.
            folder: what a relative path starts from.

        Raises:
            RuleError: there is no such file.
        """
        bases = self._candidates(text, folder)
        for path in bases:
            if glob.has_magic(path) and not os.path.exists(path):
                found = [match for match in self._glob(path) if os.path.isfile(match)]
            else:
                found = [path] if os.path.isfile(path) else []
            self._watch_above(path)
            if found:
                return found
        if glob.has_magic(text):
            return []
        where = f" under {', '.join(sorted({os.path.dirname(path) for path in bases}))}"
        raise RuleError(f"{text!r}: there is no such file{where if bases else ''}")

    def include_path(self, name: str, parent: str, root: str) -> str | None:
        """Return the file that an include means, or None: first beside the file, then in the roots.

        Args:
            name: as the include has it.
            parent: the file that the include stands in.
            root: the reactor file that all began with.
        """
        candidates = self._candidates(name, "") if name.startswith(SALT) else []
        if not candidates:
            folders = dict.fromkeys((os.path.dirname(parent), os.path.dirname(root)))
            folders.update(dict.fromkeys(self._roots("")))
            candidates = [os.path.normpath(os.path.join(folder, name)) for folder in folders]
        for path in candidates:
            self._watch_above(path)
            if os.path.isfile(path):
                return path
        return None

    def _candidates(self, text: str, folder: str) -> list[str]:
        if not text.startswith(SALT):
            return [os.path.normpath(os.path.join(folder, os.path.expanduser(text)))]
        inner, _, query = text.removeprefix(SALT).partition("?saltenv=")
        inner = os.path.normpath(inner.lstrip("/"))
        if inner == ".." or inner.startswith("../"):
            return []
        return [os.path.join(root, inner) for root in self._roots(query)]

    def _roots(self, environment: str) -> list[str]:
        """Return the folders of one environment, or of all, ``base`` first."""
        names = [environment] if environment else sorted(self._file_roots, key=_base_first)
        return [root for name in names for root in self._file_roots.get(name, ())]

    def _glob(self, pattern: str) -> list[str]:
        self._watch_above(pattern)
        found = sorted(map(os.path.normpath, glob.iglob(pattern, recursive=True)))
        self.watched.update(os.path.dirname(path) for path in found)
        return found

    def _files_of(self, path: str) -> Iterator[str]:
        if os.path.isdir(path):
            aside = self.reactor_files.setdefault(path, [])
            yield from self._walk(path, {os.path.realpath(path)}, aside)
        else:
            self.watched.update((path, os.path.dirname(path)))
            yield path

    def _walk(self, folder: str, seen: set[str], aside: list[str]) -> Iterator[str]:
        """Yield the rule files below a folder, and put its reactor files aside."""
        self.watched.add(folder)
        for entry in sorted(self._visible(folder), key=lambda entry: entry.name):
            if not _is_folder(entry):
                if entry.name.endswith(_SUFFIXES) and not entry.name.endswith(TESTS):
                    yield entry.path
                elif entry.name.endswith(REACTOR_SUFFIX):
                    aside.append(entry.path)
                continue
            # A link to a folder above would go round for ever.
            real = os.path.realpath(entry.path)
            if real not in seen:
                yield from self._walk(entry.path, seen | {real}, aside)

    def _visible(self, folder: str) -> Iterable[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            self.unreadable.append(RuleError(f"cannot be read: {error.strerror}", folder))
            return ()

    def _watch_above(self, path: str) -> None:
        """Watch the folder where ``path`` is, or where what leads to it would have to appear."""
        folder = os.path.dirname(path)
        while folder and (glob.has_magic(folder) or not os.path.isdir(folder)):
            above = os.path.dirname(folder)
            if above == folder:
                break
            folder = above
        self.watched.add(folder or ".")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder to walk; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _base_first(name: str) -> tuple[bool, str]:
    return name != "base", name


class Reader:
    """Reads the texts of files, and only those that changed.

    Args:
        known: the texts that were read before, by path.
        clock: nanoseconds since 1970.
    """

    def __init__(self, known: Mapping[str, Text], clock: Callable[[], int]) -> None:
        self._known = known
        self._clock = clock
        self.texts: dict[str, Text] = {}

    def read(self, path: str) -> Text:
        """Return the text of ``path``.

        Raises:
            FileNotFoundError: it is gone.
            RuleError: it cannot be read as text.
        """
        text = self.texts.get(path)
        if text is None:
            text = self.texts[path] = self._read(path)
        return text

    def _read(self, path: str) -> Text:
        known = self._known.get(path)
        try:
            status = os.stat(path)
            stamp = _stamp(status)
            if known is not None and known.stamp == stamp:
                return known
            _check_status(path, status)
            with open(path, "rb") as file:
                raw = file.read(MAX_FILE)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RuleError(f"cannot be read: {error.strerror}", path) from error
        settled = self._clock() - status.st_mtime_ns > _RACY
        return _text(path, raw, stamp if settled else None, known)


def _check_status(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RuleError("is no regular file", path)
    if status.st_size > MAX_FILE:
        raise RuleError(f"has {status.st_size} bytes: at most {MAX_FILE} are read", path)


def _text(path: str, raw: bytes, stamp: Stamp | None, known: Text | None) -> Text:
    digest = blake2b(raw, digest_size=16).digest()
    if known is not None and known.digest == digest:
        return replace(known, stamp=stamp)
    try:
        return Text(path, digest, raw.decode("utf-8-sig"), stamp)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RuleError("is no UTF-8 text", path, line) from error


def _stamp(status: os.stat_result) -> Stamp:
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )
