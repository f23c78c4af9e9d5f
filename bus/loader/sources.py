"""Where functions come from: the module files of a row of directories."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
_PACKAGE_FILE = "__init__.py"


@dataclass(frozen=True, slots=True)
class Source:
    """One module file, not loaded yet.

    Attributes:
        name: the file's (or package's) own name, such as ``test``.
        path: the file to execute; of a package its ``__init__.py``.
        shipped: it came with this program, so that its byte code may be cached beside it.
        may_rename: its text speaks of ``__virtual__``, so what it is called is known only once
            it has run.
    """

    name: str
    path: Path
    shipped: bool
    may_rename: bool

    @property
    def is_package(self) -> bool:
        """Whether it is a directory with further files."""
        return self.path.name == _PACKAGE_FILE


def package_dir(package: str) -> Path:
    """Return where the sub-package ``bus.<package>`` keeps its files."""
    return Path(__file__).resolve().parent.parent / package


def find(shipped: Path, custom: Iterable[str | Path] = ()) -> list[Source]:
    """Return the module files of all directories, the most important last.

    Args:
        shipped: the directory that comes with this program.
        custom: further directories; a file there takes the place of one with the same name in
            an earlier directory. One that is not there holds nothing.
    """
    found: dict[str, Source] = {}
    for directory, own in ((shipped, True), *((Path(name), False) for name in custom)):
        for path in _module_files(directory):
            source = _source(path, own)
            found.pop(source.name, None)
            found[source.name] = source
    return list(found.values())


def _module_files(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        _LOG.debug("no modules from %s: %s", directory, error.strerror)
        return []
    candidates = (_module_file(entry) for entry in entries)
    return [path for path in candidates if path is not None]


def _module_file(entry: Path) -> Path | None:
    """Return the file to execute for a directory entry, if it is a public module."""
    if entry.name.startswith("_") or not entry.stem.isidentifier():
        return None
    if entry.suffix == ".py" and entry.is_file():
        return entry
    package = entry / _PACKAGE_FILE
    return package if not entry.suffix and package.is_file() else None


def _source(path: Path, shipped: bool) -> Source:
    name = path.parent.name if path.name == _PACKAGE_FILE else path.stem
    return Source(name, path, shipped, not shipped and _mentions_virtual(path))


def _mentions_virtual(path: Path) -> bool:
    """A file that cannot be read says why when it is loaded, under its own name."""
    try:
        return b"__virtual" in path.read_bytes()
    except OSError:
        return False
