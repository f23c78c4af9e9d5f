"""Checking a journal, and saving what is whole in its damaged files."""

import contextlib
import sqlite3

import pytest

from bus import wire
from bus.errors import AlreadyRunningError, JournalError
from bus.frames import Fire
from bus.journal import Journal, JournalReader, Retention, journal_path, segments
from bus.journal.check import check, repair
from bus.journal.salvage import Salvaged
from bus.lock import DirectoryLock


def _event(number):
    return wire.pack_event(f"t/{number}", {"n": number, "text": "x" * 1000})


@pytest.fixture
def path(tmp_path):
    """A journal of several files with 1,000 events, ten a fire."""
    made = journal_path(tmp_path)
    journal = Journal(made, retention=Retention(segment_size=200_000))
    for first in range(0, 1000, 10):
        events = [_event(first + number) for number in range(10)]
        journal.append([Fire(b"p", first // 10 + 1, 1, events)])
    journal.close()
    assert len(segments.first_seqs(made)) > 3
    return made


def _file(path, place):
    return segments.segment_file(path, segments.first_seqs(path)[place])


def _change(file, sql, *params):
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute(sql, params)


def _damage(path):
    return [finding for finding in check(path) if finding.is_damage]


def test_a_whole_journal(path):
    """Nothing is found, while a bus writes as well, and the progress ends at the last event."""
    seen = []
    journal = Journal(path)
    assert list(check(path, seen.append)) == []
    journal.close()
    assert seen[-1] == 1000
    assert seen == sorted(seen)


def test_no_journal(tmp_path):
    """An error that says so."""
    with pytest.raises(JournalError, match="has the master run"):
        list(check(tmp_path))
    with pytest.raises(JournalError, match="has the master run"):
        list(repair(tmp_path))


def test_a_missing_row_is_found_and_repaired(path):
    """Its numbers are named; after the repair they are known as lost, and no damage."""
    file = _file(path, 1)
    first = int(file.stem)
    _change(file, "DELETE FROM fires WHERE first_seq = ?", first + 10)
    (finding,) = _damage(path)
    assert str(finding) == f"{file}: the events {first + 10} to {first + 19} are missing"
    (salvaged,) = repair(path.parent)
    assert isinstance(salvaged, Salvaged)
    assert salvaged.skipped == [(first + 10, first + 19)]
    assert salvaged.put_aside.exists()
    assert _damage(path) == []
    (known,) = check(path)
    assert "could not be saved" in str(known)
    assert list(repair(path.parent)) == []


def test_an_event_that_cannot_be_read_costs_no_other(path):
    """A fire is taken apart: those around it are kept."""
    file = _file(path, 1)
    first = int(file.stem)
    events = [_event(number) for number in range(10)]
    events[3] = b"no event"
    events[4] = 17
    body = wire.pack(events)
    _change(file, "UPDATE fires SET body = ? WHERE first_seq = ?", body, first)
    assert [finding.what for finding in _damage(path)] == [
        f"the event {first + 3} cannot be read",
        f"the event {first + 4} cannot be read",
    ]
    (salvaged,) = repair(path.parent)
    assert salvaged.skipped == [(first + 3, first + 4)]
    assert _damage(path) == []
    with JournalReader(path) as reader:
        kept = [seq for seq, _ in reader.scan()]
    assert kept == [seq for seq in range(1, 1001) if seq not in (first + 3, first + 4)]


@pytest.mark.parametrize("body", [b"\xc1", wire.pack([b"a"]), wire.pack("text"), "text", None])
def test_a_fire_that_cannot_be_taken_apart(path, body):
    """All of its numbers are named; the next repair keeps the file of the first one."""
    file = _file(path, 1)
    first = int(file.stem)
    for place in (first, first + 20):
        value = b"" if body is None else body
        _change(file, "UPDATE fires SET body = ? WHERE first_seq = ?", value, place)
        (finding,) = _damage(path)
        assert finding.what == f"the events {place} to {place + 9} cannot be read"
        (salvaged,) = repair(path.parent)
        assert salvaged.put_aside.exists()
    assert len(list(path.glob("*.damaged*"))) == 2
    assert len([finding for finding in check(path) if not finding.is_damage]) == 2


def test_a_file_that_was_cut_short(path):
    """What SQLite says is shown; the end that is gone is known from the next file."""
    file = _file(path, 1)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    assert _damage(path)[0].file == file
    (salvaged,) = repair(path.parent)
    assert salvaged.events > 0
    assert salvaged.skipped[-1][1] == int(_file(path, 2).stem) - 1
    assert _damage(path) == []


def test_a_file_that_is_none(path):
    """Random bytes in its place: its events are gone, those of the others are not."""
    file = _file(path, 2)
    file.write_bytes(b"nothing of ours" * 1000)
    assert "cannot be read" in str(_damage(path)[0])
    (salvaged,) = repair(path.parent)
    assert salvaged.events == 0
    assert _damage(path) == []
    with JournalReader(path) as reader:
        assert reader.last_seq() == 1000


def test_a_gap_between_files_cannot_be_repaired(path):
    """It is said again by the repair, and goes on being damage."""
    file = _file(path, 1)
    first, after = int(file.stem), int(_file(path, 2).stem)
    file.unlink()
    what = f"the events {first} to {after - 1} are missing"
    assert [finding.what for finding in _damage(path)] == [what]
    assert [finding.what for finding in repair(path.parent)] == [what]
    assert len(_damage(path)) == 1


def test_numbers_that_are_there_twice(path):
    """Within a file and between two."""
    file = _file(path, 0)
    _change(file, "UPDATE fires SET count = 11, body = ? WHERE first_seq = 1", _body(11))
    last = int(_file(path, 1).stem) - 10
    _change(file, "UPDATE fires SET count = 11, body = ? WHERE first_seq = ?", _body(11), last)
    found = [finding.what for finding in _damage(path)]
    assert found[0] == "the numbers from 11 on are there twice"
    assert found[1].startswith(f"the next file has the numbers {last + 10} to")


def _body(count):
    return wire.pack([_event(number) for number in range(count)])


def test_no_repair_while_the_bus_runs(path):
    """One clear line, and nothing is touched."""
    lock = DirectoryLock(path.parent / "journal.lock")
    try:
        with pytest.raises(AlreadyRunningError, match="the bus is running"):
            list(repair(path.parent))
    finally:
        lock.release()


def test_a_journal_without_any_whole_file_has_no_name(tmp_path):
    """Nothing says which journal it was."""
    path = journal_path(tmp_path)
    Journal(path).close()
    _file(path, 0).write_bytes(b"x" * 5000)
    with pytest.raises(JournalError, match="which journal it is"):
        list(repair(tmp_path))


def test_reading_damaged_events_says_how_to_repair(path):
    """An error of one line with file and number, and after the repair the rest is read."""
    first = int(_file(path, 1).stem)
    _change(_file(path, 1), "UPDATE fires SET body = ? WHERE first_seq = ?", b"\xc1", first)
    with (
        JournalReader(path) as reader,
        pytest.raises(JournalError, match=f"from {first} on are damaged.*--repair"),
    ):
        reader.read(first - 1)
    list(repair(path.parent))
    with JournalReader(path) as reader:
        assert reader.read(first - 1)[0][0] == first + 10
