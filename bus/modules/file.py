"""Reads and changes files. Every change of content is atomic: all of it or nothing."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import glob
import grp
import hashlib
import os
import pwd
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bus.modules import _atomic, _modes
from bus.modules._errors import ExecutionError, InvocationError

_MAX_FOUND = 100_000
"""Paths that one ``find`` returns: beyond it the answer fits into no event."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _clear(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Say what the system refuses in one line."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            what = error.strerror or str(error)
            place = f"{error.filename}: " if error.filename else ""
            raise ExecutionError(f"{place}{what}") from error

    return wrapped


def _path(path: str) -> Path:
    """Return the path, with ``~`` resolved; it must not depend on where a process stands."""
    expanded = Path(path).expanduser()
    if not expanded.is_absolute():
        raise InvocationError(f"the path {str(path)!r} is not absolute: begin it with /")
    if "\0" in str(path):
        raise InvocationError("the path has a NUL character")
    return expanded


# -- content ------------------------------------------------------------------------------


@_clear
def read(path: str, binary: bool = False) -> str | bytes:
    """Return what a file holds.

    CLI example: ``reactor cmd web1 file.read /etc/hostname``
    """
    content = _path(path).read_bytes()
    return content if binary else content.decode(errors="replace")


@_clear
def write(path: str, *args: str | list[str], **kwargs: Any) -> str:
    """Replace what a file holds by these lines, and say whether that changed it.

    CLI example: ``reactor cmd web1 file.write /etc/motd 'line one' 'line two'``

    Args:
        path: the file.
        *args: lines, or lists of them.
        **kwargs: ``args`` or ``contents``: lines, as one text or as a list.
    """
    lines = _lines(args, kwargs)
    return _put(path, _text(lines), f"Wrote {len(lines)} lines to")


@_clear
def append(path: str, *args: str | list[str], **kwargs: Any) -> str:
    """Put lines at the end of a file; it is made if it is not there.

    CLI example: ``reactor cmd web1 file.append /etc/motd 'one more line'``
    """
    lines = _lines(args, kwargs)
    old = _old_text(path)
    gap = "\n" if old and not old.endswith("\n") else ""
    return _put(path, old + gap + _text(lines), f"Appended {len(lines)} lines to")


@_clear
def prepend(path: str, *args: str | list[str], **kwargs: Any) -> str:
    """Put lines at the beginning of a file; it is made if it is not there.

    CLI example: ``reactor cmd web1 file.prepend /etc/motd 'a first line'``
    """
    lines = _lines(args, kwargs)
    return _put(path, _text(lines) + _old_text(path), f"Prepended {len(lines)} lines to")


def _lines(args: tuple[str | list[str], ...], kwargs: dict[str, Any]) -> list[str]:
    unknown = [name for name in kwargs if name not in {"args", "contents"}]
    if unknown:
        raise InvocationError(f"unknown argument {unknown[0]!r}: give lines, or contents=...")
    given = [*args, *(kwargs[name] for name in ("args", "contents") if name in kwargs)]
    lines: list[str] = []
    for item in given:
        lines += [str(line) for line in item] if isinstance(item, list | tuple) else [str(item)]
    return lines


def _text(lines: list[str]) -> str:
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _old_text(path: str) -> str:
    try:
        return _decode(_path(path).read_bytes())
    except FileNotFoundError:
        return ""


def _decode(content: bytes) -> str:
    """Bytes that are no text come back as they were when the rest is written again."""
    return content.decode(errors="surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _put(path: str, text: str, done: str) -> str:
    target, content = _path(path), _encode(text)
    if target.is_file() and target.read_bytes() == content:
        return f'No change: "{path}" already holds this'
    _atomic.write(target, content)
    return f'{done} "{path}"'


@_clear
def truncate(path: str, length: int) -> bool:
    """Cut a file off after so many bytes.

    CLI example: ``reactor cmd web1 file.truncate /var/log/app.log 0``
    """
    os.truncate(_path(path), int(length))
    return True


@_clear
def touch(name: str, atime: float | None = None, mtime: float | None = None) -> bool:
    """Make an empty file, or give a file new times: now, or those given in seconds.

    CLI example: ``reactor cmd web1 file.touch /var/log/emptyfile``
    """
    path = _path(name)
    path.touch()
    if atime is not None or mtime is not None:
        now = datetime.now(UTC).timestamp()
        os.utime(
            path, (now if atime is None else float(atime), now if mtime is None else float(mtime))
        )
    return True


# -- searching and replacing --------------------------------------------------------------


@_clear
def contains(path: str, text: str) -> bool:
    """Say whether a file holds this text.

    CLI example: ``reactor cmd web1 file.contains /etc/hosts web2``
    """
    return str(text) in _decode(_path(path).read_bytes())


@_clear
def search(path: str, pattern: str, flags: int | str | list[str] = 8) -> bool:
    """Say whether a regular expression matches in a file.

    CLI example: ``reactor cmd web1 file.search /etc/hosts '^127'``

    Args:
        path: the file.
        pattern: the expression.
        flags: names as ``re`` has them (``IGNORECASE``), or their sum; 8 is ``MULTILINE``.
    """
    return _compile(pattern, flags).search(_decode(_path(path).read_bytes())) is not None


@_clear
def replace(
    path: str,
    pattern: str,
    repl: str,
    count: int = 0,
    flags: int | str | list[str] = 8,
    append_if_not_found: bool = False,
    prepend_if_not_found: bool = False,
    not_found_content: str | None = None,
    backup: str | bool = ".bak",
    dry_run: bool = False,
    show_changes: bool = True,
    ignore_if_missing: bool = False,
    backslash_literal: bool = False,
) -> str | bool:
    r"""Replace what a regular expression matches in a file.

    CLI example: ``reactor cmd web1 file.replace /etc/app.conf '^port=.*' 'port=8080'``

    Args:
        path: the file.
        pattern: the expression.
        repl: what to put there; ``\1`` is the first group.
        count: how many at most; 0 is all.
        flags: as for ``file.search``.
        append_if_not_found: put ``repl`` at the end if nothing matches.
        prepend_if_not_found: put it at the beginning.
        not_found_content: put this instead of ``repl``.
        backup: the ending of a copy of the old file; false makes none.
        dry_run: change nothing.
        show_changes: return the difference; otherwise whether there is one.
        ignore_if_missing: a file that is not there is no error.
        backslash_literal: a backslash in ``repl`` is only a backslash.
    """
    target = _path(path)
    if not target.exists() and ignore_if_missing:
        return "" if show_changes else False
    old = _decode(target.read_bytes())
    new = _substituted(_compile(pattern, flags), repl, old, int(count), literal=backslash_literal)
    if new is None:
        content = repl if not_found_content is None else not_found_content
        new = _with_content(old, content, append_if_not_found, prepend_if_not_found)
    if new != old and not dry_run:
        _back_up(target, backup)
        _atomic.write(target, _encode(new))
    return _difference(old, new) if show_changes else new != old


def _compile(pattern: str, flags: int | str | list[str]) -> re.Pattern[str]:
    try:
        return re.compile(str(pattern), _flags(flags))
    except re.error as error:
        raise InvocationError(f"{pattern!r} is no regular expression: {error}") from error


def _flags(flags: int | str | list[str]) -> int:
    if isinstance(flags, int):
        return flags
    total = 0
    for name in [flags] if isinstance(flags, str) else flags:
        flag = getattr(re, str(name).upper(), None)
        if not isinstance(flag, re.RegexFlag):
            raise InvocationError(f"unknown flag {name!r}: use IGNORECASE, MULTILINE or DOTALL")
        total |= flag
    return int(total)


def _substituted(
    expression: re.Pattern[str], repl: str, old: str, count: int, *, literal: bool
) -> str | None:
    """Return the new text, or ``None`` if nothing matches."""
    try:
        new, matches = expression.subn((lambda _: repl) if literal else repl, old, count)
    except (re.error, IndexError) as error:
        raise InvocationError(f"the replacement {repl!r} cannot be used: {error}") from error
    return new if matches else None


def _with_content(old: str, content: str, at_end: bool, at_begin: bool) -> str:
    line = _text([content])
    if at_begin:
        return line + old
    if at_end:
        return old + ("\n" if old and not old.endswith("\n") else "") + line
    return old


def _back_up(target: Path, backup: str | bool) -> None:
    if backup:
        ending = backup if isinstance(backup, str) else ".bak"
        shutil.copy2(target, target.with_name(target.name + ending))


def _difference(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True))
    return "".join(lines).encode(errors="replace").decode()


@_clear
def find(
    path: str,
    name: str = "*",
    type: str = "",
    mindepth: int = 0,
    maxdepth: int | None = None,
) -> list[str]:
    """Return the paths in a tree whose last part matches a glob, sorted.

    CLI example: ``reactor cmd web1 file.find /etc name='*.conf' type=f``

    Args:
        path: where to begin; may itself be a glob.
        name: the glob.
        type: letters of the wanted types: ``f`` file, ``d`` directory, ``l`` symbolic link.
        mindepth: leave out what is nearer than so many levels; ``path`` itself is level 0.
        maxdepth: go no deeper.
    """
    wanted = _Wanted(re.compile(fnmatch.translate(name)), _type_letters(type))
    depth = sys.maxsize if maxdepth is None else int(maxdepth)
    found: list[str] = []
    for root in sorted(glob.glob(str(_path(path)))):  # noqa: PTH207 - Path.glob has no absolutes
        for level, place in _walk(Path(root), 0, depth):
            if level >= int(mindepth) and wanted.matches(place):
                found.append(str(place))
        _check_number(found)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What ``find`` looks for; no type letters means every type."""

    name: re.Pattern[str]
    types: frozenset[str]

    def matches(self, path: Path) -> bool:
        return self.name.match(path.name) is not None and self._has_type(path)

    def _has_type(self, path: Path) -> bool:
        return not self.types or _type_letter(path) in self.types


def _type_letters(letters: str) -> frozenset[str]:
    known = {letter for _, letter, _ in _TYPES}
    unknown = sorted(set(letters) - known)
    if unknown:
        raise InvocationError(f"unknown type {unknown[0]!r}: use letters of {sorted(known)}")
    return frozenset(letters)


def _type_letter(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except OSError:  # gone since the directory was read
        return ""
    return next((letter for _, letter, test in _TYPES if test(mode)), "")


def _walk(path: Path, level: int, depth: int) -> Iterator[tuple[int, Path]]:
    """Yield a path and all below it; links are not followed, what may not be read is left out."""
    yield level, path
    if level >= depth or path.is_symlink() or not path.is_dir():
        return
    try:
        entries = list(path.iterdir())
    except OSError:
        return
    for entry in entries:
        yield from _walk(entry, level + 1, depth)


def _check_number(found: list[str]) -> None:
    if len(found) > _MAX_FOUND:
        raise ExecutionError(f"more than {_MAX_FOUND} paths match: look in a smaller tree")


@_clear
def readdir(path: str) -> list[str]:
    """Return the names in a directory, ``.`` and ``..`` included.

    CLI example: ``reactor cmd web1 file.readdir /etc``
    """
    return [".", "..", *sorted(entry.name for entry in _path(path).iterdir())]


# -- what is there ------------------------------------------------------------------------


def exists(path: str) -> bool:
    """Say whether there is anything at this path.

    CLI example: ``reactor cmd web1 file.exists /etc/passwd``
    """
    return _path(path).exists()


def file_exists(path: str) -> bool:
    """Say whether there is a file at this path.

    CLI example: ``reactor cmd web1 file.file_exists /etc/passwd``
    """
    return _path(path).is_file()


def directory_exists(path: str) -> bool:
    """Say whether there is a directory at this path.

    CLI example: ``reactor cmd web1 file.directory_exists /etc``
    """
    return _path(path).is_dir()


def is_link(path: str) -> bool:
    """Say whether there is a symbolic link at this path.

    CLI example: ``reactor cmd web1 file.is_link /etc/mtab``
    """
    return _path(path).is_symlink()


@_clear
def stats(path: str, hash_type: str | None = None, follow_symlinks: bool = True) -> dict[str, Any]:
    """Return what the system knows of a file: owner, mode, size, times, type.

    CLI example: ``reactor cmd web1 file.stats /etc/passwd hash_type=sha256``
    """
    target = _path(path)
    info = target.stat(follow_symlinks=follow_symlinks)
    found: dict[str, Any] = {
        "inode": info.st_ino,
        "uid": info.st_uid,
        "gid": info.st_gid,
        "user": _user_name(info.st_uid),
        "group": _group_name(info.st_gid),
        "atime": info.st_atime,
        "mtime": info.st_mtime,
        "ctime": info.st_ctime,
        "size": info.st_size,
        "mode": _octal(info.st_mode),
        "type": _type_name(info.st_mode),
        "target": os.path.realpath(target) if follow_symlinks else str(target),
    }
    return {**found, "sum": get_hash(path, hash_type)} if hash_type else found


_TYPES: tuple[tuple[str, str, Callable[[int], bool]], ...] = (
    ("file", "f", stat.S_ISREG),
    ("dir", "d", stat.S_ISDIR),
    ("link", "l", stat.S_ISLNK),
    ("pipe", "p", stat.S_ISFIFO),
    ("socket", "s", stat.S_ISSOCK),
    ("block", "b", stat.S_ISBLK),
    ("char", "c", stat.S_ISCHR),
)


def _type_name(mode: int) -> str:
    return next((name for name, _, test in _TYPES if test(mode)), "unknown")


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


@_clear
def get_hash(path: str, form: str = "sha256") -> str:
    """Return the hash of a file's content.

    CLI example: ``reactor cmd web1 file.get_hash /etc/passwd sha512``
    """
    if form not in hashlib.algorithms_guaranteed or form.startswith("shake"):
        raise InvocationError(f"unknown hash {form!r}: use one such as sha256 or sha512")
    with _path(path).open("rb") as file:
        return hashlib.file_digest(file, form).hexdigest()


def check_hash(path: str, file_hash: str) -> bool:
    """Say whether a file has this hash, given as ``sha256:<hex>`` or in hex alone.

    CLI example: ``reactor cmd web1 file.check_hash /etc/fstab sha256:<hex>``
    """
    form, separator, digest = str(file_hash).replace("=", ":", 1).rpartition(":")
    if not separator:
        form = _form_by_length(digest)
    return get_hash(path, form) == digest.lower()


def _form_by_length(digest: str) -> str:
    known = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
    lengths = {hashlib.new(form, usedforsecurity=False).digest_size * 2: form for form in known}
    form = lengths.get(len(digest))
    if form is None:
        raise InvocationError(f"no hash is {len(digest)} digits long: write it as sha256:<hex>")
    return form


# -- moving, linking, removing ------------------------------------------------------------


@_clear
def copy(src: str, dst: str, recurse: bool = False, remove_existing: bool = False) -> bool:
    """Copy a file, or with ``recurse`` a directory, with its mode and times.

    CLI example: ``reactor cmd web1 file.copy /etc/app.conf /etc/app.conf.old``
    """
    source, target = _path(src), _path(dst)
    if not recurse:
        shutil.copy2(source, target)
        return True
    if remove_existing and (target.exists() or target.is_symlink()):
        remove(dst)
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    return True


@_clear
def rename(src: str, dst: str) -> bool:
    """Give a file another name on the same file system.

    CLI example: ``reactor cmd web1 file.rename /srv/new /srv/current``
    """
    _path(src).rename(_path(dst))
    return True


@_clear
def move(src: str, dst: str) -> dict[str, Any]:
    """Move a file or directory, also to another file system.

    CLI example: ``reactor cmd web1 file.move /tmp/app.tar /srv/app.tar``
    """
    shutil.move(_path(src), _path(dst))
    return {"result": True, "comment": f"'{src}' moved to '{dst}'"}


@_clear
def symlink(src: str, path: str, force: bool = False) -> bool:
    """Make a symbolic link at ``path`` that leads to ``src``.

    CLI example: ``reactor cmd web1 file.symlink /srv/app-2.0 /srv/app``

    Args:
        src: where it leads.
        path: the link.
        force: put it in the place of another link.
    """
    link = _path(path)
    if link.is_symlink() and str(link.readlink()) == str(src):
        return True
    if force and link.is_symlink():
        link.unlink()
    link.symlink_to(src)
    return True


@_clear
def readlink(path: str, canonicalize: bool = False) -> str:
    """Return where a symbolic link leads; ``canonicalize`` follows it to the end.

    CLI example: ``reactor cmd web1 file.readlink /srv/app``
    """
    link = _path(path)
    return os.path.realpath(link) if canonicalize else str(link.readlink())


@_clear
def remove(path: str) -> bool:
    """Remove a file, a link, or a directory with all in it; false if nothing is there.

    CLI example: ``reactor cmd web1 file.remove /srv/app-1.0``
    """
    target = _path(path)
    if Path(os.path.normpath(target)) == Path(target.anchor):
        raise InvocationError("the root of the file system is not removed")
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
        return True
    if not target.exists() and not target.is_symlink():
        return False
    target.unlink()
    return True


@_clear
def mkdir(
    dir_path: str,
    user: str | int | None = None,
    group: str | int | None = None,
    mode: str | int | None = None,
) -> bool:
    """Make a directory and those above it; one that is there stays as it is.

    CLI example: ``reactor cmd web1 file.mkdir /srv/app/releases mode=750``
    """
    target = _path(dir_path)
    if target.is_dir():
        return True
    target.mkdir(parents=True)
    if mode is not None:
        set_mode(dir_path, mode)
    if user is not None or group is not None:
        chown(dir_path, user, group)
    return True


def makedirs(
    path: str,
    user: str | int | None = None,
    group: str | int | None = None,
    mode: str | int | None = None,
) -> bool:
    """Make the directory that holds ``path``; with a ``/`` at the end, ``path`` itself.

    CLI example: ``reactor cmd web1 file.makedirs /srv/app/releases/``
    """
    return mkdir(os.path.dirname(str(path)), user, group, mode)  # noqa: PTH120 - keeps the end's /


# -- owner and mode -----------------------------------------------------------------------


@_clear
def chown(path: str, user: str | int | None, group: str | int | None = None) -> bool:
    """Give a file another owner, by name or number; ``None`` leaves what is there.

    CLI example: ``reactor cmd web1 file.chown /srv/app www-data www-data``
    """
    os.chown(_path(path), _uid(user), _gid(group))
    return True


def _uid(user: str | int | None) -> int:
    if user is None or isinstance(user, int):
        return -1 if user is None else user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ExecutionError(f"there is no user {user!r}") from error


def _gid(group: str | int | None) -> int:
    if group is None or isinstance(group, int):
        return -1 if group is None else group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ExecutionError(f"there is no group {group!r}") from error


@_clear
def get_mode(path: str) -> str:
    """Return the permissions of a file in octal, such as ``0644``.

    CLI example: ``reactor cmd web1 file.get_mode /etc/passwd``
    """
    return _octal(_path(path).stat().st_mode)


@_clear
def set_mode(path: str, mode: str | int) -> str:
    """Set the permissions of a file, given in octal, and return them.

    CLI example: ``reactor cmd web1 file.set_mode /etc/app.conf 0640``
    """
    _path(path).chmod(_modes.read(mode, _modes.USUAL_MODES))
    return get_mode(path)


# -- paths --------------------------------------------------------------------------------


def basename(path: str) -> str:
    """Return the last part of a path.

    CLI example: ``reactor cmd web1 file.basename /srv/app/app.conf``
    """
    return os.path.basename(path)  # noqa: PTH119 - Salt's meaning: empty after a final slash


def dirname(path: str) -> str:
    """Return all but the last part of a path.

    CLI example: ``reactor cmd web1 file.dirname /srv/app/app.conf``
    """
    return os.path.dirname(path)  # noqa: PTH120 - the same


def join(*parts: str) -> str:
    """Join the parts of a path.

    CLI example: ``reactor cmd web1 file.join / usr local bin``
    """
    return os.path.join(*(str(part) for part in parts))  # noqa: PTH118 - the same
