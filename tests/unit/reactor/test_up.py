"""The directory that ``up`` prepares."""

import os
import socket
import stat
from pathlib import Path

import pytest

from bus.config import master_config, minion_config
from bus.errors import BusError, ConfigError
from bus.keys import KeyStore, read_public
from reactor import up


@pytest.fixture
def place(tmp_path):
    """Where the directory is to be."""
    return tmp_path / ".reactor"


def prepare(place, ident=None, port=20123):
    return up.prepare(place, ident, lambda: port)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestPrepare:
    """Making what is missing."""

    def test_the_first_run(self, place):
        """Everything is there, and only for its owner."""
        prepared = prepare(place, "web1")
        assert mode(place) == 0o700
        assert {path.name for path in prepared.made} == {"master", "minion"}
        assert mode(place / "master") == 0o600
        assert prepared.minion["id"] == "web1"
        assert prepared.master["ret_port"] == prepared.minion["master_port"] == 20123
        assert prepared.master["interface"] == "127.0.0.1"
        assert prepared.master["rules"] == (str(place / "rules"),)
        assert (place / "rules").is_dir()
        assert (place / ".gitignore").read_text() == "*\n"

    def test_the_files_can_be_read_by_every_command(self, place):
        """What was written is a configuration without a complaint."""
        prepare(place, "web1")
        assert master_config(place)["ret_port"] == 20123
        assert minion_config(place)["master"] == "127.0.0.1"

    def test_the_two_know_each_other(self, place):
        """The minion's key is accepted and the master's key pinned."""
        prepared = prepare(place, "web1")
        accepted = KeyStore(prepared.master["pki_dir"]).list()["minions"]
        assert accepted == ["web1"]
        pki = Path(prepared.minion["pki_dir"])
        own = read_public(Path(prepared.master["pki_dir"]) / "master.pub")
        assert read_public(pki / "minion_master.pub") == own
        assert mode(pki / "minion.pem") == 0o600

    def test_the_second_run_changes_nothing(self, place):
        """Neither files nor keys."""
        first = prepare(place, "web1")
        before = (place / "master").read_text()
        second = prepare(place, port=20999)
        assert second.made == ()
        assert (place / "master").read_text() == before
        assert second.minion == first.minion

    def test_what_people_decided_stays(self, place):
        """A key that was rejected or deleted is not accepted again."""
        prepared = prepare(place, "web1")
        store = KeyStore(prepared.master["pki_dir"])
        store.delete("web1")
        prepare(place)
        assert KeyStore(prepared.master["pki_dir"]).list()["minions"] == []

    def test_the_default_id_is_the_hosts(self, place, monkeypatch):
        """Without --id the host's name."""
        monkeypatch.setattr(socket, "gethostname", lambda: "box7")
        assert prepare(place).minion["id"] == "box7"

    def test_a_host_without_a_usable_name(self, place, monkeypatch):
        """Some hosts have none that could be an id."""
        monkeypatch.setattr(socket, "gethostname", lambda: "")
        assert prepare(place).minion["id"] == "minion"

    @pytest.mark.parametrize("ident", ["on", "123", "it's"])
    def test_ids_that_yaml_would_misread(self, place, ident):
        """An id is text, whatever YAML makes of it."""
        assert prepare(place, ident).minion["id"] == ident

    @pytest.mark.parametrize("ident", ["", "a/b", "../x", "a b"])
    def test_an_id_that_is_none(self, place, ident):
        """It is refused in one line."""
        with pytest.raises(ConfigError):
            prepare(place, ident)

    def test_a_new_id_later(self, place):
        """It is written down, so that other terminals find the minion; it is known at once."""
        prepare(place, "web1")
        prepared = prepare(place, "web2")
        assert prepared.minion["id"] == "web2"
        assert minion_config(place)["id"] == "web2"
        assert "web2" in KeyStore(prepared.master["pki_dir"]).list()["minions"]
        assert prepare(place, "web3").minion["id"] == "web3"

    def test_an_id_that_was_edited(self, place):
        """The key was accepted, and is so under its new name, also where it is pending by now."""
        prepared = prepare(place, "web1")
        (place / "minion").write_text((place / "minion").read_text().replace("web1", "web3"))
        public = read_public(Path(prepared.minion["pki_dir"], "minion.pub"))
        KeyStore(prepared.master["pki_dir"]).submit("web3", public)
        assert prepare(place).minion["id"] == "web3"
        assert KeyStore(prepared.master["pki_dir"]).list()["minions"] == ["web1", "web3"]

    def test_an_edited_id_that_was_rejected(self, place):
        """Somebody has said no to it."""
        prepared = prepare(place, "web1")
        (place / "minion").write_text((place / "minion").read_text().replace("web1", "web3"))
        public = read_public(Path(prepared.minion["pki_dir"], "minion.pub"))
        KeyStore(prepared.master["pki_dir"]).submit("web3", public, auto_reject=True)
        prepare(place)
        assert KeyStore(prepared.master["pki_dir"]).list()["minions"] == ["web1"]

    def test_a_master_that_was_there(self, place):
        """Its port is taken for the minion."""
        place.mkdir(mode=0o700)
        (place / "master").write_text("ret_port: 21555\ninterface: 127.0.0.1\n")
        prepared = prepare(place)
        assert prepared.minion["master_port"] == 21555
        assert [path.name for path in prepared.made] == ["minion"]

    def test_a_minion_that_was_there(self, place):
        """The master listens where the minion looks for it."""
        place.mkdir(mode=0o700)
        (place / "minion").write_text("id: web9\nmaster: 127.0.0.1\nmaster_port: 21777\n")
        prepared = prepare(place)
        assert prepared.master["ret_port"] == 21777
        assert KeyStore(prepared.master["pki_dir"]).list()["minions"] == ["web9"]

    def test_a_master_whose_port_was_edited(self, place):
        """The local minion follows, without a second edit; its file stays as it is."""
        prepare(place)
        master, minion = place / "master", (place / "minion").read_text()
        old = prepare(place).master["ret_port"]
        master.write_text(master.read_text().replace(f"ret_port: {old}", "ret_port: 4599"))
        prepared = prepare(place)
        assert prepared.master["ret_port"] == prepared.minion["master_port"] == 4599
        assert (place / "minion").read_text() == minion

    def test_a_minion_that_people_wrote_keeps_its_port(self, place):
        """It may well mean the end of a tunnel."""
        prepare(place)
        (place / "minion").write_text("id: web9\nmaster: 127.0.0.1\nmaster_port: 21777\n")
        assert prepare(place).minion["master_port"] == 21777

    def test_a_minion_of_another_master(self, place):
        """Our key is not pinned for a master on another host."""
        place.mkdir(mode=0o700)
        (place / "minion").write_text("id: web9\nmaster: salt.example.org\n")
        prepared = prepare(place)
        assert not (Path(prepared.minion["pki_dir"]) / "minion_master.pub").exists()
        assert KeyStore(prepared.master["pki_dir"]).list()["minions"] == []

    def test_a_directory_that_others_can_write(self, place):
        """Whoever can write it could run commands as us."""
        place.mkdir()
        place.chmod(0o777)
        with pytest.raises(ConfigError, match="others can write"):
            prepare(place)

    def test_a_file_in_the_way(self, place):
        """A link that leads nowhere is not written through."""
        place.mkdir(mode=0o700)
        (place / ".gitignore").symlink_to("/nonexistent/x")
        with pytest.raises(BusError):
            prepare(place)


class TestThisRun:
    """``--rules`` and ``--file-roots``."""

    def test_rules_are_added(self, place, tmp_path):
        """To those of the files, once each, as absolute paths."""
        master = prepare(place).master
        (tmp_path / "r").mkdir()
        opts = up.for_this_run(master, [str(tmp_path / "r"), str(tmp_path / "r")], [])
        assert opts["rules"] == (str(place / "rules"), str(tmp_path / "r"))

    def test_file_roots_come_last(self, place, tmp_path):
        """One's own files count before those that come with an example."""
        master = prepare(place).master
        opts = up.for_this_run(master, [], [str(tmp_path)])
        assert opts["file_roots"]["base"] == (str(place / "files"), str(tmp_path))

    def test_relative_to_where_it_was_typed(self, place, tmp_path, monkeypatch):
        """Not to the configuration directory."""
        (tmp_path / "r.yaml").touch()
        monkeypatch.chdir(tmp_path)
        opts = up.for_this_run(prepare(place).master, ["r.yaml"], [])
        assert opts["rules"][-1] == str(tmp_path / "r.yaml")

    def test_nothing_given(self, place):
        """Then the options are as in the files."""
        master = prepare(place).master
        assert up.for_this_run(master, [], []) == master

    def test_what_is_not_there(self, place):
        """A typing error is said at once; a glob may match later."""
        master = prepare(place).master
        with pytest.raises(ConfigError, match="--rules /no/where: there is no such"):
            up.for_this_run(master, ["/no/where"], [])
        assert up.for_this_run(master, ["/no/where/*.yaml"], [])["rules"][-1] == "/no/where/*.yaml"


class TestLogFile:
    """Where ``up`` logs to."""

    def test_in_the_directory(self, place):
        """By default in a file of its own."""
        assert prepare(place).log_file() == str(place / "log" / "up.log")

    def test_a_large_one_is_put_aside(self, place, monkeypatch):
        """It does not grow for ever."""
        monkeypatch.setattr(up, "LARGE_LOG", 10)
        path = Path(prepare(place).log_file())
        path.write_text("x" * 11)
        prepare(place).log_file()
        assert not path.exists()
        assert (place / "log" / "up.log.1").exists()

    def test_the_one_that_is_configured(self, place, tmp_path):
        """The option log_file holds here too."""
        prepare(place)
        with (place / "master").open("a") as file:
            file.write(f"log_file: {tmp_path}/other.log\n")
        assert prepare(place).log_file() == f"{tmp_path}/other.log"


class TestDefaultDirectory:
    """Where ``up`` and ``init`` work."""

    def test_the_order(self, tmp_path, monkeypatch):
        """--config, the variable, ./.reactor."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("REACTOR_CONFIG_DIR", raising=False)
        assert up.default_directory(None) == tmp_path / ".reactor"
        monkeypatch.setenv("REACTOR_CONFIG_DIR", "/srv/x")
        assert up.default_directory(None) == Path("/srv/x")
        assert up.default_directory("y/../z") == tmp_path / "z"


class TestPorts:
    """A port that nobody else has."""

    def test_is_free_in_both(self):
        """TCP for the link, UDP for the first contact."""
        port = up.find_free_port()
        assert port in up.PORTS
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind(("127.0.0.1", port))

    def test_none_is_free(self, monkeypatch):
        """It says what to do."""
        monkeypatch.setattr(up, "_is_free", lambda port, kind: False)
        with pytest.raises(ConfigError, match="no free port"):
            up.find_free_port()

    def test_one_that_is_taken(self):
        """A port in use is not free."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            assert not up._is_free(sock.getsockname()[1], socket.SOCK_STREAM)


def test_private_to_its_owner_whatever_the_umask(place):
    """A wide umask does not open the files."""
    old = os.umask(0)
    try:
        prepare(place)
    finally:
        os.umask(old)
    assert all(
        not path.stat().st_mode & 0o022 for path in place.rglob("*") if not path.is_symlink()
    )
