"""What is kept by bank and key."""

import stat

import pytest

from bus.banks import Banks
from bus.errors import BusError, DataError


@pytest.fixture
def banks(tmp_path):
    """An empty store."""
    return Banks(tmp_path / "banks")


def test_what_is_stored_is_there_again(banks, tmp_path):
    """Whoever opens the folder the next time, and in private files."""
    banks.store("deploys/web", "last", {"at": 1, "by": ["a", None, b"x"]})
    banks.store("deploys/web", "last", {"at": 2})
    banks.store("deploys", "count", 3)
    again = Banks(tmp_path / "banks")
    assert again.fetch("deploys/web", "last") == {"at": 2}
    assert again.list("deploys") == ["count", "web"]
    assert again.list("deploys/web") == ["last"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(files) == 2


def test_what_is_not_there(banks):
    """Nothing, and no error."""
    assert banks.fetch("no", "such") is None
    assert banks.list("no") == []
    assert not banks.flush("no")
    assert not banks.flush("no", "such")
    banks.store("yes", "a", 1)
    assert banks.list("yes/a") == []
    assert not banks.flush("yes/a")


def test_flushing(banks):
    """A key, or all of a bank."""
    for key in ("a", "b"):
        banks.store("x/y", key, 1)
    assert banks.flush("x/y", "a")
    assert banks.list("x/y") == ["b"]
    assert banks.flush("x")
    assert banks.list("x") == []


@pytest.mark.parametrize("name", ["..", ".", "../../etc", "a/../..", "/etc/passwd", "a\0b", ".h"])
def test_names_lead_nowhere_else(banks, tmp_path, name):
    """They may come from an event: as a key each is a name like any other."""
    banks.store("b", name, name)
    assert banks.fetch("b", name) == name
    assert banks.list("b") == [name]
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.parent == tmp_path / "banks" / "b"


@pytest.mark.parametrize("bank", ["..", "a/..", "x.value"])
def test_banks_lead_nowhere_else(banks, tmp_path, bank):
    """Nor do they meet the file of a key."""
    banks.store("x", "k", 1)
    banks.store(bank, "k", 2)
    assert (banks.fetch("x", "k"), banks.fetch(bank, "k")) == (1, 2)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert all(path.is_relative_to(tmp_path / "banks") for path in files)


@pytest.mark.parametrize(
    ("bank", "key"),
    [("", "k"), ("a//b", "k"), ("/a", "k"), ("a", ""), ("a", 1), ("a", "x" * 300), ("a", "\ud800")],
)
def test_names_that_cannot_be_used(banks, bank, key):
    """The error says which."""
    with pytest.raises(DataError, match=r"bank|key"):
        banks.store(bank, key, 1)


def test_what_cannot_be_kept(banks, tmp_path):
    """The old value stays, and no half-written file."""
    banks.store("b", "k", 1)
    with pytest.raises(DataError, match="msgpack"):
        banks.store("b", "k", object())
    assert banks.fetch("b", "k") == 1
    (tmp_path / "banks" / "file").write_text("")
    with pytest.raises(BusError, match="file"):
        banks.store("file", "k", 1)
    assert [path.name for path in (tmp_path / "banks" / "b").iterdir()] == ["k.value"]


def test_what_cannot_be_read(banks, tmp_path):
    """It is said, and not taken for nothing."""
    (tmp_path / "banks" / "b" / "k.value").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot read"):
        banks.fetch("b", "k")
    with pytest.raises(BusError, match="cannot remove"):
        banks.flush("b", "k")
