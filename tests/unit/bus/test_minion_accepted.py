"""The file of accepted, unfinished jobs."""

import stat

import pytest

from bus.errors import JournalError
from bus.minion.accepted import AcceptedJobs
from bus.minion.jobs import Job


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "accepted.db"


def unfinished(path):
    jobs = AcceptedJobs(path)
    try:
        return [(job.jid, job.fun) for job in jobs.unfinished]
    finally:
        jobs.close()


def test_what_was_not_removed_is_there_again(path):
    """In the order in which the master made the ids; only for the owner's eyes."""
    jobs = AcceptedJobs(path)
    assert jobs.unfinished == []
    for jid in ("3", "1", "2"):
        jobs.add(Job(jid, "test.ping"))
    jobs.add(Job("1", "test.ping"))
    jobs.remove("2")
    jobs.remove("9")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # Not closed: that is what a kill looks like.
    assert unfinished(path) == [("1", "test.ping"), ("3", "test.ping")]
    jobs.close()


def test_a_damaged_file_is_put_aside(path):
    """It is begun anew, and kept for whoever wants to look."""
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    assert unfinished(path) == []
    (aside,) = path.parent.glob("accepted.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database")


def test_a_place_where_no_file_can_be(path):
    """One line with the option to look at."""
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match="the option state_dir"):
        AcceptedJobs(path)


def test_a_file_that_cannot_be_written(path):
    """An error of ours."""
    jobs = AcceptedJobs(path)
    jobs.close()
    with pytest.raises(JournalError, match="cannot be used"):
        jobs.add(Job("1", "test.ping"))
    with pytest.raises(JournalError, match="cannot be used"):
        jobs.remove("1")
