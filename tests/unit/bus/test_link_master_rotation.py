"""A master takes a new key, and its minions know it by that one, whatever happens in between."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus.errors import ConfigError, KeyStateError
from bus.keys import Keypair, fingerprint
from bus.keys.master import PAST, MasterKeys
from bus.link import firstcontact, handover, seeking
from bus.link.budget import Budget
from bus.link.handover import HandoverQuestion
from bus.link.trust import CHAIN, MAX_CHAIN, PINNED, Trust
from tests.unit.bus.test_link_end_to_end import Master, Minion, join, send, until

__all__ = ["join"]  # a fixture

ONE, TWO, THREE, FOUR = (Keypair(*zmq.curve_keypair()) for _ in range(4))
NONCE = b"n" * firstcontact.NONCE_BYTES


class _Clock:
    """Nanoseconds that go on when told."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += 1
        return self.now


# -- the files --------------------------------------------------------------------------------


def test_the_next_key_is_private_and_stays(tmp_path: Path) -> None:
    """It is the same after a restart, until it is given up or put in place."""
    files = MasterKeys(tmp_path, 100)
    assert (files.next, files.past) == (None, [])
    made = files.prepare()
    assert files.prepare() == made
    assert (tmp_path / "master.pem.new").stat().st_mode & 0o777 == 0o600
    assert MasterKeys(tmp_path, 100).next == made
    assert files.cancel() is True
    assert files.cancel() is False
    assert files.next is None
    with pytest.raises(KeyStateError, match="rotate-master"):
        files.switch()


def test_the_old_key_is_kept_for_a_time(tmp_path: Path) -> None:
    """Only by its owner to be read, then gone from the disk too."""
    clock = _Clock()
    files = MasterKeys(tmp_path, 100, clock)
    old, new = files.current, files.prepare()
    files.switch()
    assert (files.current, files.next, files.past) == (new, None, [old])
    assert (tmp_path / "master.pub").read_bytes().strip() == new.public
    (kept,) = (tmp_path / PAST).iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / PAST).stat().st_mode & 0o777 == 0o700
    assert MasterKeys(tmp_path, 100, clock).past == [old]
    assert files.refresh() is False
    clock.now += 100 * 10**9
    assert files.refresh() is True
    assert files.past == []
    assert list((tmp_path / PAST).iterdir()) == []


def test_without_grace_no_old_key_is_kept(tmp_path: Path) -> None:
    """Nobody can use it any more."""
    files = MasterKeys(tmp_path, 0)
    files.prepare()
    files.switch()
    assert files.past == []
    assert not (tmp_path / PAST).exists()


def test_another_process_is_followed(tmp_path: Path) -> None:
    """Several masters that stand in for one another share the files."""
    one, two = MasterKeys(tmp_path, 100), MasterKeys(tmp_path, 100)
    made = one.prepare()
    assert two.refresh() is True
    assert two.next == made
    one.switch()
    assert two.refresh() is True
    assert (two.current, two.next) == (made, None)
    assert two.past == one.past


def test_a_switch_that_was_killed_in_between_is_done_again(tmp_path: Path) -> None:
    """The current key among the old ones is no old one; the next key is still the next one."""
    files = MasterKeys(tmp_path, 100)
    made = files.prepare()
    files._keep_current()
    again = MasterKeys(tmp_path, 100)
    assert (again.past, again.next) == ([], made)
    old = again.current
    again.switch()
    assert again.current == made
    assert set(again.past) == {old}


def test_a_key_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    """A running master keeps the key that its minions know."""
    files = MasterKeys(tmp_path, 100)
    before = files.current
    (tmp_path / "master.pem").unlink()
    files.refresh()
    assert files.current == before
    assert not (tmp_path / "master.pem").exists()


def test_strange_files_among_the_old_keys(tmp_path: Path) -> None:
    """They are left alone."""
    (tmp_path / PAST).mkdir()
    (tmp_path / PAST / "1x.pem").write_text("rubbish")
    (tmp_path / PAST / "note").write_text("rubbish")
    assert MasterKeys(tmp_path, 100).past == []


def test_files_that_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file."""
    files = MasterKeys(tmp_path, 100)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("bus.keys.pairs.make_secret", fail)
        with pytest.raises(ConfigError, match=r"master\.pem\.new: .*cannot be made: No space"):
            files.prepare()
    files.prepare()
    with monkeypatch.context() as patch:
        patch.setattr("bus.keys.master.write_beside", fail)
        with pytest.raises(ConfigError, match=r"master\.pem: .*cannot be put in place"):
            files.switch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(ConfigError, match="cannot be deleted"):
            files.cancel()
    assert files.next is not None


# -- what a minion knows ----------------------------------------------------------------------


def _trust(folder: Path, finger: Keypair | None = None) -> Trust:
    return Trust(folder, fingerprint(finger.public) if finger else "")


def test_a_successor_is_tried_after_the_key_that_was_proved(tmp_path: Path) -> None:
    """And first, once it was proved itself."""
    trust = _trust(tmp_path)
    trust.pin(ONE.public)
    trust.hand_over(ONE.public, [ONE.public, TWO.public])
    assert trust.keys() == [ONE.public, TWO.public]
    assert trust.proved(ONE.public) is False
    assert trust.proved(TWO.public) is True
    assert _trust(tmp_path).keys() == [TWO.public]
    trust.hand_over(TWO.public, [THREE.public])
    trust.hand_over(THREE.public, [FOUR.public])
    assert trust.keys() == [TWO.public, FOUR.public, THREE.public]


def test_what_was_given_up_is_forgotten(tmp_path: Path) -> None:
    """Each word of the master replaces what it said before by the same key."""
    trust = _trust(tmp_path)
    trust.pin(ONE.public)
    trust.hand_over(ONE.public, [ONE.public, TWO.public])
    trust.hand_over(ONE.public, [ONE.public, THREE.public])
    assert trust.keys() == [ONE.public, THREE.public]
    trust.hand_over(ONE.public, [ONE.public])
    assert trust.keys() == [ONE.public]


def test_a_fingerprint_holds_for_the_successors(tmp_path: Path) -> None:
    """A minion with the old master_finger goes on; one with the new one is done with the old."""
    trust = _trust(tmp_path, ONE)
    trust.hand_over(ONE.public, [ONE.public, TWO.public])
    assert trust.keys() == [ONE.public, TWO.public]
    assert trust.proved(TWO.public) is True
    assert trust.keys() == [TWO.public]
    assert _trust(tmp_path, TWO).keys() == [TWO.public]
    with pytest.raises(KeyStateError, match="master_finger is another"):
        _trust(tmp_path, THREE).keys()


def test_a_new_fingerprint_before_the_new_key_was_seen(tmp_path: Path) -> None:
    """Who sets it does not want the old key any more."""
    trust = _trust(tmp_path)
    trust.pin(ONE.public)
    trust.hand_over(ONE.public, [TWO.public, THREE.public])
    assert _trust(tmp_path, TWO).keys() == [TWO.public, THREE.public]
    assert _trust(tmp_path, THREE).keys() == [THREE.public]


def test_the_chain_is_bounded_and_keeps_the_fingerprint(tmp_path: Path) -> None:
    """However often the key is rotated."""
    trust = _trust(tmp_path, ONE)
    last = ONE.public
    for _ in range(MAX_CHAIN + 5):
        following = zmq.curve_keypair()[0]
        trust.hand_over(last, [following])
        assert trust.proved(following)
        last = following
    assert trust.keys() == [last]
    assert len((tmp_path / CHAIN).read_bytes().split()) == MAX_CHAIN


def test_a_chain_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names the file and says what to do."""
    (tmp_path / CHAIN).write_text("rubbish")
    with pytest.raises(ConfigError, match=f"{CHAIN}: .*remove the file"):
        _trust(tmp_path).keys()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=CHAIN):
        _trust(tmp_path / "file").hand_over(ONE.public, [TWO.public])


# -- the word of the old key ------------------------------------------------------------------


def test_the_old_key_proves_the_new_one() -> None:
    """To the minion that asked, with the secret of the old key, in a datagram that is shorter."""
    asked = handover.question(NONCE, THREE.public, ONE.public)
    said = handover.answer(asked, TWO.public, [FOUR, ONE])
    assert said is not None
    assert len(said) < len(asked) == firstcontact.QUESTION_BYTES
    assert handover.parse_answer(said, asked, THREE) == TWO.public


def test_the_key_in_use_says_that_it_is() -> None:
    """So that a minion that was in doubt goes on with it."""
    asked = handover.question(NONCE, THREE.public, ONE.public)
    said = handover.answer(asked, ONE.public, [ONE])
    assert said is not None
    assert handover.parse_answer(said, asked, THREE) == ONE.public


def test_what_is_no_proof() -> None:
    """Another's secret, another question, another key in it, another length."""
    asked = handover.question(NONCE, THREE.public, ONE.public)
    said = handover.answer(asked, TWO.public, [ONE])
    assert said is not None
    forged = handover.answer(asked, FOUR.public, [Keypair(ONE.public, FOUR.secret)])
    assert forged is not None
    changed = said[:24] + bytes([said[24] ^ 1]) + said[25:]
    for datagram in (forged, changed, said[:-1], said + b"x", b"", b"x" * len(said)):
        assert handover.parse_answer(datagram, asked, THREE) is None
    other = handover.question(b"m" * 16, THREE.public, ONE.public)
    assert handover.parse_answer(said, other, THREE) is None
    assert handover.parse_answer(said, asked, FOUR) is None


def test_what_gets_no_answer() -> None:
    """A key that was never ours, a datagram that is none, a key that is nobody's."""
    asked = handover.question(NONCE, THREE.public, FOUR.public)
    assert handover.answer(asked, TWO.public, [ONE]) is None
    assert handover.answer(asked[:-1], TWO.public, [FOUR]) is None
    assert handover.answer(firstcontact.question(NONCE), TWO.public, [FOUR]) is None
    nobody = handover.question(NONCE, zmq.utils.z85.encode(bytes(32)), FOUR.public)
    assert handover.answer(nobody, TWO.public, [FOUR]) is None


# -- over real sockets ------------------------------------------------------------------------


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    """A master whose old keys are good for an hour."""
    (tmp_path / "master").mkdir()
    made = Master(tmp_path / "master", master_key_grace_seconds=3600)
    yield made
    made.close()


def _pinned(minion: Minion) -> bytes:
    path = Path(minion.opts["pki_dir"], PINNED)
    return path.read_bytes().strip() if path.exists() else b""


def _key(master: Master) -> bytes:
    return master.server._own_key.keypair.public


def _rotate(master: Master, *minions: Minion) -> bytes:
    """Exchange the key once these minions know the next one; return it."""
    master.call("keys.master_prepare")
    until(lambda: not master.call("keys.master")["waiting"], *minions)
    old = _key(master)
    master.call("keys.master_switch")
    until(lambda: _key(master) != old, *minions)
    return _key(master)


def test_connected_minions_carry_over(master: Master, join: Callable[..., Minion]) -> None:
    """They connect anew with the new key, pinned; nothing is lost or comes twice."""
    minions = [join("web1"), join("web2")]
    old = _key(master)
    for minion in minions:
        send(minion, "before/event")
    new = _rotate(master, *minions)
    told = [answer for minion in minions for answer in [send(minion, "after/event")]]
    until(lambda: all(told), *minions)
    assert new != old
    until(lambda: all(_pinned(minion) == new for minion in minions), *minions)
    until(lambda: master.call("minions.connected") == ["web1", "web2"], *minions)
    assert sorted(master.bus.tags()).count("before/event") == 2
    assert sorted(master.bus.tags()).count("after/event") == 2
    (said,) = [data for data in master.bus.named("salt/key") if data["act"] == "rotate_master"]
    assert said["finger"] == fingerprint(new)


def test_twice_in_a_row(master: Master, join: Callable[..., Minion]) -> None:
    """The second one begins from the first."""
    minion = join("web1")
    for _ in range(2):
        new = _rotate(master, minion)
        until(lambda key=new: _pinned(minion) == key, minion)
        until(lambda: minion.link.state == "connected", minion)


def test_with_a_fingerprint_of_the_old_key(master: Master, join: Callable[..., Minion]) -> None:
    """The option still names the old key when the minion starts again."""
    finger = fingerprint(_key(master))
    minion = join("web1", master_finger=finger)
    new = _rotate(master, minion)
    until(lambda: minion.link.state == "connected" and _pinned(minion) == new, minion)
    minion.close()
    again = join("web1", connect=False, master_finger=finger)
    until(lambda: again.link.state == "connected", again)


def test_a_minion_that_was_away_learns_of_it(
    master: Master, join: Callable[..., Minion], caplog: pytest.LogCaptureFixture
) -> None:
    """By the old key, which the master keeps; after two rotations too."""
    caplog.set_level(logging.INFO)
    minion = join("web1")
    minion.close()
    until(lambda: master.call("keys.master")["away"] == ["web1"])
    _rotate(master)
    new = _rotate(master)
    again = join("web1", connect=False)
    until(lambda: again.link.state == "connected", again)
    assert _pinned(again) == new
    assert "is followed by another" in caplog.text
    assert fingerprint(new) in caplog.text


def test_a_minion_that_was_told_and_away_for_the_switch(
    master: Master, join: Callable[..., Minion]
) -> None:
    """It has the next key on its disk, and asks nobody."""
    minion = join("web1")
    master.call("keys.master_prepare")
    until(lambda: not master.call("keys.master")["waiting"], minion)
    minion.close()
    before = _key(master)
    master.call("keys.master_switch")
    until(lambda: _key(master) != before)  # the port is open with it
    master.server._own_key.files.past.clear()  # nobody vouches any more
    again = join("web1", connect=False)
    until(lambda: again.link.state == "connected", again)
    assert _pinned(again) == _key(master)


def test_a_minion_that_comes_while_it_is_prepared(
    master: Master, join: Callable[..., Minion]
) -> None:
    """It is told after its welcome."""
    master.call("keys.master_prepare")
    minion = join("web1")
    until(lambda: master.call("keys.master")["waiting"] == [], minion)
    master.call("keys.master_switch")
    until(lambda: _pinned(minion) == _key(master), minion)


def test_nobody_vouches_any_more(
    master: Master,
    join: Callable[..., Minion],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The minion refuses the master, says what to do, and does it once it was done."""
    monkeypatch.setattr(seeking, "HANDOVER_SECONDS", 0.3)
    minion = join("web1")
    minion.close()
    old = _pinned(minion)
    _rotate(master)
    master.server._own_key.files.past.clear()
    again = join("web1", connect=False)
    until(lambda: "does not prove the key that is expected" in caplog.text, again)
    assert "remove" in caplog.text
    assert _pinned(again) == old
    assert again.link.state != "connected"
    Path(again.opts["pki_dir"], PINNED).unlink()
    until(lambda: again.link.state == "connected", again)
    assert _pinned(again) == _key(master)


def test_another_master_does_not_hand_over(
    tmp_path: Path,
    master: Master,
    join: Callable[..., Minion],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has not the old secret cannot prove its successor."""
    monkeypatch.setattr(seeking, "HANDOVER_SECONDS", 0.3)
    minion = join("web1")
    minion.close()
    (tmp_path / "other").mkdir()
    other = Master(tmp_path / "other")
    try:
        forged = Keypair(_key(master), Keypair(*zmq.curve_keypair()).secret)
        other.server._own_key.files.past.append(forged)
        again = join("web1", connect=False, master_port=other.opts["ret_port"])
        until(lambda: "does not prove the key that is expected" in caplog.text, again)
        assert _pinned(again) == _key(master)
        assert other.keys.list()["minions_pre"] == []
    finally:
        other.close()


def test_a_master_follows_the_files(master: Master, join: Callable[..., Minion]) -> None:
    """Another one that shares its folder has changed the key."""
    minion = join("web1")
    files = MasterKeys(master.opts["pki_dir"], 3600)
    made = files.prepare()
    until(lambda: master.call("keys.master")["next"] == fingerprint(made.public), minion)
    until(lambda: not master.call("keys.master")["waiting"], minion)
    files.switch()
    until(lambda: _pinned(minion) == made.public, minion)
    until(lambda: minion.link.state == "connected", minion)


def test_files_that_cannot_be_read_end_no_master(
    master: Master, join: Callable[..., Minion]
) -> None:
    """It goes on with the key that it has, and counts it."""
    minion = join("web1")
    Path(master.opts["pki_dir"], "master.pem.new").write_text("rubbish")
    until(lambda: "master_key_not_read" in master.call("status")["counters"], minion)
    assert minion.link.state == "connected"


def test_a_flood_of_questions_is_answered_slowly(master: Master) -> None:
    """The rest gets nothing."""
    server = master.server
    asked = handover.question(NONCE, THREE.public, _key(master))
    server._own_key._budget = Budget(2, lambda: 0.0)
    answers = [server._own_key.hand_over(asked) is not None for _ in range(4)]
    assert answers == [True, True, False, False]


def test_a_question_asks_for_each_key_that_is_known(master: Master) -> None:
    """One after the other, since the master may have forgotten some."""
    old = _key(master)
    new = _rotate(master)
    asked = HandoverQuestion("127.0.0.1", master.opts["ret_port"], THREE, [FOUR.public, old])
    try:
        asked.send()
        asked.send()
        until(lambda: asked.poll() == new)
        assert asked.answered == old
    finally:
        asked.close()
