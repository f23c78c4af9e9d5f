"""The lists of whom a master accepts or rejects unseen: lines, files, and the link itself."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bus.config import master_config
from bus.keys import fingerprint
from bus.link import autosign, autosignfiles
from bus.link.autosign import ACCEPT, ASK, REJECT, Entries, parse
from bus.link.autosignfiles import ListFile, Policy
from tests.unit.bus.test_link_end_to_end import Master, Minion, until

KEY, OTHER = b"0" * 40, b"1" * 40


# -- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "ident", "matches"),
    [
        ("web1", "web1", True),
        ("web1", "web10", False),
        ("web*", "web1", True),
        ("web*", "WEB1", False),
        ("web[12]", "web2", True),
        (r"web\d+", "web12", True),
        (r"web\d+", "web12x", False),
        (r"web\d+", "xweb12", False),
        ("(web|db)1", "db1", True),
        ("*", "anything", True),
        ("*.example.com", "a.example.com", True),
        ("  web1   # the first", "web1", True),
        ("#web1", "web1", False),
        ("", "web1", False),
        ("a#1", "a#1", True),
        (f"web1 {fingerprint(KEY)}", "web1", True),
        (f"web1 {fingerprint(OTHER)}", "web1", False),
        (f"* {fingerprint(KEY)}  # ours", "db9", True),
        (f"* {fingerprint(OTHER)}", "db9", False),
    ],
)
def test_a_line(line: str, ident: str, matches: bool) -> None:
    """An id, a glob or a whole regular expression, with or without a fingerprint."""
    entries = parse(line.encode())
    assert entries.problems == ()
    assert entries.match(ident, KEY) is matches


def test_bad_lines_do_not_hide_the_others() -> None:
    """Each has its number; the rest counts."""
    short = fingerprint(KEY)[:-3]
    content = f"web1\nweb( \na b c\nb1 {short}\nb2 rubbish\n".encode() + b"\xff\nweb2\n"
    entries = parse(b"\xef\xbb\xbf" + content)
    assert [each.line for each in entries.problems] == [2, 3, 4, 5, 6]
    texts = [each.text for each in entries.problems]
    for text, part in zip(
        texts, ["no regular expr", "3 words", "copy it whole", "not hex", "UTF-8"], strict=True
    ):
        assert part in text
    assert entries.match("web1", KEY)
    assert entries.match("web2", KEY)
    assert not entries.match("b1", KEY)


@pytest.mark.parametrize(
    ("sign", "reject", "accept_all", "verdict"),
    [
        ("", "", False, ASK),
        ("web*", "", False, ACCEPT),
        ("web*", "web1", False, REJECT),
        ("", "web1", True, REJECT),
        ("", "", True, ACCEPT),
        ("", "db*", True, ACCEPT),
        (None, "", False, ASK),
        (None, "", True, ACCEPT),
        ("web*", None, False, ASK),
        ("web*", None, True, ASK),
    ],
)
def test_reject_beats_accept(
    sign: str | None, reject: str | None, accept_all: bool, verdict: str
) -> None:
    """And where nobody knows who is to be rejected, nobody is accepted unseen."""
    lists = [None if text is None else parse(text.encode()) for text in (sign, reject)]
    found = autosign.decide("web1", KEY, sign=lists[0], reject=lists[1], accept_all=accept_all)
    assert found == verdict


# -- files ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "autosign.conf"
    path.write_text("web1\n")
    path.chmod(0o600)
    return path


def _says(file: ListFile, ident: str) -> bool:
    entries = file.entries()
    return entries is not None and entries.match(ident, KEY)


def test_the_options_have_a_default_beside_the_configuration(tmp_path: Path) -> None:
    """Salt's names; relative paths start from the directory."""
    (tmp_path / "master").write_text("autoreject_file: lists/no\n")
    opts = master_config(tmp_path)
    assert opts["autosign_file"] == str(tmp_path / "autosign.conf")
    assert opts["autoreject_file"] == str(tmp_path / "lists/no")


def test_a_file_comes_changes_and_goes(path: Path) -> None:
    """Each change counts at the next question, however soon it comes after another."""
    file = ListFile(path)
    assert _says(file, "web1")
    path.write_text("web2\n")
    assert not _says(file, "web1")
    assert _says(file, "web2")
    path.unlink()
    assert file.entries() == Entries()
    path.write_text("web3\n")
    path.chmod(0o600)
    assert _says(file, "web3")


def test_an_unchanged_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its last change is old enough to be the last."""
    file = ListFile(path, clock=lambda: time.time_ns() + 10**9)
    assert _says(file, "web1")
    monkeypatch.setattr(autosignfiles.os, "open", lambda *_: pytest.fail("read again"))
    assert _says(file, "web1")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write(
    path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ignored, which is said once; after the chmod it counts."""
    path.chmod(mode)
    file = ListFile(path)
    assert file.entries() is None
    assert file.entries() is None
    assert caplog.messages == [f"{path} is ignored: others can write it: chmod 600 it"]
    path.chmod(0o644)
    assert _says(file, "web1")


def test_a_file_of_another_user(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ignored; one of root is not."""
    real = os.fstat

    def owned_by(uid: int) -> Callable[[int], SimpleNamespace]:
        def fstat(handle: int) -> SimpleNamespace:
            found = real(handle)
            names = ("st_dev", "st_ino", "st_mtime_ns", "st_ctime_ns", "st_size", "st_mode")
            return SimpleNamespace(**{name: getattr(found, name) for name in names}, st_uid=uid)

        return fstat

    monkeypatch.setattr(autosignfiles.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(autosignfiles.os, "fstat", owned_by(1001))
    assert ListFile(path, ", and more").entries() is None
    (message,) = caplog.messages
    assert message.startswith(f"{path} is ignored, and more: it belongs to another user: chown")
    assert "chmod" in message
    monkeypatch.setattr(autosignfiles.os, "fstat", owned_by(0))
    assert _says(ListFile(path), "web1")


def test_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pipe does not stop the reader; a directory, a file within a file and a huge one neither."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "file").write_text("x" * 100)
    (tmp_path / "file").chmod(0o600)
    monkeypatch.setattr(autosignfiles, "MAX_BYTES", 99)
    for name in ("pipe", ".", "file/inner", "file"):
        assert ListFile(tmp_path / name).entries() is None
    said = [message.partition(" is ignored: ")[2] for message in caplog.messages]
    assert said[:2] == ["it is no file", "Is a directory"]
    assert said[2] == "Not a directory"
    assert said[3] == "it has more than 99 bytes"


def test_a_bad_line_is_said_once_with_file_and_line(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the file is asked, or changed elsewhere."""
    path.write_text("web1\nweb(\n")
    file = ListFile(path)
    assert _says(file, "web1")
    path.write_text("web9\nweb(\n")
    assert _says(file, "web9")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{path}:2: 'web(' is no regular expression")


def test_a_policy_without_files() -> None:
    """What an embedding program may leave out."""
    assert Policy({}).decide("web1", KEY) == ASK
    assert Policy({"auto_accept": True}).decide("web1", KEY) == ACCEPT


# -- the link ---------------------------------------------------------------------------------


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    lists = {name: str(tmp_path / name) for name in ("autosign_file", "autoreject_file")}
    made = Master(tmp_path, **lists)
    yield made
    made.close()


@pytest.fixture
def minion(master: Master) -> Iterator[Minion]:
    made = Minion(master, "web1")
    yield made
    made.close()


def _write(master: Master, option: str, text: str) -> None:
    path = Path(master.opts[option])
    path.touch(mode=0o600)
    path.write_text(text)


def test_a_pending_minion_is_accepted_when_the_list_changes(master: Master, minion: Minion) -> None:
    """Without a restart, and with the event that a person's accepting has."""
    _write(master, "autosign_file", f"web1 {fingerprint(OTHER)}\n")
    until(lambda: minion.link.state == "pending", minion)
    _write(master, "autosign_file", f"web1 {fingerprint(minion.keypair.public)}\n")
    until(lambda: minion.link.state == "connected", minion)
    until(lambda: master.bus.named("salt/key"), minion)
    (data,) = master.bus.named("salt/key")
    assert (data["id"], data["act"], data["result"]) == ("web1", "accept", True)


def test_a_minion_is_rejected_unseen(master: Master, minion: Minion) -> None:
    """Though it would be accepted too; a person can still accept it."""
    _write(master, "autosign_file", "*\n")
    _write(master, "autoreject_file", r"web\d")
    until(lambda: minion.link.state == "rejected", minion)
    assert master.keys.list()["minions_rejected"] == ["web1"]
    until(lambda: master.bus.named("salt/key"), minion)
    assert master.bus.named("salt/key")[0]["act"] == "reject"
    master.keys.accept("web1", include_rejected=True)
    until(lambda: minion.link.state == "connected", minion)


def test_another_key_of_a_known_id_stays_denied(
    master: Master, minion: Minion, tmp_path: Path
) -> None:
    """However much the list allows."""
    _write(master, "autosign_file", "*\n")
    until(lambda: minion.link.state == "connected", minion)
    other = Minion(master, "web1", folder=tmp_path / "other")
    try:
        until(lambda: other.link.state == "denied", minion, other)
        assert minion.link.state == "connected"
        assert master.keys.accepted() or master.keys.list()["minions"] == ["web1"]
    finally:
        other.close()


def test_a_list_of_rejected_that_cannot_be_trusted_lets_nobody_in(
    master: Master, minion: Minion, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is mended."""
    caplog.set_level(logging.WARNING)
    _write(master, "autosign_file", "*\n")
    _write(master, "autoreject_file", "db1\n")
    reject = Path(master.opts["autoreject_file"])
    reject.chmod(0o666)
    until(lambda: minion.link.state == "pending", minion)
    assert f"{reject} is ignored, and nobody is accepted unseen: others can write it" in caplog.text
    reject.chmod(0o600)
    until(lambda: minion.link.state == "connected", minion)
