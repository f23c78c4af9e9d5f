"""Cursors: named places that survive, in a file that one process writes."""

import logging
import stat

import pytest

from bus.broker import cursors as module
from bus.broker.cursors import Cursors, cursors_path
from bus.errors import DataError, JournalError


@pytest.fixture
def path(tmp_path):
    """Where they are."""
    return cursors_path(tmp_path)


def test_they_are_there_after_a_restart(path):
    """With the time at which they were moved."""
    made = Cursors(path, clock=lambda: 17)
    assert made.get("a") is None
    assert made.set("a", "bus1", 5) == 5
    made.close()
    made = Cursors(path, sync="always")
    assert made.get("a") == {"bus_id": "bus1", "seq": 5, "at": 17}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made.close()


def test_only_forward_is_within_one_numbering(path):
    """Another journal begins anew."""
    made = Cursors(path)
    made.set("a", "bus1", 5)
    assert made.set("a", "bus1", 3, only_forward=True) == 5
    assert made.set("a", "bus2", 3, only_forward=True) == 3
    assert made.set("a", "bus2", 1) == 1
    assert made.all()["a"]["seq"] == 1
    made.close()


def test_there_is_a_limit(path, monkeypatch):
    """The error says what to do; those that are there still move."""
    monkeypatch.setattr(module, "MAX_CURSORS", 2)
    made = Cursors(path)
    made.set("a", "b", 1)
    made.set("b", "b", 1)
    with pytest.raises(DataError, match="--delete NAME"):
        made.set("c", "b", 1)
    assert made.set("b", "b", 2) == 2
    made.close()


def test_what_cannot_be_kept_is_an_error(path):
    """Here a closed file; on a full disk it is the same."""
    made = Cursors(path)
    made.close()
    with pytest.raises(JournalError, match="cannot be used"):
        made.set("a", "b", 1)
    path.unlink()
    path.mkdir()
    with pytest.raises(JournalError, match="cannot open the cursors"):
        Cursors(path)


def test_a_damaged_file_is_put_aside(path, caplog):
    """What can be read of it is kept, and it is said."""
    made = Cursors(path)
    for number in range(2000):
        made.set(f"name-{number:04}", "bus", number)
    made.close()
    data = bytearray(path.read_bytes())
    data[-4096:] = b"\xa5" * 4096
    path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        made = Cursors(path)
    assert "is damaged" in caplog.text
    assert 0 < len(made.all()) < 2000
    assert path.with_suffix(".damaged").exists()
    made.close()
    path.write_bytes(b"nothing of ours" * 1000)
    made = Cursors(path)
    assert made.all() == {}
    made.close()
