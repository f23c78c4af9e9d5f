"""The wheel functions, on real key files and a real bus."""

import pytest

from bus.config import master_config
from bus.errors import BusError
from bus.keys import KeyStore, fingerprint
from tests.unit.bus.loader_tools import link, master_bus, wheel

KEY = b"0" * 40


@pytest.fixture
def opts(tmp_path):
    """A master's options."""
    (tmp_path / "s").mkdir(mode=0o700)
    return master_config({"sock_dir": str(tmp_path / "s"), "pki_dir": str(tmp_path / "pki")})


@pytest.fixture
def key(opts):
    """The module, with three minions that ask."""
    store = KeyStore(opts["pki_dir"])
    for ident in ("web1", "web2", "db1"):
        store.submit(ident, KEY)
    return wheel("key", opts)


def test_listing(key):
    """All keys, or those of a state."""
    everything = {
        "minions": [],
        "minions_pre": ["db1", "web1", "web2"],
        "minions_rejected": [],
        "minions_denied": [],
    }
    assert key.list_all() == everything
    assert key.list() == everything
    assert key.list("pre") == key.list("minions_pre") == {"minions_pre": ["db1", "web1", "web2"]}
    assert key.list("acc") == {"minions": []}
    with pytest.raises(ValueError, match="unknown state 'odd'"):
        key.list("odd")


def test_changes_without_a_bus(key):
    """The files say what holds; nobody need hear of it."""
    assert key.accept("web*") == {"minions": ["web1", "web2"]}
    assert key.accept("web*") == {}
    assert key.reject("db1") == {"minions_rejected": ["db1"]}
    assert key.reject("web2", include_accepted=True) == {"minions_rejected": ["web2"]}
    assert key.accept("db1", include_rejected=True) == {"minions": ["db1"]}
    assert key.delete("*") == {"deleted": ["db1", "web1", "web2"]}
    assert key.list_all()["minions"] == []


def test_changes_are_announced(opts, key):
    """Each key has its event."""
    with master_bus(opts) as hear:
        key.accept("web*")
        assert hear() == ("salt/key", {"id": "web1", "act": "accept", "result": True})
        assert hear() == ("salt/key", {"id": "web2", "act": "accept", "result": True})
        key.reject("db1")
        assert hear()[1]["act"] == "reject"
        key.delete("db1")
        assert hear()[1]["act"] == "delete"


def test_a_key_that_has_not_come_yet(opts, key):
    """It is accepted, and announced; one that is known is left alone."""
    with master_bus(opts) as hear:
        assert key.add("new", "1" * 40) == {"minions": ["new"]}
        assert hear() == ("salt/key", {"id": "new", "act": "accept", "result": True})
    assert KeyStore(opts["pki_dir"]).finger("new")["minions"] == {"new": fingerprint(b"1" * 40)}
    with pytest.raises(BusError, match="a key of web1 is pending already: 'reactor key delete"):
        key.add("web1", "1" * 40)
    with pytest.raises(BusError, match="40 characters"):
        key.add("other", "short")
    with pytest.raises(BusError, match="must not"):
        key.add("a/b", "1" * 40)


def test_a_bus_that_refuses(key, monkeypatch):
    """A key is accepted, whatever becomes of its event."""

    def refuse(*_args, **_kwargs):
        raise BusError("no")

    monkeypatch.setattr("bus.event.SaltEvent.fire_event", refuse)
    assert key.accept("web1") == {"minions": ["web1"]}


def test_fingerprints_and_keys(key):
    """A fingerprint contains the key."""
    assert key.finger("db*") == {"minions_pre": {"db1": fingerprint(KEY)}}
    assert key.key_str("db1") == {"minions_pre": {"db1": KEY.decode()}}
    assert set(key.finger()["minions_pre"]) == {"db1", "web1", "web2"}


@pytest.mark.parametrize("match", ["", None, ["web1"]])
def test_a_match_is_text(key, match):
    """Nothing is never everything."""
    with pytest.raises(ValueError, match="give the id of a minion"):
        key.delete(match)


def test_config_values(opts):
    """Options are shown, secrets are not."""
    values = wheel("config", {**opts, "api": {"password": "x", "list": [{"token": "y"}]}}).values()
    assert values["ret_port"] == 4506
    assert values["pki_dir"] == opts["pki_dir"]
    assert values["api"] == {"password": "(hidden)", "list": [{"token": "(hidden)"}]}


def test_connected(opts):
    """The link server knows."""
    with link(opts, {"minions.connected": lambda _: ["b", "a"]}):
        assert wheel("minions", opts).connected() == ["a", "b"]
