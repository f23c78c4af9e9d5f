"""The order in which a minion's events go up, and its spool."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bus.errors import JournalError
from bus.link import outbox as outboxes
from bus.link.outbox import GRACE_SECONDS, HOLD_SECONDS, Outbox, Sealed
from bus.link.protocol import Batch, Item, decode_up
from bus.link.spool import DROP_OLDEST, REFUSE, DiskSpool

LIMIT = 1_048_576


class Master:
    """Takes batches as the journal does: a number that is not above the last is a repetition."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self._last: dict[bytes, int] = {}

    def take(self, frame: bytes) -> tuple[bytes, int]:
        batch = decode_up(frame)
        assert isinstance(batch, Batch)
        if batch.number > self._last.get(batch.lineage, 0):
            self._last[batch.lineage] = batch.number
            self.got += [int(item.name) for item in batch.items]
        return batch.lineage, batch.number


def make(path: Path, lineage: bytes = b"l" * 16, size: int = 10**7, policy: str = REFUSE) -> Outbox:
    return Outbox(lineage, DiskSpool(path / "spool.db", size, policy), LIMIT)


def add(box: Outbox, *numbers: int, told: list[Any] | None = None, data: bytes = b"\x80") -> None:
    for number in numbers:
        done = None if told is None else (lambda good, text: told.append((good, text)))
        box.add(Item(0, str(number), data), done)


def send_all(box: Outbox, now: float = 0.0) -> list[Sealed]:
    sent = []
    while batch := box.next(now):
        box.sent(batch)
        sent.append(batch)
    return sent


def deliver(box: Outbox, master: Master, now: float = 0.0) -> None:
    while sent := send_all(box, now):
        for batch in sent:
            box.acknowledged(*master.take(batch.frame), {})


def test_nothing_goes_while_the_link_is_down(tmp_path) -> None:
    """And nothing is written for the time of grace."""
    box, told = make(tmp_path), []
    box.link_down(0.0)
    add(box, 1, told=told)
    assert box.next(0.0) is None
    box.tick(GRACE_SECONDS / 2)
    assert told == []
    assert not (tmp_path / "spool.db").exists()
    box.tick(GRACE_SECONDS)
    assert told == [(True, "spooled")]
    assert (tmp_path / "spool.db").stat().st_mode & 0o777 == 0o600
    box.close()


def test_what_waits_together_goes_together(tmp_path) -> None:
    """One batch, acknowledged once, each told once."""
    box, told, master = make(tmp_path), [], Master()
    add(box, *range(10), told=told)
    box.link_up()
    (batch,) = send_all(box)
    assert (batch.count, box.in_flight, box.queued) == (10, 1, 0)
    box.acknowledged(*master.take(batch.frame), {3: "no"})
    box.acknowledged(batch.lineage, 1, {})
    assert told == [(False, "no"), *[(True, "")] * 9]
    assert box.idle
    assert box.lost == 1
    box.close()


def test_a_large_batch_is_closed(tmp_path) -> None:
    """By its bytes, and by the number of its items."""
    box = make(tmp_path)
    box.link_up()
    add(box, 1, 2, 3, data=b"x" * 200_000)
    assert [batch.count for batch in send_all(box)] == [1, 1, 1]
    add(box, *range(2000))
    assert [batch.count for batch in send_all(box)] == [1024, 976]
    box.close()


def test_the_window(tmp_path, monkeypatch) -> None:
    """Only so much is on the way without an answer."""
    monkeypatch.setattr(outboxes, "WINDOW_ITEMS", 1500)
    box = make(tmp_path)
    box.link_up()
    add(box, *range(5000))
    first, second = send_all(box)
    assert box.next(0.0) is None
    box.acknowledged(*first.name, {})
    assert box.next(0.0) is not None
    assert second.count == 1024
    box.close()


def test_unanswered_batches_go_again_unchanged(tmp_path) -> None:
    """Same lineage, same number, same bytes."""
    box = make(tmp_path)
    box.link_up()
    add(box, 1)
    (first,) = send_all(box)
    add(box, 2)
    send_all(box)
    box.link_down(0.0)
    box.link_up()
    again = send_all(box)
    assert [batch.key for batch in again] == [(1, 1), (1, 2)]
    assert again[0].frame == first.frame
    box.close()


def test_the_spool_comes_before_what_is_newer(tmp_path) -> None:
    """Across a restart, with the old lineage and numbers."""
    box, master = make(tmp_path), Master()
    box.link_up()
    add(box, 1)
    (sent,) = send_all(box)
    master.take(sent.frame)
    box.link_down(0.0)
    add(box, 2, 3)
    box.close()
    box = make(tmp_path, b"m" * 16)
    add(box, 4)
    box.link_up()
    deliver(box, master)
    assert master.got == [1, 2, 3, 4]
    box.tick(0.0)
    assert box._spool.size == 0
    box.close()


def test_spooling_while_the_link_is_up_but_slow(tmp_path, monkeypatch) -> None:
    """Memory is bounded; the order holds."""
    monkeypatch.setattr(outboxes, "MAX_QUEUE_BYTES", 1000)
    box, told, master = make(tmp_path), [], Master()
    box.link_up()
    add(box, *range(50), told=told)
    box.tick(0.0)
    assert told == [(True, "spooled")] * 50
    add(box, 50)
    deliver(box, master)
    assert master.got == list(range(51))
    box.close()


def test_a_full_spool_says_so(tmp_path) -> None:
    """What does not fit is lost, counted, and told."""
    box, told = make(tmp_path, size=150_000), []
    box.link_down(0.0)
    for number in range(4):
        add(box, number, told=told, data=b"x" * 140_000)
    box.tick(GRACE_SECONDS)
    assert [good for good, _ in told] == [True, False, False, False]
    assert "spool_max_size" in told[1][1]
    assert box.lost == 3
    box.close()


def test_a_refused_batch_gets_a_new_number(tmp_path) -> None:
    """It goes after the pause; nothing newer passes it, and nothing is lost or doubled."""
    box, told, master = make(tmp_path), [], Master()
    box.link_up()
    add(box, 1, told=told)
    (first,) = send_all(box)
    add(box, 2, told=told)
    (second,) = send_all(box)
    add(box, 3)
    box.refused(*first.name, now=5.0)
    box.refused(b"?" * 16, 9, now=5.0)
    assert told == [(True, "spooled")] * 2
    box.acknowledged(*master.take(second.frame), {})
    assert box.next(5.0) is None
    deliver(box, master, 5.0 + HOLD_SECONDS)
    assert master.got == [2, 1, 3]
    box.tick(9.0)
    assert box._spool.size == 0
    box.close()


def test_a_refused_batch_of_the_spool(tmp_path) -> None:
    """The same, for one that nobody waits for any more."""
    box, master = make(tmp_path), Master()
    add(box, 1)
    box.close()
    box = make(tmp_path, b"m" * 16)
    box.link_up()
    (old,) = send_all(box)
    box.refused(*old.name, now=0.0)
    deliver(box, master, HOLD_SECONDS)
    assert master.got == [1]
    box.close()


def test_a_batch_beyond_the_masters_limit_is_dropped_aloud(tmp_path, caplog) -> None:
    """Else it would cut the connection at every try."""
    box, told = make(tmp_path), []
    add(box, 1, told=told, data=b"x" * 900_000)
    add(box, 2, told=told, data=b"x" * 2_000_000)
    box.link_up()
    box.max_event_size = 1000
    assert [batch.count for batch in send_all(box)] == [1]
    assert "max_event_size" in caplog.text
    assert [good for good, _ in told] == [False]
    assert box.lost == 1
    box.close()


class BrokenSpool:
    """A disk that fails."""

    run = 1
    broken = True
    size = events = dropped = unreported = 0

    def append(self, batches: Any, spare: Any = (0, 0)) -> int:
        raise JournalError("disk full")

    def reported(self, events: int) -> None:
        raise JournalError("disk broken")

    def after(self, key: Any, limit: int) -> list[Sealed]:
        if self.broken:
            raise JournalError("disk broken")
        return []

    def remove(self, keys: Any) -> None:
        raise JournalError("disk broken")

    def close(self) -> None:
        """Nothing to close."""


def test_a_broken_disk(caplog) -> None:
    """Nothing newer overtakes what cannot be read; what cannot be written is told as lost."""
    spool = BrokenSpool()
    box, told = Outbox(b"l" * 16, spool, LIMIT), []
    add(box, 1, told=told)
    box.link_up()
    assert box.next(0.0) is None
    spool.broken = False
    assert box.next(0.5) is None
    (batch,) = send_all(box, HOLD_SECONDS)
    box.spool_all()
    assert told == [(False, "the master cannot be reached and disk full")]
    box.acknowledged(*batch.name, {})
    box.tick(0.0)
    box.reported(1)
    assert "disk broken" in caplog.text
    box.close()


@pytest.mark.parametrize("seed", range(20))
def test_any_history_loses_and_doubles_nothing(tmp_path, seed: int) -> None:
    """Links that go up and down, answers that are lost, restarts: each event comes once."""
    dice, master = random.Random(seed), Master()
    box, number, now, flying = make(tmp_path), 0, 0.0, []
    for step in range(300):
        now += dice.random()
        match dice.randrange(8):
            case 0 | 1 | 2:
                add(box, number)
                number += 1
            case 3:
                box.link_down(now)
                flying = []
            case 4:
                box.link_up()
                flying = []
            case 5:
                flying += send_all(box, now)
            case 6 if flying:
                batch = flying.pop(0)
                name = master.take(batch.frame)
                if dice.random() < 0.7:
                    box.acknowledged(*name, {})
            case _:
                box.tick(now)
                if dice.random() < 0.3:
                    box.close()
                    box, flying = make(tmp_path, step.to_bytes(16, "big")), []
    box.link_up()
    deliver(box, master, now + 10)
    assert master.got == list(range(number))
    box.close()


def test_a_damaged_spool_is_kept_aside(tmp_path, caplog) -> None:
    """And a new one is begun."""
    (tmp_path / "spool.db").write_bytes(b"rubbish" * 1000)
    spool = DiskSpool(tmp_path / "spool.db", 1000)
    assert spool.append([Sealed((1, 1), b"l" * 16, b"frame", 1)]) == 1
    assert spool.after((0, 0), 5)[0].frame == b"frame"
    spool.close()
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1
    assert "damaged" in caplog.text


def test_the_spool_counts_its_runs_and_sizes(tmp_path) -> None:
    """A new run comes after all that is kept."""
    spool = DiskSpool(tmp_path / "spool.db", 1000)
    assert spool.run == 1
    assert spool.after((0, 0), 5) == []
    spool.remove([(1, 1)])
    assert spool.append([]) == 0
    spool.append([Sealed((1, 1), b"l", b"12345", 1), Sealed((1, 2), b"l", b"123", 1)])
    spool.close()
    spool = DiskSpool(tmp_path / "spool.db", 1000)
    assert (spool.run, spool.size) == (2, 8)
    assert [batch.key for batch in spool.after((1, 1), 5)] == [(1, 2)]
    spool.remove([(1, 1), (7, 7)])
    assert spool.size == 3
    spool.close()


def test_a_spool_that_cannot_be_used(tmp_path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")
    spool = DiskSpool(tmp_path / "file" / "spool.db", 1000)
    with pytest.raises(JournalError, match=r"spool\.db"):
        spool.append([Sealed((1, 1), b"l", b"x", 1)])
    spool = DiskSpool(tmp_path / "spool.db", 1000)
    spool.append([Sealed((1, 1), b"l", b"x", 1)])
    with sqlite3.connect(tmp_path / "spool.db") as other:
        other.execute("DROP TABLE batches")
    other.close()
    with pytest.raises(JournalError, match="read"):
        spool.after((0, 0), 1)
    with pytest.raises(JournalError, match="written"):
        spool.remove([(1, 1)])
    spool.close()


BIG = b"\xc5\x03\xe8" + b"." * 1000
"""Data of which four go into five thousand bytes."""


def fill(box: Outbox, numbers: range, told: list[Any] | None = None) -> None:
    """Add items that come into a batch each."""
    for number in numbers:
        add(box, number, told=told, data=BIG)
        box.spool_all()


def test_a_full_spool_refuses_what_is_new(tmp_path) -> None:
    """Who sends it is told why; what was there is kept."""
    box, told, master = make(tmp_path, size=5000), [], Master()
    fill(box, range(6), told)
    assert [good for good, _ in told] == [True] * 4 + [False] * 2
    assert "option spool_max_size" in told[-1][1]
    status = box.status()
    assert (status["events"], status["dropped"], status["lost"]) == (4, 0, 2)
    assert 4000 < status["bytes"] <= 5000
    box.link_up()
    deliver(box, master)
    assert master.got == [0, 1, 2, 3]
    assert box.status()["in_flight"] == 0
    box.close()


def test_a_full_spool_may_drop_the_oldest(tmp_path, caplog) -> None:
    """The newest are kept in order; how many went is counted, said, and kept over a restart."""
    box, told, master = make(tmp_path, size=5000, policy=DROP_OLDEST), [], Master()
    fill(box, range(10), told)
    assert told == [(True, "spooled")] * 10
    status = box.status()
    assert (status["events"], status["dropped"], status["lost"]) == (4, 6, 0)
    assert "spool_policy" in caplog.text
    box.close()
    box = make(tmp_path, b"m" * 16, size=5000, policy=DROP_OLDEST)
    assert (box.unreported, box.status()["dropped"], box.status()["events"]) == (6, 0, 4)
    box.link_up()
    deliver(box, master)
    box.reported(6)
    box.close()
    box = make(tmp_path, b"n" * 16, size=5000, policy=DROP_OLDEST)
    assert (box.unreported, box.status()["events"], box.status()["bytes"]) == (0, 0, 0)
    assert master.got == [6, 7, 8, 9]
    box.close()


def test_what_is_on_the_way_is_not_dropped(tmp_path) -> None:
    """It may be with the master already, so that the count would be wrong."""
    box, master = make(tmp_path, size=5000, policy=DROP_OLDEST), Master()
    fill(box, range(4))
    box.link_up()
    flying = [box.next(0.0)]
    box.sent(flying[0])
    fill(box, range(4, 6))
    assert box.status()["dropped"] == 2
    flying += send_all(box)
    for batch in flying:
        box.acknowledged(*master.take(batch.frame), {})
    assert master.got == [0, 3, 4, 5]
    assert box.status()["in_flight"] == 0
    box.close()


def test_what_never_fits_is_refused_by_either_policy(tmp_path) -> None:
    """Dropping all that is there would not help it."""
    box, told = make(tmp_path, size=1100, policy=DROP_OLDEST), []
    fill(box, range(1))
    add(box, 1, told=told, data=BIG * 2)
    box.spool_all()
    assert [good for good, _ in told] == [False]
    assert (box.status()["events"], box.status()["dropped"]) == (1, 0)
    box.close()


@pytest.mark.parametrize("seed", range(10))
def test_any_history_counts_what_it_drops(tmp_path, seed: int) -> None:
    """However links and restarts fall: what came, was dropped or refused is all there was."""
    dice, master = random.Random(seed), Master()
    box, number, now, dropped = make(tmp_path, size=5000, policy=DROP_OLDEST), 0, 0.0, 0
    for step in range(200):
        now += dice.random()
        match dice.randrange(7):
            case 0 | 1 | 2 | 3:
                add(box, number, data=BIG)
                number += 1
            case 4:
                box.link_up()
                for batch in send_all(box, now)[: dice.randrange(4)]:
                    box.acknowledged(*master.take(batch.frame), {})
                box.link_down(now)
            case 5:
                box.tick(now)
            case _ if dice.random() < 0.3:
                box.close()
                dropped += box.status()["dropped"] + box.lost
                box = make(tmp_path, step.to_bytes(16, "big"), 5000, DROP_OLDEST)
    box.link_up()
    deliver(box, master, now + 10)
    dropped += box.status()["dropped"] + box.lost
    assert master.got == sorted(set(master.got))
    assert len(master.got) + dropped == number
    box.close()
