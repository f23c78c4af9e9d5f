"""The journal: numbered without gaps, once each, there after a kill."""

import multiprocessing
import os
import signal
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from bus import store, wire
from bus.errors import JournalError
from bus.frames import Fire
from bus.journal import Journal, JournalReader, Retention, journal_path, microseconds, segments
from bus.journal.retention import SegmentInfo
from bus.store import Kept
from tests.support import SECONDS


def _event(number):
    return wire.pack_event(f"t/{number}", {"n": number, "_stamp": ""})


def _fire(number, base=None, producer=b"p", events=1):
    return Fire(producer, number, base or number, [_event(number)] * events)


@pytest.fixture
def path(tmp_path):
    """Where the journal goes."""
    return journal_path(tmp_path)


@pytest.fixture
def journal(path):
    """An open journal whose clock is set by hand."""
    clock = iter(range(1_000, 1_000_000, 1_000))
    opened = Journal(path, clock=lambda: next(clock))
    yield opened
    opened.close()


@pytest.fixture
def reader(path, journal):
    """A reader of it."""
    with JournalReader(path) as opened:
        yield opened


def test_what_is_kept_is_read_back(journal, reader):
    """Numbers begin at 1 and have no gaps; the bytes are the same."""
    answers = journal.append([_fire(1, events=2), _fire(1, producer=b"q"), _fire(2)])
    assert [answer.first_seq for answer in answers] == [1, 3, 4]
    assert reader.read(0) == [(1, _event(1)), (2, _event(1)), (3, _event(1)), (4, _event(2))]
    assert reader.last_seq() == journal.last_seq == 4
    assert reader.bus_id == journal.bus_id


def test_reading_is_bounded_at_both_ends(journal, reader):
    """After, limit and upto."""
    journal.append([_fire(number) for number in range(1, 11)])
    assert [seq for seq, _ in reader.read(3, limit=2)] == [4, 5]
    assert [seq for seq, _ in reader.read(7, upto=9)] == [8, 9]
    assert [seq for seq, _ in reader.scan(2, upto=5)] == [3, 4, 5]
    assert reader.read(10) == []


def test_a_scan_goes_over_pages(journal, reader):
    """More than a page is read without a gap."""
    journal.append([_fire(1, events=2500)])
    assert [seq for seq, _ in reader.scan()] == list(range(1, 2501))


def test_repeats_and_gaps_are_judged_within_a_group_and_after_it(journal):
    """A repeat is answered, a gap refused with what is missing; neither is kept."""
    group = [_fire(1), _fire(1), _fire(4, base=2), _fire(2)]
    assert journal.append(group) == [
        Kept(1, fresh=True),
        Kept(1, fresh=False),
        Kept(0, fresh=False, missing=1),
        Kept(2, fresh=True),
    ]
    assert journal.append([_fire(2), _fire(1), _fire(9, base=4)]) == [
        Kept(2, fresh=False),
        Kept(0, fresh=False),
        Kept(0, fresh=False, missing=3),
    ]
    assert journal.last_seq == 2


def test_it_goes_on_after_a_restart(path):
    """Numbers, producers, and the name of the bus are the same when it is opened again."""
    first = Journal(path)
    first.append([_fire(1), _fire(2, events=3)])
    first.close()
    again = Journal(path, sync="always")
    assert (again.bus_id, again.last_seq) == (first.bus_id, 4)
    assert again.append([_fire(2, events=3), _fire(3)]) == [
        Kept(2, fresh=False),
        Kept(5, fresh=True),
    ]
    again.close()


@pytest.mark.parametrize(("sync", "level"), [("normal", 1), ("always", 2)])
def test_sync_decides_what_an_acknowledgement_survives(path, sync, level):
    """``always`` flushes each group to the disk."""
    opened = Journal(path, sync=sync)
    assert opened._db.execute("PRAGMA synchronous").fetchone()[0] == level
    assert opened._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    opened.close()


def test_only_its_owner_can_read_it(path, journal):
    """The file and its helpers are made with mode 0600."""
    journal.append([_fire(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for file in path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_point_in_time_is_found(journal, reader):
    """The number of the last event before a moment, wherever the moment lies."""
    for number in range(1, 8):
        journal.append([_fire(number, events=3)])  # at 1000, 2000, ...
    assert [reader.seq_before(at) for at in (0, 1000, 1001, 2000, 4500, 7000, 7001)] == [
        0,
        0,
        3,
        3,
        12,
        18,
        21,
    ]
    assert reader.journaled_at(4) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=2)
    assert reader.journaled_at(99) is None


def test_an_empty_journal_has_no_point_in_time(reader):
    """Everything comes after."""
    assert reader.seq_before(10**15) == 0
    assert reader.last_seq() == 0


def test_a_clock_that_steps_back_does_not_disturb_the_order(path):
    """Times in the journal never fall."""
    times = iter([5000, 3000, 6000])
    opened = Journal(path, clock=lambda: next(times))
    for number in (1, 2, 3):
        opened.append([_fire(number)])
    with JournalReader(path) as reader:
        at = [microseconds(reader.journaled_at(seq)) for seq in (1, 2, 3)]
    opened.close()
    assert at == [5000, 5000, 6000]
    assert all(one <= other for one, other in pairwise(at))


def test_a_journal_of_a_newer_version_is_refused(path):
    """It says so, and leaves the file alone."""
    opened = Journal(path)
    opened.close()
    db = sqlite3.connect(opened.file)
    db.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    db.commit()
    db.close()
    with pytest.raises(JournalError, match=r"its schema is 99.*upgrade"):
        Journal(path)


def test_a_file_in_the_place_of_the_journal_is_refused(path):
    """For writing and for reading, with its path."""
    path.write_bytes(b"something else" * 100)
    with pytest.raises(JournalError, match=str(path)):
        Journal(path)
    with pytest.raises(JournalError, match=str(path)):
        JournalReader(path)


def test_a_directory_that_is_missing_is_an_error(tmp_path):
    """No traceback of sqlite or the system comes out."""
    with pytest.raises(JournalError, match="cannot open the journal"):
        Journal(tmp_path / "missing" / "journal.db")
    with pytest.raises(JournalError, match="has the master run here"):
        JournalReader(tmp_path / "missing" / "journal.db")


def test_it_can_be_read_while_nobody_writes(path):
    """After a clean end of the master, too."""
    opened = Journal(path)
    opened.append([_fire(1)])
    opened.close()
    with JournalReader(path) as reader:
        assert reader.last_seq() == 1


def test_a_read_that_fails_is_a_journal_error(path, journal, reader):
    """As when the file goes away under it."""
    reader.close()
    with pytest.raises(JournalError, match="cannot read"):
        reader.last_seq()


def test_a_write_that_fails_keeps_nothing(path, journal, reader):
    """The group is refused as a whole, and the next one takes its numbers."""
    journal.append([_fire(1)])
    journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append([_fire(2), _fire(3)])
    journal._db.execute("PRAGMA query_only = 0")
    assert journal.append([_fire(2)]) == [Kept(2, fresh=True)]
    assert reader.last_seq() == 2


def test_silent_producers_are_forgotten_at_a_restart_too(path, monkeypatch):
    """Their number is bounded, and the longest silent one goes first."""
    monkeypatch.setattr(store, "MAX_PRODUCERS", 2)
    opened = Journal(path)
    for name in (b"a", b"b", b"c", b"b"):
        opened.append([_fire(1, producer=name)])
    opened.append([_fire(2, producer=b"b")])
    opened.close()
    again = Journal(path)
    assert [name for name, *_ in again._producers.rows()] == [b"c", b"b"]
    assert again.append([_fire(1, producer=b"b")]) == [Kept(0, fresh=False)]
    again.close()


def test_producers_are_known_in_the_next_segment(path):
    """Also those that fired nothing since it began."""
    journal = _small(path)
    journal.append([_fire(7, producer=b"early")])
    for number in range(1, 200):
        journal.append([_fire(number)])
    journal.close()
    assert len(segments.first_seqs(path)) > 2
    again = Journal(path)
    early, late = again.append([_fire(7, producer=b"early"), _fire(199)])
    assert (early, late) == (Kept(1, fresh=False), Kept(200, fresh=False))
    again.close()


def _write_until_killed(path, pipe):
    opened = Journal(path)
    number = 0
    while True:
        group = [_fire(number + place) for place in range(1, 8)]
        opened.append(group)
        number += len(group)
        os.write(pipe, b"%20d" % number)  # the acknowledgement


@pytest.mark.parametrize("acknowledged", [7, 350, 3500])
def test_all_that_was_acknowledged_is_there_once_after_a_kill(path, acknowledged):
    """A writer is killed at any moment; a new one goes on, and repeats are known."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    child = multiprocessing.get_context("fork").Process(
        target=_write_until_killed, args=(path, writing)
    )
    child.start()
    os.close(writing)
    while (last := int(os.read(reading, 20))) < acknowledged:
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.join(SECONDS)
    child.close()
    while more := os.read(reading, 20):
        last = int(more)
    os.close(reading)
    opened = Journal(path)
    with JournalReader(path) as reader:
        numbers = [wire.unpack_event(raw)[1]["n"] for _, raw in reader.scan()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= last
        (again,) = opened.append([_fire(last)])
        assert not again.fresh
        (missing,) = opened.append([_fire(len(numbers) + 2, base=1)])
        assert missing.missing == len(numbers)
    opened.close()


def test_the_version_is_known():
    """The number that a newer version would raise."""
    assert segments.SCHEMA_VERSION == 1


# -- segments ----------------------------------------------------------------------------------


def _small(path, **kept):
    clock = iter(range(1_000_000, 10**12, 1_000_000))
    return Journal(path, retention=Retention(segment_size=800, **kept), clock=lambda: next(clock))


def test_many_segments_are_one_journal(path):
    """Reading, counting and looking for a time go over the borders of files."""
    journal = _small(path)
    for number in range(1, 101):
        journal.append([_fire(number, events=3)])
    journal.close()
    assert len(segments.first_seqs(path)) > 5
    with JournalReader(path) as reader:
        assert [seq for seq, _ in reader.scan()] == list(range(1, 301))
        assert [seq for seq, _ in reader.read(123, limit=200)] == list(
            range(124, 124 + len(reader.read(123, limit=200)))
        )
        assert reader.last_seq() == 300
        for seq in (1, 50, 151, 300):
            at = microseconds(reader.journaled_at(seq))
            assert reader.seq_before(at) < seq <= reader.seq_before(at + 1)
    again = Journal(path)
    assert (again.last_seq, again.bus_id) == (300, journal.bus_id)
    assert again.append([_fire(100, events=3), _fire(101)]) == [
        Kept(298, fresh=False),
        Kept(301, fresh=True),
    ]
    again.close()


def test_a_reader_follows_new_segments_and_loses_no_place_in_old_ones(path):
    """A reader that is open while segments come and go reads on."""
    journal = _small(path, max_size=8_000)
    journal.append([_fire(1)])
    with JournalReader(path) as reader:
        seen = [seq for seq, _ in reader.scan()]
        for number in range(2, 400):
            journal.append([_fire(number)])
            if number % 50 == 0:
                seen += [seq for seq, _ in reader.scan(seen[-1])]
        seen += [seq for seq, _ in reader.scan(seen[-1])]
        assert seen == sorted(set(seen))
        assert seen[-1] == 399
        assert reader.first_seq() > 1
        status = journal.status()
        assert status["first_seq"] == reader.first_seq()
        assert status["events"] == 400 - status["first_seq"]
        assert status["files"] == len(list(path.glob("*.db")))
        assert status["bytes"] >= sum(file.stat().st_size for file in path.glob("*.db"))
        assert reader.read(0)[0][0] == reader.first_seq()
    journal.close()


def test_what_is_too_old_goes_in_whole_files(path):
    """The events of the time that is kept stay, and the numbers go on."""
    journal = _small(path, keep=20)
    for number in range(1, 201):
        journal.append([_fire(number)])
    journal.maintain()
    with JournalReader(path) as reader:
        assert 100 < reader.first_seq() < 200
        assert reader.last_seq() == 200
    journal.close()


@pytest.mark.parametrize(
    ("retention", "gone"),
    [
        (Retention(), []),
        (Retention(keep=10), [1, 11]),
        (Retention(keep=100), []),
        (Retention(max_size=250), [1, 11]),
        (Retention(max_size=1000), []),
        (Retention(keep=10, max_size=150), [1, 11, 21]),
    ],
)
def test_retention_chooses_the_oldest(retention, gone):
    """By age, by size, or by whichever asks for more; never the one that is written."""
    closed = [SegmentInfo(first, 100, at) for first, at in ((1, 0), (11, 5), (21, 30))]
    closed = [SegmentInfo(one.first_seq, one.size, one.newest_at * 1_000_000) for one in closed]
    found = retention.expired(closed, 100, 30_000_000)
    assert [segment.first_seq for segment in found] == gone


def test_a_rotation_that_fails_loses_nothing(path, monkeypatch):
    """The old file stays in use until a new one can be made."""
    journal = _small(path)

    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "create", full)
        for number in range(1, 61):
            journal.append([_fire(number)])
        assert len(segments.first_seqs(path)) == 1
    journal.append([_fire(61)])
    assert len(segments.first_seqs(path)) == 2
    with JournalReader(path) as reader:
        assert [seq for seq, _ in reader.scan()] == list(range(1, 62))
    journal.close()


def test_an_unfinished_segment_is_no_segment(path):
    """A kill in the middle of a rotation leaves a file that is ignored."""
    journal = Journal(path)
    journal.append([_fire(1)])
    journal.close()
    (path / f"{2:020d}.new").write_bytes(b"half")
    again = Journal(path)
    assert again.append([_fire(2)]) == [Kept(2, fresh=True)]
    again.close()


def test_a_damaged_file_gives_back_all_that_is_whole(path, caplog):
    """What could not be read is named; the rest is there, and writing goes on."""
    journal = Journal(path)
    for number in range(1, 2001):
        journal.append([_fire(number)])
    journal.close()
    with journal.file.open("r+b") as file:
        file.seek(journal.file.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    again = Journal(path)
    assert "taken out of a damaged journal file" in caplog.text
    with JournalReader(path) as reader:
        kept = [wire.unpack_event(raw)[1]["n"] for _, raw in reader.scan()]
    assert len(kept) > 1700
    assert kept == sorted(set(kept))
    assert kept[-1] == 2000
    assert again.bus_id == journal.bus_id
    assert again.append([_fire(2001)]) == [Kept(2001, fresh=True)]
    assert list(path.glob("*.damaged"))
    again.close()


def test_a_truncated_file_gives_back_its_beginning(path):
    """As after a copy that ended too early."""
    journal = Journal(path)
    for number in range(1, 2001):
        journal.append([_fire(number)])
    journal.close()
    os.truncate(journal.file, journal.file.stat().st_size // 2)
    again = Journal(path)
    with JournalReader(path) as reader:
        kept = [seq for seq, _ in reader.scan()]
    assert kept == sorted(set(kept))
    assert 500 < len(kept) < 2000
    again.close()


def test_a_kill_while_a_damaged_file_is_salvaged_loses_nothing(path, monkeypatch):
    """The damaged file keeps its name until all that is whole stands in the new one."""
    journal = Journal(path)
    for number in range(1, 2001):
        journal.append([_fire(number)])
    journal.close()
    os.truncate(journal.file, journal.file.stat().st_size // 2)
    with monkeypatch.context() as patch:
        patch.setattr("bus.journal.salvage._note_skipped", _killed)
        with pytest.raises(KeyboardInterrupt):
            Journal(path)
    again = Journal(path)
    with JournalReader(path) as reader:
        assert 500 < len(list(reader.scan())) < 2000
    assert len(list(path.glob("*.damaged"))) == 1
    again.close()


def _killed(*_):
    raise KeyboardInterrupt


def test_a_segment_is_readable_before_its_writer_has_opened_it(path):
    """A reader may not write, so nothing may be left for it to finish after a kill."""
    journal = Journal(path)
    journal.append([_fire(1)])
    segments.create(segments.segment_file(path, 2), segments.meta(journal.bus_id), [])
    with closing(segments.open_reader(segments.segment_file(path, 2))) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with JournalReader(path) as reader:
        assert [seq for seq, _ in reader.scan()] == [1]
        assert reader.last_seq() == 1
    journal.close()


def _disk(path):
    return sum(file.stat().st_size for file in path.iterdir() if file.suffix != ".lock")


def test_a_reader_keeps_no_segment_in_its_log(path):
    """The reactor always reads: what is full moves into its file all the same, and is counted."""
    journal = Journal(path, retention=Retention(max_size=4 << 20, segment_size=1 << 20))
    body = wire.pack([wire.pack_event("t", {"x": "y" * 20_000, "_stamp": ""})])
    with JournalReader(path) as reader:
        for number in range(1, 1001):
            journal.append([Fire(b"p", number, number, [b"event"], body)])
            if number % 20 == 0:
                reader.last_seq()
        journal._wait_for_closing()
        closed = segments.first_seqs(path)[:-1]
        assert closed
        assert not any(segments.has_log(segments.segment_file(path, first)) for first in closed)
        assert _disk(path) < 8 << 20
        assert 3 << 20 < journal.status()["bytes"] < 8 << 20
    journal.close()


def test_a_log_that_was_left_is_moved_at_the_start(path):
    """As after a kill while a full segment was closed."""
    journal = Journal(path)
    journal.append([_fire(1)])
    first, at = journal.file, journal.last_seq + 1
    segments.create(segments.segment_file(path, at), segments.meta(journal.bus_id), [])
    assert segments.has_log(first)
    with JournalReader(path) as reader:
        again = Journal(path)
        assert not segments.has_log(first)
        assert [seq for seq, _ in reader.scan()] == [1]
        assert again.append([_fire(2)]) == [Kept(2, fresh=True)]
        again.close()
    journal.close()


def test_a_segment_that_cannot_be_opened_leaves_nothing(path, monkeypatch):
    """Else the empty one would pass for the newest, and what is written to the old one be lost."""
    journal = Journal(path, retention=Retention(segment_size=100))

    def full(*_):
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "open_writer", full)
        journal.append([_fire(1)])
        journal.append([_fire(2)])
    assert segments.first_seqs(path) == [1]
    journal.close()
    again = Journal(path)
    assert again.last_seq == 2
    again.close()


def test_a_kill_while_a_salvaged_segment_takes_its_place(path):
    """It is whole by then, so the next start puts it there."""
    journal = Journal(path)
    for number in range(1, 11):
        journal.append([_fire(number)])
    journal.close()
    whole = journal.file.with_suffix(".whole")
    journal.file.rename(whole)
    journal.file.write_bytes(b"damaged")
    journal.file.with_name(f"{journal.file.name}-wal").write_bytes(b"of the damaged one")
    again = Journal(path)
    assert again.last_seq == 10
    assert not whole.exists()
    again.close()
