"""A minion's key is exchanged for another, whatever is killed or lost in between."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus.errors import ConfigError, KeyStateError, NotRunningError
from bus.keys import Keypair, KeyStore, MinionKeys, fingerprint
from bus.link import protocol
from bus.link.protocol import Reply
from tests.unit.bus.test_link_end_to_end import Master, Minion, send, until

KEY, OTHER, THIRD = (zmq.curve_keypair()[0] for _ in range(3))


# -- the files --------------------------------------------------------------------------------


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    Keypair.load_or_create(tmp_path, "minion")
    return tmp_path


def _keys(pki: Path) -> MinionKeys:
    return MinionKeys(pki, Keypair.load_or_create(pki, "minion"))


def test_the_next_key_is_kept_beside_the_old_one(pki: Path) -> None:
    """Only its owner can read it, it is the same after a restart, and the old one stays."""
    pair = _keys(pki)
    old, made = pair.current, pair.prepare()
    assert made.public != old.public
    assert (pki / "minion.pem.new").stat().st_mode & 0o777 == 0o600
    again = _keys(pki)
    assert (again.current, again.next) == (old, made)
    assert again.prepare() == made


def test_adopting_puts_the_next_key_in_place(pki: Path) -> None:
    """Secret and public half; nothing of the old one is left."""
    pair = _keys(pki)
    made = pair.prepare()
    pair.adopt()
    assert (pair.current, pair.next) == (made, None)
    assert not (pki / "minion.pem.new").exists()
    assert (pki / "minion.pub").read_bytes().strip() == made.public
    assert _keys(pki).current == made


def test_a_next_key_that_somebody_took_away_is_made_anew(pki: Path) -> None:
    """What the master is told must be on the disk."""
    pair = _keys(pki)
    first = pair.prepare()
    (pki / "minion.pem.new").unlink()
    second = pair.prepare()
    assert second != first
    assert _keys(pki).next == second


def test_next_keys_that_cannot_be_used(pki: Path) -> None:
    """The error names the file, and shows no secret."""
    pair = _keys(pki)
    secret = pair.prepare().secret.decode()
    (pki / "minion.pem.new").chmod(0o644)
    with pytest.raises(ConfigError, match=r"minion\.pem\.new: .*chmod 600") as caught:
        _keys(pki)
    assert secret not in str(caught.value)
    (pki / "minion.pem.new").unlink()
    with pytest.raises(ConfigError, match="cannot be put in place"):
        pair.adopt()
    with pytest.raises(ConfigError, match="cannot be made"):
        MinionKeys(pki / "gone", pair.current).prepare()
    with pytest.raises(ConfigError, match="cannot be read"):
        MinionKeys(pki / "minion.pub", pair.current)


def test_the_store_replaces_an_accepted_key_only(tmp_path: Path) -> None:
    """And only the one that is named: a key that was deleted meanwhile does not come back."""
    store = KeyStore(tmp_path)
    store.submit("web1", KEY, auto_accept=True)
    store.replace("web1", KEY, OTHER)
    assert store.accepted() == {"web1": OTHER}
    with pytest.raises(KeyStateError, match="not accepted"):
        store.replace("web1", KEY, THIRD)
    KeyStore(tmp_path).delete("web1")
    with pytest.raises(KeyStateError, match="not accepted"):
        store.replace("web1", OTHER, THIRD)
    with pytest.raises(KeyStateError, match="40 characters"):
        store.replace("web1", OTHER, b"x")
    assert store.list()["minions"] == []


def test_the_store_does_not_replace_while_another_changes_keys(tmp_path: Path) -> None:
    """Nor does it wait, since the link server has other things to do."""
    store = KeyStore(tmp_path)
    store.submit("web1", KEY, auto_accept=True)
    handle = os.open(tmp_path / "minions", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(KeyStateError, match="try again"):
        store.replace("web1", KEY, OTHER)
    os.close(handle)
    store.replace("web1", KEY, OTHER)


# -- the link ---------------------------------------------------------------------------------


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    made = Master(tmp_path, autoreject_file=str(tmp_path / "no"))
    yield made
    made.close()


class Mortal(Minion):
    """A minion that can end in the middle of a test."""

    closed = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            super().close()


@pytest.fixture
def start(master: Master) -> Iterator[Callable[[], Minion]]:
    """Start the minion web1, again and again: its files stay."""
    with contextlib.ExitStack() as stack:

        def make() -> Minion:
            minion = Mortal(master, "web1")
            stack.callback(minion.close)
            return minion

        yield make


@pytest.fixture
def minion(master: Master, start: Callable[[], Minion]) -> Minion:
    minion = start()
    until(lambda: minion.link.state == "pending", minion)
    master.keys.accept("web1")
    until(lambda: minion.link.state == "connected", minion)
    return minion


def _accepted(master: Master) -> str:
    return master.keys.finger()["minions"]["web1"]


def _kept(minion: Minion) -> str:
    return fingerprint(Keypair.load_or_create(minion.opts["pki_dir"], "minion").public)


def _new_file(minion: Minion) -> Path:
    return Path(minion.opts["pki_dir"], "minion.pem.new")


def _is_over(master: Master, minion: Minion) -> bool:
    """Say whether both have the same key, and are connected by it."""
    return (
        minion.link.state == "connected"
        and not _new_file(minion).exists()
        and master.call("minions.connected") == ["web1"]
        and _kept(minion) == _accepted(master)
    )


def test_a_key_is_rotated(master: Master, minion: Minion) -> None:
    """The master has the new key, says so, and jobs and events go on."""
    old = _accepted(master)
    number = minion.link.rotate()
    assert minion.link.rotate() == number
    until(lambda: minion.link.rotation["finished"] == number, minion)
    status = minion.link.rotation
    assert status == {"running": False, "finished": 1, "error": "", "finger": _accepted(master)}
    assert status["finger"] != old
    assert _is_over(master, minion)
    until(lambda: master.bus.named("salt/key"), minion)
    (data,) = master.bus.named("salt/key")
    assert (data["id"], data["act"], data["result"]) == ("web1", "rotate", True)
    assert "denied" not in minion.states
    assert master.keys.list()["minions_denied"] == []
    jid = master.call("jobs.publish", tgt="web1", fun="test.ping")["jid"]
    until(lambda: [job["jid"] for job in minion.jobs] == [jid], minion)
    told = send(minion, "after")
    until(lambda: told, minion)
    assert told == [(True, "")]


def test_events_on_their_way_come_once_and_in_order(master: Master, minion: Minion) -> None:
    """Those that the old connection did not bring, the new one does."""
    told: list[Any] = []
    for number in range(2000):
        if number == 700:
            minion.link.rotate()
        minion.link.send_event("n", {"n": number}, lambda good, _text: told.append(good))
    until(lambda: len(told) == 2000 and minion.link.rotation["finished"] == 1, minion)
    assert [data["data"]["n"] for data in master.bus.named("n")] == list(range(2000))


def test_the_old_key_is_worth_nothing_any_more(
    master: Master, minion: Minion, start: Callable[[], Minion], tmp_path: Path
) -> None:
    """Whoever has a copy of it is denied."""
    thief = tmp_path / "thief/pki"
    thief.mkdir(parents=True)
    secret = Path(minion.opts["pki_dir"], "minion.pem").read_bytes()
    (thief / "minion.pem").touch(mode=0o600)
    (thief / "minion.pem").write_bytes(secret)
    minion.link.rotate()
    until(lambda: minion.link.rotation["finished"], minion)
    other = Minion(master, "web1", folder=thief.parent)
    try:
        until(lambda: other.link.state == "denied", minion, other)
        assert master.call("minions.connected") == ["web1"]
        assert minion.link.state == "connected"
    finally:
        other.close()


def test_a_minion_that_does_not_hear_the_answer(
    master: Master, minion: Minion, start: Callable[[], Minion]
) -> None:
    """Killed after the master has taken the key: it comes back with the old one, then the new."""
    minion.link.rotate()
    new = fingerprint(Keypair.read(_new_file(minion)).public)
    until(lambda: _accepted(master) == new)
    minion.close()
    assert _kept(minion) != new
    again = start()
    until(lambda: _is_over(master, again), again)
    assert _accepted(master) == new
    assert master.keys.list()["minions_denied"] == []
    assert "denied" not in again.states


def test_after_a_restart_of_the_master_too(
    master: Master, minion: Minion, start: Callable[[], Minion]
) -> None:
    """The files alone decide."""
    minion.link.rotate()
    new = fingerprint(Keypair.read(_new_file(minion)).public)
    until(lambda: _accepted(master) == new)
    minion.close()
    master.restart()
    again = start()
    until(lambda: _is_over(master, again), again)
    assert _accepted(master) == new


def test_a_minion_killed_before_the_master_heard(
    master: Master, minion: Minion, start: Callable[[], Minion]
) -> None:
    """It connects with the old key, and goes on with what it had begun."""
    old = _accepted(master)
    minion.close()
    MinionKeys(minion.opts["pki_dir"], minion.keypair).prepare()
    again = start()
    until(lambda: _is_over(master, again), again)
    assert _accepted(master) != old


def test_a_minion_killed_while_it_put_the_key_in_place(
    master: Master, minion: Minion, start: Callable[[], Minion]
) -> None:
    """The secret is new, the public half still the old one: it is made from the secret."""
    public = Path(minion.opts["pki_dir"], "minion.pub")
    before = public.read_bytes()
    minion.link.rotate()
    until(lambda: minion.link.rotation["finished"], minion)
    minion.close()
    public.write_bytes(before)
    again = start()
    until(lambda: _is_over(master, again), again)
    assert public.read_bytes() != before


def test_a_link_that_goes_down_in_between(master: Master, minion: Minion) -> None:
    """Nobody knows then which key the master has; the next connection shows it."""
    master.stop()
    number = minion.link.rotate()
    master.bus.revive(master.context)
    master.start_again()
    until(lambda: minion.link.rotation["finished"] == number, minion)
    assert _is_over(master, minion)


def test_a_master_that_has_neither_key(
    master: Master, minion: Minion, start: Callable[[], Minion], caplog: pytest.LogCaptureFixture
) -> None:
    """Both are tried in turn, which is said once; the one that is accepted in the end holds."""
    minion.close()
    next_pair = MinionKeys(minion.opts["pki_dir"], minion.keypair).prepare()
    master.keys.delete("web1")
    master.keys.add("web1", OTHER)
    again = start()
    until(lambda: again.states.count("denied") >= 3, again)
    assert caplog.text.count("is denied: the master knows this id with another key") == 1
    master.keys.delete("web1")
    master.keys.add("web1", next_pair.public)
    until(lambda: _is_over(master, again), again)


def test_a_master_that_refuses_the_new_key(master: Master, minion: Minion) -> None:
    """The minion goes on with the old one, and says why."""
    new = MinionKeys(minion.opts["pki_dir"], minion.keypair).prepare().public
    reject = Path(master.opts["autoreject_file"])
    reject.touch(mode=0o600)
    reject.write_text(f"* {fingerprint(new)}\n")
    old = _accepted(master)
    number = minion.link.rotate()
    until(lambda: minion.link.rotation["finished"] == number, minion)
    assert "one that the autoreject_file rejects" in minion.link.rotation["error"]
    assert minion.link.state == "connected"
    assert _accepted(master) == old
    reject.write_text("")
    minion.link.rotate()
    until(lambda: _is_over(master, minion), minion)
    assert minion.link.rotation["error"] == ""


def test_a_new_key_that_cannot_be_made(
    master: Master, minion: Minion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked hears it, and can ask again."""

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bus.keys.pairs.make_secret", full)
        with pytest.raises(ConfigError, match=r"minion\.pem\.new: .*No space left"):
            minion.link.rotate()
    assert minion.link.rotation["running"] is False
    minion.link.rotate()
    until(lambda: minion.link.rotation["finished"] == 1, minion)
    assert _is_over(master, minion)


def test_a_new_key_that_cannot_be_put_in_place(
    master: Master,
    minion: Minion,
    start: Callable[[], Minion],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The minion goes on with it all the same, and puts it in place when it can."""
    replace = Path.replace

    def read_only(path: Path, target: Path) -> Path:
        if path.name == "minion.pem.new":
            raise OSError(30, "Read-only file system")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", read_only)
        minion.link.rotate()
        until(lambda: minion.link.rotation["finished"] == 1, minion)
    assert "cannot be put in place: Read-only file system" in caplog.text
    assert minion.link.state == "connected"
    assert minion.link.rotation["finger"] == _accepted(master)
    minion.close()
    again = start()
    until(lambda: _is_over(master, again), again)


def test_without_a_connection_nothing_is_begun(master: Master, start: Callable[[], Minion]) -> None:
    """A new key needs the master."""
    minion = start()
    until(lambda: minion.link.state == "pending", minion)
    with pytest.raises(NotRunningError, match="no connection to the master"):
        minion.link.rotate()
    assert not _new_file(minion).exists()


@pytest.mark.parametrize("value", [1, "x" * 40, b"x", None, b"#" * 39 + b" "])
def test_what_is_no_key_is_refused(master: Master, minion: Minion, value: Any) -> None:
    """The accepted key stays."""
    told: list[Any] = []
    minion.link.request({"rotate": value}, lambda found, error: told.append((found, error)))
    until(lambda: told, minion)
    assert told[0][0] is None
    assert "public key" in told[0][1]
    assert _accepted(master) == fingerprint(minion.keypair.public)


def test_the_same_key_again_changes_nothing(master: Master, minion: Minion) -> None:
    """A request that is repeated is answered."""
    frame = protocol.encode(protocol.Request(7, {"rotate": minion.keypair.public}))
    replies: list[Any] = []
    minion.link._replies._waiting[7] = lambda value, error: replies.append(Reply(7, value, error))
    minion.link._connection.send(frame)
    until(lambda: replies, minion)
    assert replies == [Reply(7, True, "")]
    assert master.call("minions.connected") == ["web1"]
