"""The execution module file, on real files."""

import grp
import hashlib
import os
import pwd
import stat

import pytest

from bus.errors import BusError
from bus.modules import _atomic
from tests.unit.bus.loader_tools import execution


@pytest.fixture
def file():
    """The module."""
    return execution("file")


@pytest.fixture
def path(tmp_path):
    """A file that is not there yet."""
    return tmp_path / "a file"


def test_write_and_read(file, path):
    """Lines are written, and the text says whether that changed something."""
    assert file.write(str(path), "one", "two") == f'Wrote 2 lines to "{path}"'
    assert file.read(str(path)) == "one\ntwo\n"
    assert file.write(str(path), ["one", "two"]).startswith("No change")
    assert file.write(str(path), contents="one\ntwo\n").startswith("No change")
    assert file.write(str(path), args=["three"]).startswith("Wrote 1 lines")
    assert file.read(str(path), binary=True) == b"three\n"
    with pytest.raises(ValueError, match="unknown argument 'content'"):
        file.write(str(path), content="x")


def test_write_keeps_mode_and_link(file, path, tmp_path):
    """The file behind a link is changed; its mode stays; nothing else is left there."""
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    file.write(str(link), "new")
    assert link.is_symlink()
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a file", "link"]


def test_a_new_file_follows_the_umask(file, path):
    """As any program's."""
    old = os.umask(0o027)
    try:
        file.write(str(path), "x")
    finally:
        os.umask(old)
    assert file.get_mode(str(path)) == "0640"


def test_a_write_that_fails_leaves_the_old_file(path, tmp_path, monkeypatch):
    """Neither a part of the new content nor a temporary file stays."""
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        _atomic.write(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_append_and_prepend(file, path):
    """Lines go to the end or the beginning, on lines of their own."""
    file.append(str(path), "b")
    path.write_text("b")
    assert file.append(str(path), "c", "d") == f'Appended 2 lines to "{path}"'
    file.prepend(str(path), "a")
    assert path.read_text() == "a\nb\nc\nd\n"
    assert file.append(str(path)).startswith("No change")


def test_bytes_that_are_no_text_survive(file, path):
    """A change elsewhere in the file leaves them as they were."""
    path.write_bytes(b"\xff\nport=1\n")
    file.append(str(path), "x")
    difference = file.replace(str(path), "port=1", "port=2", backup=False)
    assert path.read_bytes() == b"\xff\nport=2\nx\n"
    difference.encode()
    assert "\N{REPLACEMENT CHARACTER}" in file.read(str(path))


def test_truncate_and_touch(file, path):
    """Empty files, times, lengths."""
    assert file.touch(str(path), mtime=100) is True
    assert path.stat().st_mtime == 100
    file.touch(str(path), atime=200)
    assert path.stat().st_atime == 200
    path.write_text("12345")
    file.truncate(str(path), 2)
    assert path.read_text() == "12"


def test_contains_and_search(file, path):
    """Texts and expressions are found, with flags by name or number."""
    path.write_text("first\nport = 80\n")
    assert file.contains(str(path), "port") is True
    assert file.contains(str(path), "no") is False
    assert file.search(str(path), "^port") is True
    assert file.search(str(path), "^port", flags=0) is False
    assert file.search(str(path), "^PORT", flags=["IGNORECASE", "multiline"]) is True
    assert file.search(str(path), "^FIRST", flags="ignorecase") is True
    with pytest.raises(ValueError, match="no regular expression"):
        file.search(str(path), "(")
    with pytest.raises(ValueError, match="unknown flag 'compile'"):
        file.search(str(path), "a", flags="compile")


def test_replace(file, path):
    """The difference comes back, and the old file is kept beside."""
    path.write_text("port=1\nhost=a\nport=2\n")
    difference = file.replace(str(path), r"^port=(\d)", r"port=8\1")
    assert "-port=1\n+port=81\n" in difference
    assert path.read_text() == "port=81\nhost=a\nport=82\n"
    assert (path.parent / "a file.bak").read_text() == "port=1\nhost=a\nport=2\n"
    assert file.replace(str(path), "host=.*", "host=b", show_changes=False, backup="~") is True
    assert (path.parent / "a file~").exists()
    assert file.replace(str(path), "host=.*", "host=b", show_changes=False) is False
    assert file.replace(str(path), "port=8", "x", count=1, dry_run=True).count("+x") == 1
    assert "x" not in path.read_text()


def test_replace_what_is_not_there(file, path, tmp_path):
    """A line may be added instead."""
    path.write_text("a")
    assert file.replace(str(path), "^z", "z") == ""
    file.replace(str(path), "^z", "z", append_if_not_found=True, backup=True)
    assert path.read_text() == "a\nz\n"
    file.replace(
        str(path), "^y", "y", prepend_if_not_found=True, not_found_content="Y", backup=False
    )
    assert path.read_text() == "Y\na\nz\n"
    none = str(tmp_path / "none")
    assert file.replace(none, "a", "b", ignore_if_missing=True) == ""
    assert file.replace(none, "a", "b", ignore_if_missing=True, show_changes=False) is False
    with pytest.raises(BusError, match="No such file"):
        file.replace(none, "a", "b")


def test_replacements_with_backslashes(file, path):
    """A backslash may be taken as it is; a group that is not there is an error."""
    path.write_text("a")
    file.replace(str(path), "a", "\\1", backslash_literal=True, backup=False)
    assert path.read_text() == "\\1"
    with pytest.raises(ValueError, match="cannot be used: invalid group"):
        file.replace(str(path), ".", "\\7", backup=False)


def test_find(file, tmp_path, monkeypatch):
    """Names, types and depths; links are not followed."""
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("a.conf", "sub/b.conf", "sub/deep/c.conf", "sub/x.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "loop.conf").symlink_to(tmp_path)

    def names(**options):
        found = file.find(str(tmp_path), **options)
        return [path.removeprefix(f"{tmp_path}/") for path in found]

    assert names(name="*.conf", type="f") == ["a.conf", "sub/b.conf", "sub/deep/c.conf"]
    assert names(name="*.conf", type="l") == ["loop.conf"]
    assert names(name="*.conf", type="f", maxdepth=2, mindepth=2) == ["sub/b.conf"]
    assert names(name="s*", type="d") == ["sub"]
    assert file.find(f"{tmp_path}/s*", name="x.*") == [str(tmp_path / "sub" / "x.txt")]
    assert file.find(str(tmp_path / "none")) == []
    with pytest.raises(ValueError, match="unknown type 'q'"):
        names(type="q")
    globals_of = file.functions["file.find"].__wrapped__.__globals__
    monkeypatch.setitem(globals_of, "_MAX_FOUND", 2)
    with pytest.raises(BusError, match="more than 2 paths"):
        names()


def test_find_what_vanishes(file, tmp_path):
    """A directory that goes away, or may not be read, is left out."""
    globals_of = file.functions["file.find"].__wrapped__.__globals__
    assert globals_of["_type_letter"](tmp_path / "gone") == ""

    class Closed(type(tmp_path)):
        def iterdir(self):
            raise PermissionError

    assert [level for level, _ in globals_of["_walk"](Closed(tmp_path), 0, 5)] == [0]


def test_readdir(file, tmp_path):
    """With the two that every directory has."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_text("")
    assert file.readdir(str(tmp_path)) == [".", "..", "a", "b"]


def test_existence(file, path, tmp_path):
    """Files, directories and links are told apart."""
    path.write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert [file.exists(str(path)), file.file_exists(str(path))] == [True, True]
    assert [file.directory_exists(str(tmp_path)), file.file_exists(str(tmp_path))] == [True, False]
    assert file.is_link(str(tmp_path / "link")) is True
    assert file.exists(str(tmp_path / "link")) is False


def test_stats(file, path, tmp_path):
    """What stat(2) says, in words."""
    path.write_text("abc")
    path.chmod(0o604)
    found = file.stats(str(path), hash_type="md5")
    assert found["user"] == pwd.getpwuid(os.geteuid()).pw_name
    assert found["group"] == grp.getgrgid(path.stat().st_gid).gr_name
    assert (found["mode"], found["size"], found["type"]) == ("0604", 3, "file")
    assert found["sum"] == hashlib.md5(b"abc").hexdigest()
    (tmp_path / "link").symlink_to(path)
    assert file.stats(str(tmp_path / "link"), follow_symlinks=False)["type"] == "link"
    assert file.stats(str(tmp_path))["type"] == "dir"
    with pytest.raises(BusError, match="none: No such file"):
        file.stats(str(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_without_names(file, path):
    """Numbers that no user and group has are shown as numbers."""
    path.write_text("")
    assert file.chown(str(path), 3999999, 3999998) is True
    found = file.stats(str(path))
    assert (found["user"], found["group"]) == ("3999999", "3999998")
    file.write(str(path), "new")
    assert path.stat().st_uid == 3999999
    assert file.chown(str(path), "root", "root") is True
    assert path.stat().st_uid == 0
    assert file.chown(str(path), None) is True


def test_owners_that_are_not_there(file, path):
    """Unknown names are errors."""
    path.write_text("")
    with pytest.raises(BusError, match="no user 'no-such-user'"):
        file.chown(str(path), "no-such-user")
    with pytest.raises(BusError, match="no group 'no-such-group'"):
        file.chown(str(path), None, "no-such-group")


def test_hashes(file, path):
    """Hashes are made and compared, their kind named or told by the length."""
    path.write_text("abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert file.get_hash(str(path)) == digest
    assert file.check_hash(str(path), f"sha256:{digest}") is True
    assert file.check_hash(str(path), f"sha256={digest.upper()}") is True
    assert file.check_hash(str(path), hashlib.sha1(b"abc").hexdigest()) is True
    assert file.check_hash(str(path), "0" * 64) is False
    with pytest.raises(ValueError, match="unknown hash 'crc'"):
        file.get_hash(str(path), "crc")
    with pytest.raises(ValueError, match="no hash is 3 digits long"):
        file.check_hash(str(path), "abc")


def test_copy_rename_move(file, path, tmp_path):
    """Files and directories get other places."""
    path.write_text("x")
    other, third = tmp_path / "other", tmp_path / "third"
    assert file.copy(str(path), str(other)) is True
    assert file.rename(str(other), str(third)) is True
    assert file.move(str(third), str(other))["result"] is True
    assert other.read_text() == "x"
    assert not third.exists()
    tree, target = tmp_path / "tree", tmp_path / "target"
    tree.mkdir()
    (tree / "f").write_text("f")
    target.mkdir()
    (target / "old").write_text("")
    file.copy(str(tree), str(target), recurse=True)
    assert sorted(entry.name for entry in target.iterdir()) == ["f", "old"]
    file.copy(str(tree), str(target), recurse=True, remove_existing=True)
    assert [entry.name for entry in target.iterdir()] == ["f"]


def test_links(file, path, tmp_path):
    """Links are made, kept, replaced and read."""
    path.write_text("x")
    link = tmp_path / "link"
    assert file.symlink(str(path), str(link)) is True
    assert file.symlink(str(path), str(link)) is True
    with pytest.raises(BusError, match="File exists"):
        file.symlink("/other", str(link))
    file.symlink("other", str(link), force=True)
    assert file.readlink(str(link)) == "other"
    assert file.readlink(str(link), canonicalize=True) == os.path.realpath(tmp_path / "other")


def test_remove(file, path, tmp_path):
    """Files, links and trees go; the root never does."""
    path.write_text("")
    (tmp_path / "link").symlink_to("/nowhere")
    (tmp_path / "d" / "e").mkdir(parents=True)
    assert [file.remove(str(tmp_path / name)) for name in ("a file", "link", "d")] == [True] * 3
    assert file.remove(str(path)) is False
    assert list(tmp_path.iterdir()) == []
    for root in ("/", "//", "/tmp/.."):
        with pytest.raises(ValueError, match="root of the file system"):
            file.remove(root)


def test_directories(file, tmp_path):
    """Mkdir makes the path itself, makedirs what holds it."""
    inner = tmp_path / "a" / "b"
    assert file.mkdir(str(inner), mode=750) is True
    assert file.get_mode(str(inner)) == "0750"
    assert file.mkdir(str(inner)) is True
    assert file.makedirs(f"{tmp_path}/c/d") is True
    assert (tmp_path / "c").is_dir()
    assert not (tmp_path / "c" / "d").exists()
    assert file.makedirs(f"{tmp_path}/c/d/", user=os.geteuid()) is True
    assert (tmp_path / "c" / "d").is_dir()


@pytest.mark.parametrize("mode", ["0640", "640", 640, 0o640])
def test_modes(file, path, mode):
    """However the digits came through YAML, they mean the same."""
    path.write_text("")
    assert file.set_mode(str(path), mode) == "0640"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("9", "not octal"),
        ("77777", "out of range"),
        (123, "not clear"),
        (1, "not clear"),
        (99, "not clear"),
    ],
)
def test_modes_that_are_not_clear(file, path, mode, reason):
    """A wrong mode would be a hole: it is refused."""
    path.write_text("")
    with pytest.raises(ValueError, match=reason):
        file.set_mode(str(path), mode)


def test_parts_of_paths(file):
    """Paths are taken apart and joined."""
    assert file.basename("/a/b.c") == "b.c"
    assert file.dirname("/a/b.c") == "/a"
    assert file.join("/", "usr", "bin") == "/usr/bin"


def test_odd_paths(file):
    """A path must not depend on where the minion was started."""
    with pytest.raises(ValueError, match="'etc/passwd' is not absolute"):
        file.read("etc/passwd")
    with pytest.raises(ValueError, match="NUL"):
        file.exists("/tmp/a\0b")
    assert file.directory_exists("~") is True
