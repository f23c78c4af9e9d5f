"""The wheel functions, on real key files and a real bus."""

import stat

import pytest

from bus.config import master_config
from bus.errors import BusError
from bus.keys import Keypair, KeyStore, fingerprint
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


@pytest.fixture
def conf(tmp_path):
    """A master's configuration directory."""
    made = tmp_path / "conf"
    made.mkdir(mode=0o700)
    (made / "master").write_text("# mine\ntimeout: 4\nrules: [rules]\n")
    return made


def changed(conf):
    """The wheel functions of config, and what the master's options are now."""
    opts = master_config(str(conf))
    return wheel("config", opts), opts


def test_an_option_is_set_for_good(conf):
    """The next start of the master finds it; what is written by hand stays as it is."""
    config, _ = changed(conf)
    written = conf / "master.d/zz-applied.conf"
    assert config.apply("timeout", 9) == f"Wrote {written}"
    config.apply("nodegroups", {"web": "web*"})
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    config, opts = changed(conf)
    assert (opts["timeout"], opts["nodegroups"]["web"]) == (9, "web*")
    config.apply("timeout", None)
    assert changed(conf)[1]["timeout"] == 4
    assert (conf / "master").read_text().startswith("# mine")


def test_options_in_a_file_of_their_own(conf):
    """The file is replaced as a whole; lists that are joined are joined."""
    config, _ = changed(conf)
    config.update_config("site", {"timeout": 7, "rules": ["more"]})
    assert changed(conf)[1]["rules"] == (str(conf / "rules"), str(conf / "more"))
    assert config.update_config("site.conf", {"timeout": 8}) == f"Wrote {conf}/master.d/site.conf"
    opts = changed(conf)[1]
    assert (opts["timeout"], len(opts["rules"])) == (8, 1)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("site", {"timeuot": 7}, "did you mean"),
        ("site", {"timeout": "soon"}, "timeout"),
        ("site", {"sock_dir": "/" + "x" * 200}, "too long"),
        ("site", "timeout: 7", "are a mapping"),
        ("site", {"reactor_notify": {"a": object()}}, "plain data"),
        ("../site", {}, "no name for a file"),
        ("", {}, "no name for a file"),
        (".hidden", {}, "no name for a file"),
    ],
)
def test_options_that_no_master_would_take(conf, name, options, text):
    """They are refused, and nothing is written: the master would not start."""
    config, _ = changed(conf)
    with pytest.raises(BusError, match=text):
        config.update_config(name, options)
    assert sorted(path.name for path in conf.rglob("*.conf")) == []


def test_an_option_that_cannot_be_set(conf):
    """A joined list, one that there is not, a file that is broken or cannot be had."""
    config, _ = changed(conf)
    with pytest.raises(BusError, match="rules is joined"):
        config.apply("rules", ["x"])
    with pytest.raises(BusError, match="did you mean"):
        config.apply("timeuot", 1)
    applied = conf / "master.d/zz-applied.conf"
    applied.parent.mkdir()
    applied.write_text("a: [")
    with pytest.raises(BusError, match=r"zz-applied\.conf:\d"):
        config.apply("timeout", 1)
    applied.write_bytes(b"\xff")
    with pytest.raises(BusError, match="cannot be read"):
        config.apply("timeout", 1)
    (conf / "master.d/site.conf").mkdir()
    with pytest.raises(BusError, match="cannot be written"):
        config.update_config("site", {})


def test_connected(opts):
    """The link server knows."""
    with link(opts, {"minions.connected": lambda _: ["b", "a"]}):
        assert wheel("minions", opts).connected() == ["a", "b"]


def test_keys_listed_by_their_state(opts, key):
    """Only the ids that are in the state under which they are listed, never by globs."""
    key.accept("web1")
    assert key.name_match("web*") == {"minions": ["web1"], "minions_pre": ["web2"]}
    assert key.accept_dict({"minions": ["web2"]}) == {}
    assert key.accept_dict({"minions_pre": ["web2", "*"]}) == {"minions": ["web2"]}
    assert key.reject_dict({"minions": ["web1"]}) == {}
    assert key.reject_dict({"minions": ["web1"]}, include_accepted=True) == {
        "minions_rejected": ["web1"]
    }
    assert key.accept_dict({"minions_rejected": ["web1"]}, include_rejected=True) == {
        "minions": ["web1"]
    }
    KeyStore(opts["pki_dir"]).submit("web1", b"1" * 40)
    assert key.delete_dict({"minions_denied": ["web1"], "minions_pre": ["web1"]}) == {
        "deleted": ["web1"]
    }
    assert key.name_match("web1") == {"minions": ["web1"]}
    for wrong in ({"accepted": ["web1"]}, ["web1"]):
        with pytest.raises(ValueError, match="minions_pre"):
            key.delete_dict(wrong)


def test_the_masters_own_fingerprint(opts, key):
    """None before it has a key."""
    assert key.finger_master() == {}
    pair = Keypair.load_or_create(opts["pki_dir"], "master")
    assert key.finger_master() == {"local": {"master.pub": fingerprint(pair.public)}}


class _Link:
    """Stands for a link server while its key is rotated."""

    def __init__(self, waiting, away, grace):
        self.waiting = list(waiting)
        self.away = away
        self.grace = grace
        self.asked = []

    def methods(self):
        return {
            "keys.master": self._asked("look"),
            "keys.master_prepare": self._asked("prepare"),
            "keys.master_switch": self._asked("switch"),
            "keys.master_cancel": self._asked("cancel"),
        }

    def _asked(self, name):
        def method(_params):
            self.asked.append(name)
            if name == "look" and self.waiting:
                self.waiting.pop()
            if name == "switch":
                return {"before": "old", "finger": "new"}
            return {"waiting": list(self.waiting), "away": self.away, "grace": self.grace}

        return method


def test_the_masters_key_is_rotated_once_all_know(opts, key):
    """Those that are away have the grace."""
    server = _Link(["web1", "web2"], ["db1"], 60)
    with link(opts, server.methods()):
        done = key.rotate_master(timeout=30)
    assert done == {"before": "old", "finger": "new", "waiting": [], "away": ["db1"], "grace": 60}
    assert server.asked == ["prepare", "look", "look", "switch"]


def test_the_masters_key_is_not_rotated_if_minions_are_left_behind(opts, key):
    """Unless somebody wants that."""
    names = [f"m{number}" for number in range(7)]
    server = _Link([], names, 0)
    with link(opts, server.methods()):
        with pytest.raises(
            ValueError, match=r"7 minions .* m0, m1, m2, m3, m4 and others.*--force"
        ):
            key.rotate_master()
        assert server.asked == ["prepare", "cancel"]
        assert key.rotate_master(force=True)["away"] == names


def test_a_minion_that_does_not_answer_holds_nothing_up(opts, key):
    """After the time-out the key is rotated, and it is named."""
    server = _Link(["web1"], [], 60)
    server.waiting = _Endless(["web1"])
    with link(opts, server.methods()):
        assert key.rotate_master(timeout=0)["waiting"] == ["web1"]


class _Endless(list):
    def pop(self, *_):
        return self[0]
