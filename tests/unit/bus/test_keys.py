"""Key pairs and the states of minion keys."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import zmq

from bus import keys
from bus.errors import ConfigError, KeyStateError
from bus.keys import (
    Keypair,
    KeyStore,
    check_minion_id,
    check_public,
    fingerprint,
    key_from_fingerprint,
)

KEY, OTHER = (zmq.curve_keypair()[0] for _ in range(2))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path)


def test_a_key_pair_is_made_once_and_private(tmp_path: Path) -> None:
    """The secret has the mode 0600 in a directory of 0700, and is read again afterwards."""
    made = Keypair.load_or_create(tmp_path / "pki", "master")
    secret = tmp_path / "pki/master.pem"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.parent.stat().st_mode & 0o777 == 0o700
    assert Keypair.load_or_create(tmp_path / "pki", "master") == made
    assert (tmp_path / "pki/master.pub").read_bytes().strip() == made.public
    assert sorted(path.name for path in secret.parent.iterdir()) == ["master.pem", "master.pub"]


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    """Not in a repr, and not in an error about a damaged file."""
    made = Keypair.load_or_create(tmp_path, "master")
    assert made.secret.decode() not in repr(made)
    path = tmp_path / "master.pem"
    path.write_bytes(made.secret[:-1])
    with pytest.raises(ConfigError, match="no secret key") as caught:
        Keypair.load_or_create(tmp_path, "master")
    assert made.secret[:10].decode() not in f"{caught.value} {caught.value.__cause__}"


def test_a_wrong_public_file_is_mended(tmp_path: Path) -> None:
    """The secret is what counts."""
    made = Keypair.load_or_create(tmp_path, "minion")
    (tmp_path / "minion.pub").write_text("old")
    Keypair.load_or_create(tmp_path, "minion")
    assert (tmp_path / "minion.pub").read_bytes().strip() == made.public


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The error says what to do."""
    Keypair.load_or_create(tmp_path, "master")
    (tmp_path / "master.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keypair.load_or_create(tmp_path, "master")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be read or made"):
        Keypair.load_or_create(tmp_path / "file" / "pki", "master")
    with pytest.raises(ConfigError, match="cannot make"):
        KeyStore(tmp_path / "file")


def test_two_that_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    """The first one stays."""
    made: list[Keypair] = []
    threads = [
        threading.Thread(target=lambda: made.append(Keypair.load_or_create(tmp_path, "m")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({pair.secret for pair in made}) == 1


def test_a_fingerprint_contains_the_key() -> None:
    """Hex with colons, there and back."""
    finger = fingerprint(KEY)
    assert len(finger.split(":")) == 32
    assert key_from_fingerprint(f" {finger.upper()}\n") == KEY


@pytest.mark.parametrize("text", ["", "zz", "ab:cd", "ab" * 33])
def test_what_is_no_fingerprint(text: str) -> None:
    """It is said so."""
    with pytest.raises(KeyStateError, match="fingerprint"):
        key_from_fingerprint(text)


@pytest.mark.parametrize("key", [b"", b"x" * 39, b"~" * 40, b"#" * 40, b"0" * 40 + b"\n"])
def test_what_is_no_key(key: bytes) -> None:
    """Wrong length, wrong letters, or a number beyond 32 bits."""
    with pytest.raises(KeyStateError):
        check_public(key)


@pytest.mark.parametrize("ident", ["web1", "web-1.example.org", "größe", "a" * 255, "-x"])
def test_good_ids(ident: str) -> None:
    """What can be a file name of ours."""
    assert check_minion_id(ident) == ident


@pytest.mark.parametrize(
    "ident",
    [
        "",
        ".",
        "..",
        ".x",
        "a/b",
        "a\nb",
        "a\0",
        "a\x7f",
        "ü" * 128,
        "\ud800",
        "a b",
        "*",
        "web?",
        "[ab]",
        "a,b",
        3,
        None,
    ],
)
def test_bad_ids(ident: object) -> None:
    """What could leave the directory, break a line, or mean more than one minion in a target."""
    with pytest.raises(KeyStateError):
        check_minion_id(ident)


def test_the_first_contact_waits(store: KeyStore, tmp_path: Path) -> None:
    """The key goes to minions_pre; the same again changes nothing."""
    assert store.state("web1", KEY) == "unknown"
    assert store.submit("web1", KEY) == "pending"
    assert store.submit("web1", KEY) == "pending"
    assert (tmp_path / "minions_pre/web1").read_bytes().strip() == KEY
    assert store.accepted() == {}


def test_accept_reject_delete(store: KeyStore) -> None:
    """The way of a key through the folders."""
    store.submit("web1", KEY)
    store.submit("db1", OTHER)
    assert store.accept("web*") == ["web1"]
    assert store.accepted() == {"web1": KEY}
    assert store.submit("web1", KEY) == "accepted"
    assert store.reject("*") == ["db1"]
    assert store.state("db1", OTHER) == "rejected"
    assert store.accept("db1") == []
    assert store.accept("db1", include_rejected=True) == ["db1"]
    assert store.reject("db1", include_accepted=True) == ["db1"]
    assert store.list() == {
        "minions": ["web1"],
        "minions_pre": [],
        "minions_rejected": ["db1"],
        "minions_denied": [],
    }
    assert store.delete("*") == ["db1", "web1"]
    assert store.state("web1", KEY) == "unknown"


def test_another_key_under_a_known_id_is_denied(store: KeyStore) -> None:
    """In whatever state the first one is."""
    store.submit("web1", KEY)
    assert store.submit("web1", OTHER) == "denied"
    assert store.submit("web1", OTHER) == "denied"
    store.accept("web1")
    assert store.submit("web1", OTHER) == "denied"
    assert store.state("web1", KEY) == "accepted"
    assert store.list()["minions_denied"] == ["web1"]
    assert store.accept("web1", include_denied=True) == ["web1"]
    assert store.state("web1", OTHER) == "accepted"
    assert store.state("web1", KEY) == "denied"


def test_a_denied_key_stays_denied(store: KeyStore) -> None:
    """Even if the one that was accepted is gone; rejecting it is possible."""
    store.submit("web1", KEY, auto_accept=True)
    store.submit("web1", OTHER)
    (store._dir / "minions/web1").unlink()
    assert store.submit("web1", OTHER) == "denied"
    assert store.reject("web1", include_denied=True) == ["web1"]
    assert store.state("web1", OTHER) == "rejected"


def test_auto_accept(store: KeyStore) -> None:
    """New ones and pending ones; never another key, never a rejected one."""
    assert store.submit("web1", KEY, auto_accept=True) == "accepted"
    assert store.submit("web1", OTHER, auto_accept=True) == "denied"
    store.submit("db1", OTHER)
    assert store.submit("db1", OTHER, auto_accept=True) == "accepted"
    store.reject("db1", include_accepted=True)
    assert store.submit("db1", OTHER, auto_accept=True) == "rejected"


def test_the_pending_folder_has_a_limit(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers cannot fill the disk."""
    monkeypatch.setattr("bus.keys.store.MAX_PENDING", 1)
    store.submit("a", KEY)
    assert store.submit("b", OTHER) == "unknown"
    assert store.list()["minions_pre"] == ["a"]


def test_fingers(store: KeyStore) -> None:
    """By folder and id."""
    store.submit("web1", KEY)
    assert store.finger("w*")["minions_pre"] == {"web1": fingerprint(KEY)}
    assert store.finger("x")["minions_pre"] == {}


def test_the_change_of_another_process_is_seen(store: KeyStore, tmp_path: Path) -> None:
    """Refresh says whether there is something new, and the version grows."""
    other = KeyStore(tmp_path)
    store.refresh()
    version = store.version
    other.submit("web1", KEY)
    assert store.refresh() is True
    assert store.refresh() is False
    assert store.version == version + 1
    other.accept("web1")
    store.refresh()
    assert store.accepted() == {"web1": KEY}


def test_a_quiet_folder_is_not_read(tmp_path: Path) -> None:
    """Once a change is old enough to be the last in its tick, the files are left alone."""
    store = KeyStore(tmp_path, clock=lambda: time.time_ns() + 10**9)
    store.submit("web1", KEY)
    store.refresh()
    for folder in store._folders.values():
        folder._read = lambda: pytest.fail("read again")
    assert store.refresh() is False


def test_strange_files_are_left_alone(store: KeyStore, tmp_path: Path) -> None:
    """A directory, a hidden file, a file that is no key."""
    (tmp_path / "minions/dir").mkdir()
    (tmp_path / "minions/.hidden").write_bytes(KEY)
    (tmp_path / "minions/rubbish").write_text("rubbish")
    (tmp_path / "minions/good").write_bytes(KEY + b"\n")
    store.refresh()
    assert store.accepted() == {"good": KEY}


def test_a_key_that_cannot_be_kept(store: KeyStore, tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "minions_pre").rmdir()
    with pytest.raises(ConfigError, match="minions_pre"):
        store.submit("web1", KEY)
    store.refresh = lambda: False
    with pytest.raises(ConfigError, match="cannot keep"):
        store.submit("web1", KEY)
    store._folders["accepted"].keys = {"web1": KEY}
    (tmp_path / "minions/web1").mkdir()
    with pytest.raises(ConfigError, match="cannot delete"):
        store.delete("web1")


def test_a_key_that_another_process_moved_first(store: KeyStore, tmp_path: Path) -> None:
    """It is not counted."""
    store.submit("web1", KEY)
    store.refresh = lambda: False
    KeyStore(tmp_path).accept("web1")
    assert store.accept("web1") == []
    (tmp_path / "minions_rejected").rmdir()
    store._folders["pending"].keys = {"web2": OTHER}
    (tmp_path / "minions_pre/web2").write_bytes(OTHER)
    (tmp_path / "minions_rejected").write_text("")
    with pytest.raises(ConfigError, match="cannot move"):
        store.reject("web2")


def test_public_files(tmp_path: Path) -> None:
    """Missing is None; damaged is an error with the path."""
    assert keys.read_public(tmp_path / "none") is None
    (tmp_path / "bad").write_text("bad")
    with pytest.raises(ConfigError, match="bad"):
        keys.read_public(tmp_path / "bad")


def test_a_first_contact_reads_no_folder(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand minions that come for the first time cost ten thousand files, not squares."""
    store.refresh()
    for folder in store._folders.values():
        monkeypatch.setattr(folder, "_read", lambda: pytest.fail("read the whole folder"))
    for number in range(50):
        assert store.submit(f"m{number}", KEY) == "pending"
        assert store.submit(f"m{number}", KEY) == "pending"
        assert store.submit(f"m{number}", OTHER) == "denied"
        assert store.submit(f"m{number}", KEY, auto_accept=True) == "accepted"


def test_a_first_contact_sees_what_another_process_has_just_done(
    store: KeyStore, tmp_path: Path
) -> None:
    """Though it reads no folder; and the version tells that something has changed."""
    other = KeyStore(tmp_path)
    assert store.submit("web1", KEY) == "pending"
    other.accept("web1")
    version = store.version
    assert store.submit("web1", KEY) == "accepted"
    assert store.version > version
    other.delete("web1")
    other.add("web1", OTHER)
    assert store.submit("web1", KEY) == "denied"


def test_first_contacts_do_not_wait_for_the_disk(
    store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they wrote is handed over, once, to whoever waits beside them; accepting does wait."""
    synced: list[object] = []
    real = os.fsync
    monkeypatch.setattr("bus.keys.files.os.fsync", lambda file: synced.append(file) or real(file))
    store.submit("web1", KEY)
    store.submit("web2", KEY, auto_accept=True)
    assert synced == []
    written = store.take_unsynced()
    assert written == [tmp_path / "minions_pre/web1", tmp_path / "minions/web2"]
    assert store.take_unsynced() == []
    keys.sync_files([*written, tmp_path / "minions/gone"])
    assert len(synced) == 4  # two files, two folders
    store.accept("web1")
    assert len(synced) == 6


def test_counts(store: KeyStore) -> None:
    """By the folder's name."""
    store.submit("web1", KEY)
    store.submit("web2", KEY, auto_accept=True)
    assert store.counts() == {
        "minions": 1,
        "minions_pre": 1,
        "minions_rejected": 0,
        "minions_denied": 0,
    }
