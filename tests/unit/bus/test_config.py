"""The configuration: look-up, files, checks, defaults, the immutable mapping."""

import json
import logging
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import bus.config as config
from bus.config import files, kinds, lookup, options, places, settings
from bus.errors import ConfigError


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A configuration directory that the usual look-up finds."""
    place = tmp_path / "conf"
    place.mkdir()
    monkeypatch.setenv("REACTOR_CONFIG_DIR", str(place))
    return place


def refused(role, text, conf):
    """Return the error that a file with this text gives."""
    (conf / role).write_text(text)
    reader = config.master_config if role == "master" else config.minion_config
    with pytest.raises(ConfigError) as caught:
        reader(conf)
    assert "\n" not in str(caught.value)
    return caught.value


class TestLookup:
    """`find_config_dir`."""

    def find(self, explicit=None, *, environ=None, cwd="/", uid=1000):
        return lookup.find_config_dir(explicit, environ=environ or {}, cwd=cwd, uid=uid)

    def test_the_named_directory_wins(self, tmp_path):
        """`--config` beats the variable; relative to the working directory."""
        environ = {"REACTOR_CONFIG_DIR": "/b"}
        assert self.find("a/../c", environ=environ, cwd=tmp_path) == tmp_path / "c"

    def test_the_variable_comes_next(self, tmp_path):
        """REACTOR_CONFIG_DIR beats ./.reactor."""
        (tmp_path / ".reactor").mkdir(mode=0o700)
        environ = {"REACTOR_CONFIG_DIR": "/b"}
        assert self.find(environ=environ, cwd=tmp_path, uid=os.getuid()) == Path("/b")

    def test_the_local_directory_comes_next(self, tmp_path, caplog):
        """./.reactor is used if it is the caller's alone."""
        (tmp_path / ".reactor").mkdir(mode=0o755)
        found = self.find(environ={"REACTOR_CONFIG_DIR": ""}, cwd=tmp_path, uid=os.getuid())
        assert found == tmp_path / ".reactor"
        assert not caplog.records

    def test_a_strangers_local_directory_is_refused_aloud(self, tmp_path, caplog):
        """Otherwise any folder could bring its own rules to whoever enters it."""
        (tmp_path / ".reactor").mkdir(mode=0o700)
        with caplog.at_level(logging.WARNING):
            found = self.find(environ={"HOME": "/h"}, cwd=tmp_path, uid=os.getuid() + 1)
        assert found == Path("/h/.config/reactor")
        assert "belongs to the user" in caplog.text

    def test_a_local_directory_that_others_can_write_is_refused_aloud(self, tmp_path, caplog):
        """The group counts as others."""
        (tmp_path / ".reactor").mkdir()
        (tmp_path / ".reactor").chmod(0o770)
        with caplog.at_level(logging.WARNING):
            found = self.find(environ={"HOME": "/h"}, cwd=tmp_path, uid=os.getuid())
        assert found.name == "reactor"
        assert "chmod go-w" in caplog.text

    def test_a_local_file_is_refused_aloud(self, tmp_path, caplog):
        """A file named .reactor is no configuration."""
        (tmp_path / ".reactor").touch()
        with caplog.at_level(logging.WARNING):
            self.find(cwd=tmp_path, uid=os.getuid())
        assert "not a directory" in caplog.text

    def test_root_has_etc_and_others_have_xdg(self):
        """The last resort depends on who asks."""
        assert self.find(uid=0) == Path("/etc/reactor")
        assert self.find(environ={"XDG_CONFIG_HOME": "/x"}) == Path("/x/reactor")
        environ = {"XDG_CONFIG_HOME": "relative", "HOME": "/h"}
        assert self.find(environ=environ) == Path("/h/.config/reactor")

    def test_without_home_the_user_database_says(self):
        """A service may run without HOME; a container without an entry."""
        import pwd

        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        assert lookup.xdg_dir("X", ".config", {}, os.getuid()) == home / ".config/reactor"
        assert lookup.xdg_dir("X", ".config", {}, 3_999_999) == Path("/.config/reactor")


class TestFiles:
    """Reading and joining files."""

    def test_a_missing_file_gives_the_defaults(self, conf):
        """Salt's defaults hold where nothing is said."""
        opts = config.master_config(conf / "master")
        assert opts["ret_port"] == 4506
        assert opts["interface"] == "0.0.0.0"
        assert opts["transport"] == "zeromq"
        assert opts["reactor_worker_hwm"] == 10_000
        assert opts.files == ()

    def test_a_directory_a_file_and_the_lookup_lead_to_the_same(self, conf):
        """The three ways to name a configuration."""
        (conf / "master").write_text("ret_port: 5000\n")
        assert config.master_config(conf)["ret_port"] == 5000
        assert config.master_config(str(conf / "master"))["ret_port"] == 5000
        assert config.client_config()["ret_port"] == 5000
        assert config.client_config(None) == config.master_config(conf)

    def test_a_file_by_another_name(self, conf):
        """Its neighbours are still those of the role."""
        (conf / "test.conf").write_text("ret_port: 5000\n")
        (conf / "master.d").mkdir()
        (conf / "master.d" / "a.conf").write_text("timeout: 9\n")
        opts = config.master_config(conf / "test.conf")
        assert (opts["ret_port"], opts["timeout"]) == (5000, 9)
        assert opts.conf_file == conf / "test.conf"
        assert opts["conf_file"] == str(conf / "test.conf")
        assert opts["config_dir"] == str(conf)

    def test_neighbours_are_merged_in_order(self, conf):
        """Later files win; mappings replace; reactor and rules are joined."""
        (conf / "master").write_text(
            "ret_port: 1000\ntimeout: 1\nnodegroups: {a: x}\n"
            "reactor:\n  - 'a/*': a.sls\nrules: one\n"
        )
        (conf / "master.d").mkdir()
        (conf / "master.d" / "2.conf").write_text("timeout: 3\nreactor: [{'c': salt://c.sls}]\n")
        (conf / "master.d" / "1.conf").write_text(
            "timeout: 2\nnodegroups: {b: y}\nreactor: [{'b': [b.sls, /b.sls]}]\nrules: [two]\n"
        )
        (conf / "master.d" / "skipped.yaml").write_text("timeout: 4\n")
        opts = config.master_config(conf)
        assert (opts["ret_port"], opts["timeout"]) == (1000, 3)
        assert opts.plain()["nodegroups"] == {"b": "y"}
        assert opts.plain()["reactor"] == [
            {"a/*": f"{conf}/a.sls"},
            {"b": [f"{conf}/b.sls", "/b.sls"]},
            {"c": "salt://c.sls"},
        ]
        assert opts["rules"] == (f"{conf}/one", f"{conf}/two")
        assert [path.name for path in opts.files] == ["master", "1.conf", "2.conf"]

    def test_relative_paths_are_relative_to_the_directory(self, conf):
        """Wherever the program was started; `~` is the home directory."""
        (conf / "master").write_text(
            "module_dirs: [mods, ../more, ~/own]\nlog_file: log\n"
            "file_roots: {base: files, dev: [a, /b]}\n"
        )
        opts = config.master_config(conf)
        home = Path.home()
        assert opts["module_dirs"] == (f"{conf}/mods", f"{conf.parent}/more", f"{home}/own")
        assert opts["log_file"] == f"{conf}/log"
        assert opts.plain()["file_roots"] == {"base": [f"{conf}/files"], "dev": [f"{conf}/a", "/b"]}

    def test_nothing_after_an_option_is_its_default(self, conf):
        """As with a value that is commented out."""
        (conf / "minion").write_text("master_port:\nid:  # later\n")
        opts = config.minion_config(conf)
        assert opts["master_port"] == 4506
        assert opts["id"] == socket.gethostname()

    def test_a_missing_directory_says_what_to_do(self, tmp_path, monkeypatch):
        """However it was named."""
        for path in (tmp_path / "no", str(tmp_path / "no" / "master"), tmp_path / "no" / "a.conf"):
            with pytest.raises(ConfigError, match=f"no configuration directory {tmp_path}/no: "):
                config.master_config(path)
        monkeypatch.setenv("REACTOR_CONFIG_DIR", str(tmp_path / "no"))
        with pytest.raises(ConfigError, match="reactor init"):
            config.minion_config()

    def test_a_missing_default_directory_gives_the_defaults(self, tmp_path):
        """Nobody named it, so it need not be there."""
        environ = {"HOME": str(tmp_path)}
        opts = files.load("master", None, environ=environ, cwd=tmp_path, uid=12345)
        assert opts["sock_dir"] == "/tmp/reactor-12345/master"
        assert opts["state_dir"] == f"{tmp_path}/.local/state/reactor/master"

    def test_which_roles_have_files(self, conf):
        """The main file or one in its `.d` directory counts."""
        assert not config.has_master(conf)
        (conf / "master").touch()
        (conf / "minion.d").mkdir()
        assert config.has_master(conf)
        assert not config.has_minion(conf)
        (conf / "minion.d" / "a.conf").touch()
        assert config.has_minion(conf)

    def test_unreadable_files_are_named(self, conf):
        """A directory, bytes, and broken links are refused with the file's name."""
        (conf / "master").mkdir()
        with pytest.raises(ConfigError, match="not a regular file"):
            config.master_config(conf)
        (conf / "minion").write_bytes(b"id: \xff\xfe")
        with pytest.raises(ConfigError, match=r"minion: .*UTF-8"):
            config.minion_config(conf)
        (conf / "minion").unlink()
        (conf / "minion").symlink_to("nowhere")
        with pytest.raises(ConfigError, match="cannot be read"):
            config.minion_config(conf)


class TestRefusals:
    """Every refusal says file, line and what is expected."""

    def test_an_unknown_option_names_the_nearest(self, conf):
        """A slip of the finger is answered with the right name."""
        error = refused("master", "# one\nret_prot: 4506\n", conf)
        assert (error.path, error.line) == (str(conf / "master"), 2)
        assert str(error).endswith("unknown option 'ret_prot': did you mean ret_port?")

    def test_all_unknown_options_of_a_file_are_named_at_once(self, conf):
        """Who copies Salt's file mends it in one go, and is not sent to what only sounds alike."""
        text = "worker_threads: 5\ninterface: 0.0.0.0\npillar_roots: {}\nxyzzy: 1\n"
        error = refused("master", text, conf)
        assert error.line == 1
        assert str(error).endswith(
            "unknown option 'worker_threads': it is Salt's, and there is nothing of the kind here: "
            "remove it; unknown too: pillar_roots (line 3), xyzzy (line 4)"
        )
        many = "".join(f"xyzzy_{n}: 1\n" for n in range(30))
        assert str(refused("master", many, conf)).endswith("xyzzy_20 (line 21) and 9 more")

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("publish_port", "ret_port"),
            ("external_auth", "reactor user"),
            ("rest_cherrypy", "http_port"),
        ],
    )
    def test_options_of_salts_with_something_in_their_place(self, conf, name, told):
        """The error says what that is."""
        assert told in str(refused("master", f"{name}: 1\n", conf))

    def test_an_unknown_option_without_a_near_one(self, conf):
        """No guess is better than a bad one."""
        assert "remove it" in str(refused("master", "xyzzy_quux: 1\n", conf))
        assert "unknown option '5'" in str(refused("master", "5: 1\n", conf))

    @pytest.mark.parametrize(
        ("role", "line", "other"),
        [("master", "id: x", "minion"), ("minion", "ret_port: 1", "master")],
    )
    def test_an_option_of_the_other_role_is_named_as_such(self, conf, role, line, other):
        """It is in the wrong file."""
        assert f"is an option of the {other}, not of the {role}" in str(refused(role, line, conf))

    @pytest.mark.parametrize(
        ("role", "line", "expected"),
        [
            ("master", "ret_port: abc", "a whole number from 1 to 65535, not 'abc'"),
            ("master", "ret_port: 0", "from 1 to 65535, not 0"),
            ("master", "ret_port: 65536", "not 65536"),
            ("master", "ret_port: true", "not true"),
            ("master", "ret_port: 45.6", "not 45.6"),
            ("master", "timeout: .nan", "a number from 0 to 86400, not nan"),
            ("master", "timeout: x", "a number"),
            ("master", "keep_jobs_seconds: -1", "a whole number of at least 0, not -1"),
            ("master", "auto_accept: 1", "true or false, not 1"),
            ("master", "interface: 10", "text (in quotes if it looks like a number), not 10"),
            ("master", "log_level: loud", "one of debug, info, warning, error, critical"),
            ("master", "transport: nats", "one of zeromq"),
            ("master", "event_match_type: glob", "one of startswith"),
            ("master", "journal_keep: soon", "a duration such as"),
            ("master", "journal_sync: no", "one of normal, always"),
            ("master", "sock_dir: [a]", "a path, not a list"),
            ("master", 'sock_dir: "a\\0b"', "a path"),
            ("master", "sock_dir: ''", "a path"),
            ("master", "rules: {a: b}", "a path or a list of paths, not a mapping"),
            ("master", "nodegroups: [a]", "a mapping"),
            ("master", "nodegroups: {1: a}", "a key that is text (in quotes), not 1"),
            ("master", "file_roots: {base: 1}", "a path or a list of paths, not 1"),
            ("master", "file_roots: {base: [1]}", "a path, not 1"),
            ("master", "reactor: {a: b}", "a list of one-key mappings"),
            ("master", "reactor: [{a: b, c: d}]", "one 'tag glob'"),
            ("master", "reactor: [a]", "one 'tag glob'"),
            ("master", "reactor: [{1: b}]", "a key that is text (in quotes), not 1"),
            ("master", "reactor: [{a: }]", "a path, not nothing"),
            ("master", "reactor: [{a: [b, 5]}]", "a path, not 5"),
            ("minion", "id: 5", "a name without spaces"),
            ("minion", "id: ../x", "a name without spaces"),
            ("minion", "id: .x", "a name without spaces"),
            ("minion", f"id: {'x' * 201}", "at most 200 bytes"),
            ("minion", "master: 5", "text or a list of texts"),
            ("minion", "master: []", "text or a list of texts"),
            ("minion", "master: [a, 5]", "text, not 5"),
        ],
    )
    def test_a_value_that_does_not_fit(self, conf, role, line, expected):
        """Wrong types, ranges and choices, also deep inside a value."""
        error = refused(role, f"\n{line}\n", conf)
        assert expected in str(error)
        assert error.line == 2
        assert f"the option {line.split(':')[0]} expects" in str(error)
        assert len(str(error)) < 400

    def test_the_line_is_that_of_the_wrong_part(self, conf):
        """In a long list the item counts, not the option."""
        error = refused("master", "reactor:\n  - a: b\n  - c:\n      - d\n      - 5\n", conf)
        assert error.line == 5

    def test_broken_yaml_has_its_line(self, conf):
        """YAML's own errors are configuration errors."""
        error = refused("master", "ret_port: 1\nret_port: 2\n", conf)
        assert (error.path, error.line) == (str(conf / "master"), 2)
        assert "twice" in str(error)
        assert refused("master", "a: [\n", conf).line >= 1

    def test_no_mapping_at_all(self, conf):
        """A list or a word is no configuration."""
        assert "a mapping (option: value)" in str(refused("master", "- ret_port: 1\n", conf))

    def test_a_document_without_a_value_is_empty(self, conf):
        """Three dashes say nothing."""
        (conf / "master").write_text("---\n")
        assert config.master_config(conf)["ret_port"] == 4506

    def test_options_that_contradict_each_other(self, conf):
        """The place is that of the option at fault."""
        error = refused("minion", "id: a\njob_workers: 9\n", conf)
        assert error.line == 2
        assert "raise job_workers_max" in str(error)
        error = refused("master", "ipc_mode: tcp\ntcp_link_port: 4512\n", conf)
        assert "the same port 4512" in str(error)

    def test_a_socket_directory_that_is_too_long(self, conf):
        """Said at the start, not when a socket fails to bind."""
        error = refused("minion", f"sock_dir: /{'x' * 80}\n", conf)
        assert "at most 107 bytes" in str(error)
        assert error.line == 1
        (conf / "minion").write_text(f"sock_dir: /{'x' * 72}\n")
        assert len(config.minion_config(conf)["sock_dir"]) == 73
        (conf / "minion").write_text(f"sock_dir: /{'x' * 80}\nipc_mode: tcp\n")
        assert config.minion_config(conf)["ipc_mode"] == "tcp"


class TestPlaces:
    """Defaults that depend on the directory."""

    def test_inside_any_directory(self, conf):
        """All of it stays in the directory that was named."""
        opts = config.minion_config(conf)
        assert opts["sock_dir"] == f"{conf}/run/minion"
        assert opts["pki_dir"] == f"{conf}/pki/minion"
        assert opts["cachedir"] == f"{conf}/cache/minion"
        assert opts["state_dir"] == f"{conf}/state/minion"
        assert opts.plain()["file_roots"] == {"base": [f"{conf}/files"]}

    def test_of_the_system(self):
        """As Salt has them, under our name."""
        values = places.defaults("master", Path("/etc/reactor"), {}, 0)
        assert values["sock_dir"] == "/var/run/reactor/master"
        assert values["pki_dir"] == "/etc/reactor/pki/master"
        assert values["cachedir"] == "/var/cache/reactor/master"
        assert values["state_dir"] == "/var/lib/reactor/master"
        assert values["file_roots"] == {"base": ("/srv/reactor",)}

    def test_of_a_user(self):
        """The XDG directories, where they are set."""
        environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s"}
        values = places.defaults("master", Path("/h/.config/reactor"), environ, 7)
        assert values["sock_dir"] == "/run/user/7/reactor/master"
        assert values["state_dir"] == "/s/reactor/master"
        assert values["cachedir"] == "/h/.cache/reactor/master"
        assert values["pki_dir"] == "/h/.config/reactor/pki/master"

    def test_a_long_directory_gets_short_sockets(self, tmp_path):
        """The same ones however the directory is spelled; others for another directory."""
        deep = tmp_path / ("d" * 90)
        deep.mkdir()
        link = tmp_path / ("l" * 90)
        link.symlink_to(deep)
        first, second = config.minion_config(deep), config.minion_config(link)
        assert first["sock_dir"] == second["sock_dir"]
        assert first["sock_dir"].startswith(f"/tmp/reactor-{os.geteuid()}/")
        assert first["sock_dir"].endswith("/minion")
        assert len(Path(first["sock_dir"]).parent.name) == 12
        assert settings.socket_fits("minion", first["sock_dir"])
        assert config.master_config(deep)["sock_dir"] != first["sock_dir"]


class TestMappings:
    """Options from a program instead of a file."""

    def test_a_mapping_takes_the_place_of_the_files(self, conf):
        """What the file says does not count then."""
        (conf / "minion").write_text("master_port: 1\n")
        opts = config.minion_config({"id": "web1", "sock_dir": "s", "grains": None})
        assert (opts["id"], opts["master_port"]) == ("web1", 4506)
        assert opts["sock_dir"] == f"{conf}/s"
        assert opts.conf_dir == conf

    def test_the_table_of_defaults_is_the_usual_lookup(self, conf):
        """Salt's documentation passes it where a path is meant."""
        (conf / "minion").write_text("id: web1\n")
        assert config.minion_config(config.DEFAULT_MINION_OPTS)["id"] == "web1"
        assert config.minion_config(dict(config.DEFAULT_MINION_OPTS))["id"] == "web1"
        assert config.DEFAULT_MINION_OPTS["master_port"] == 4506

    def test_options_come_through_unchanged(self, conf, tmp_path, monkeypatch):
        """As `Opts`, as a dict, as plain JSON; also away from where they were read."""
        (conf / "minion").write_text("id: web1\nmaster: [a, b]\nreactor: [{a: [b]}]\n")
        opts = config.minion_config(conf)
        monkeypatch.setenv("REACTOR_CONFIG_DIR", str(tmp_path / "gone"))
        assert config.minion_config(opts) is opts
        assert config.minion_config(dict(opts)) == opts
        assert config.minion_config(json.loads(json.dumps(opts.plain()))) == opts
        found = config.minion_config({"config_dir": str(conf)})
        assert found.conf_file == conf / "minion"

    def test_a_mapping_is_checked_too(self, conf):
        """Without file and line, as there are none."""
        with pytest.raises(ConfigError, match=r"^unknown option 'idd'"):
            config.minion_config({"idd": "web1"})
        with pytest.raises(ConfigError, match="expects a whole number"):
            config.minion_config({"master_port": "x"})


class TestOpts:
    """The immutable mapping."""

    def test_nothing_in_it_can_be_changed(self, conf):
        """Neither keys, nor what is inside, nor attributes."""
        opts = config.master_config(conf).with_(nodegroups={"a": ["b"]}, reactor=[{"x": "/y"}])
        with pytest.raises(TypeError):
            opts["ret_port"] = 1
        with pytest.raises(TypeError):
            opts["nodegroups"]["a"] = 1
        with pytest.raises(TypeError):
            opts["reactor"][0]["x"] = 1
        with pytest.raises(AttributeError, match="with_"):
            opts.role = "minion"
        with pytest.raises(AttributeError):
            del opts.role
        assert opts.plain()["nodegroups"] == {"a": ["b"]}

    def test_it_is_a_mapping(self, conf):
        """`dict(opts)`, `len`, `in`, `get`, equality."""
        opts = config.master_config(conf)
        assert dict(opts) == opts
        assert len(opts) == len(dict(opts))
        assert "ret_port" in opts
        assert opts.get("absent") is None
        assert (opts.role, opts.conf_dir, opts.conf_file) == ("master", conf, conf / "master")
        assert repr(opts) == f"<Opts of the master in {conf}>"

    def test_it_goes_to_other_processes(self, conf):
        """Pickled, it is the same on the other side, and as immutable."""
        (conf / "master").write_text("reactor: [{a: [b]}]\n")
        opts = config.master_config(conf)
        copy = pickle.loads(pickle.dumps(opts))
        assert copy == opts
        assert (copy.role, copy.conf_dir, copy.files) == (opts.role, opts.conf_dir, opts.files)
        with pytest.raises(TypeError):
            copy["reactor"][0]["a"] = 1

    def test_with_changes_a_copy(self, conf):
        """Checked as a file is."""
        opts = config.master_config(conf)
        assert opts.with_(ret_port=9, log_file="x")["log_file"] == f"{conf}/x"
        assert opts["ret_port"] == 4506
        with pytest.raises(ConfigError, match="did you mean ret_port"):
            opts.with_(ret_prot=9)
        with pytest.raises(ConfigError, match="107 bytes"):
            opts.with_(sock_dir="x" * 100)


class TestTable:
    """The table of options."""

    def test_every_default_fits_its_own_option(self):
        """A default that a file could not have would be a trap."""
        for option in options.OPTIONS:
            if option.default is not None:
                assert kinds.read(option, option.default, "/") == option.default

    def test_each_role_has_each_name_once(self):
        """One name may mean other ports for another role, never two things in one file."""
        for role in options.ROLES:
            names = [option.name for option in options.OPTIONS if role in option.roles]
            assert len(names) == len(set(names))

    def test_every_kind_has_a_reader_and_a_noun(self):
        """The three tables speak of the same kinds."""
        for kind in options.KINDS:
            option = options.Option("x", kind, None, ("master",), "")
            assert options.expectation(option)
            with pytest.raises(kinds.BadValueError):
                kinds.read(option, object(), "/")
        plain_list = options.Option("x", "list", (), ("master",), "")
        assert kinds.read(plain_list, [1, "a"], "/") == (1, "a")

    def test_an_option_is_validated_when_made(self):
        """A slip in the table shows at once."""
        with pytest.raises(ValueError, match="kind"):
            options.Option("x", "number", 1, ("master",), "")
        with pytest.raises(ValueError, match="roles"):
            options.Option("x", "int", 1, ("slave",), "")

    def test_the_rows_for_the_docs_are_texts(self):
        """One row for each entry, none empty."""
        rows = config.describe()
        assert len(rows) == len(options.OPTIONS)
        assert all(all(row.values()) for row in rows)
        row = next(row for row in rows if row["option"] == "ret_port")
        assert (row["roles"], row["default"]) == ("master", "4506")
        assert {r["default"] for r in rows} >= {"see help", '""', "[]", "{}", "false", "7d"}


class TestPrivateDir:
    """`private_dir`."""

    def test_it_is_made_with_its_parents(self, tmp_path):
        """Nobody else may look in, whatever the umask."""
        made = config.private_dir(tmp_path / "a" / "b")
        assert made == tmp_path / "a" / "b"
        assert made.stat().st_mode & 0o777 == 0o700
        assert made.parent.stat().st_mode & 0o777 == 0o700
        assert config.private_dir(made) == made

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
    def test_others_may_not_write(self, tmp_path, mode):
        """It says the command that helps."""
        place = tmp_path / "x"
        place.mkdir()
        place.chmod(mode)
        with pytest.raises(ConfigError, match=f"chmod 700 {place}"):
            config.private_dir(place)

    def test_links_and_files_are_refused(self, tmp_path):
        """A link may be turned to another place at any time."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="symbolic link"):
            config.private_dir(tmp_path / "link")
        with pytest.raises(ConfigError, match="not a directory"):
            config.private_dir(tmp_path / "file")
        with pytest.raises(ConfigError, match="cannot be made"):
            config.private_dir(tmp_path / "file" / "below")

    def test_a_strangers_directory_is_refused(self, tmp_path, monkeypatch):
        """Run as another user, the directory is somebody else's."""
        place = config.private_dir(tmp_path / "x")
        monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
        with pytest.raises(ConfigError, match="belongs to the user"):
            config.private_dir(place)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_a_strangers_parent_in_a_shared_directory_is_refused(self, tmp_path):
        """Who owns /tmp/x could swap /tmp/x/ours for something else."""
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "theirs").mkdir()
        os.chown(shared / "theirs", 12345, 12345)
        with pytest.raises(ConfigError, match="anyone may write"):
            config.private_dir(shared / "theirs" / "ours")


def test_importing_is_light():
    """`reactor fire` starts fast: no YAML, no templates, no logging before they are needed."""
    code = (
        "import sys; import bus.config; "
        "sys.exit(' '.join({'yaml', 'jinja2', 'pydantic', 'difflib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_of_comments_loads_no_yaml(conf):
    """The file that `reactor init` writes costs nothing until it says something."""
    (conf / "master").write_text("# ret_port: 4506\n\n  # more\n")
    code = (
        "import sys; import bus.config; bus.config.master_config(); sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
