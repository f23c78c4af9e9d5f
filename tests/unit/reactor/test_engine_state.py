"""The engine's database."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from bus import wire
from bus.frames import Fire
from bus.journal import Journal, journal_path
from reactor.engine.state import State, Unfinished, prepare, state_path
from reactor.errors import ReactorError


def test_a_new_state_knows_no_cursor(tmp_path):
    """Nothing was read yet, and nothing is under way."""
    state = State(tmp_path / "r.db")
    assert state.cursor() is None
    assert state.unfinished() == []
    state.close()


def test_a_turn_is_written_as_one(tmp_path):
    """Cursor, beginnings, progress and ends of a turn are all there after a reopening."""
    state = State(tmp_path / "r.db")
    state.save(bus_id="b", seq=3, begun=[(2, "f::a"), (3, "f::b")])
    state.save(bus_id="b", seq=5, finished=[(2, "f::a")], progress={(3, "f::b"): {1, 0}})
    state.close()
    again = State(tmp_path / "r.db")
    assert again.cursor() == ("b", 5)
    assert again.unfinished() == [Unfinished(3, "f::b", frozenset({0, 1}))]
    again.close()


def test_the_file_is_private(tmp_path):
    """Event data may hold secrets, so nobody else reads the database."""
    State(tmp_path / "r.db").close()
    assert stat.S_IMODE((tmp_path / "r.db").stat().st_mode) == 0o600


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path):
    """The error names the file and says what to do."""
    (tmp_path / "r.db").write_text("nonsense " * 1000)
    with pytest.raises(ReactorError, match=r"r\.db.*check the directory"):
        State(tmp_path / "r.db")


def test_a_failed_write_leaves_nothing_half_written(tmp_path):
    """A turn that cannot be written is not written at all."""
    state = State(tmp_path / "r.db")
    state.save(bus_id="b", seq=1)
    with pytest.raises(ReactorError, match="cannot be written"):
        state.save(bus_id="b", seq=None, begun=[(2, "f::a")])  # type: ignore[arg-type]
    assert state.cursor() == ("b", 1)
    assert state.unfinished() == []
    state.close()


def test_prepare_begins_at_the_end_of_an_older_journal(tmp_path):
    """A reactor that is new to an old journal does not react to history."""
    journal = Journal(journal_path(tmp_path))
    journal.append([Fire(b"p", 1, 1, [wire.pack_event("a", {}), wire.pack_event("b", {})])])
    bus_id = journal.bus_id
    journal.close()
    prepare(tmp_path)
    state = State(state_path(tmp_path))
    assert state.cursor() == (bus_id, 2)
    state.close()


def test_prepare_before_the_first_event_misses_none(tmp_path):
    """Before there is a journal, the reactor begins at its start; later calls change nothing."""
    prepare(tmp_path)
    prepare(tmp_path)
    state = State(state_path(tmp_path))
    assert state.cursor() == ("", 0)
    state.close()


def test_reset_forgets_what_belongs_to_another_journal(tmp_path):
    """With another journal, old numbers mean nothing."""
    state = State(tmp_path / "r.db")
    state.save(bus_id="b", seq=3, begun=[(2, "f::a")])
    state.reset("c", 0)
    assert state.cursor() == ("c", 0)
    assert state.unfinished() == []
    state.close()
    with sqlite3.connect(tmp_path / "r.db") as db:
        assert db.execute("SELECT count(*) FROM firings").fetchone() == (0,)
    db.close()
