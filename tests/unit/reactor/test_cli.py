"""The program: how commands are found, options read, and errors shown. Nothing runs here."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bus import endpoints
from bus.config import master_config, minion_config
from bus.errors import BusError
from bus.keys import Keypair, fingerprint
from reactor import __version__
from reactor.cli import cmd, completion, events, fire, jobs, key, program, settings, status
from reactor.cli.settings import Command, Settings

ROOT = Path(__file__).parents[3]


def invoke(*args, **kwargs):
    return CliRunner().invoke(program.program, list(args), **kwargs)


@pytest.fixture
def conf(tmp_path):
    """A configuration directory in which nothing runs."""
    place = tmp_path / "conf"
    result = invoke("init", str(place), "--id", "web1")
    assert result.exit_code == 0, result.stderr
    return str(place)


@pytest.mark.parametrize("command", ["rules", "trace", "dead"])
def test_a_minion_without_rules_has_no_reactor(conf, command):
    """One line that says what would give it one."""
    result = invoke(command, "--node", "minion", "--config", conf)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("reactor: the minion has no reactor: name its rules under")
    assert len(result.stderr.splitlines()) == 1


def listening_socket(address):
    """Return a socket of the system's own at an address; nobody reads it."""
    path = endpoints.socket_path(address)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


class TestProgram:
    """The group of commands."""

    @pytest.mark.parametrize("name", program.names())
    def test_every_command_has_help_with_an_example(self, name):
        """A person who asks sees a line that works."""
        result = invoke(name, "--help")
        assert result.exit_code == 0
        assert "xample" in result.stdout
        assert f"reactor {name}" in result.stdout
        assert "--config DIR" in result.stdout

    @pytest.mark.parametrize("name", ["list", "accept", "reject", "delete", "finger"])
    def test_every_key_command_has_help_with_an_example(self, name):
        """The same for what stands below."""
        result = invoke("key", name, "--help")
        assert result.exit_code == 0
        assert f"reactor key {name}" in result.stdout

    def test_the_help_shows_every_command(self):
        """In sections, each with its first sentence."""
        result = invoke("--help")
        assert result.exit_code == 0
        for name in program.names():
            assert f"\n  {name} " in result.stdout
        assert "..." not in result.stdout.partition("\n")[2]

    def test_version(self):
        """Name and number."""
        assert invoke("--version").stdout == f"reactor {__version__}\n"

    def test_nothing_given(self):
        """The help, as if asked for."""
        result = invoke()
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == invoke("--help").stdout

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            (["evnts"], "no such command: 'evnts'; did you mean 'events'? (see 'reactor --help')"),
            (["xyzzy"], "no such command: 'xyzzy'; see 'reactor --help'"),
            (["--nope"], "No such option"),
            (["fire"], "name a TAG, or a --file that has one (see 'reactor fire --help')"),
            (["fire", "t", "--nod"], "no such option: --nod; did you mean --node?"),
            (["init", "-x"], "no such option: -x; see 'reactor init --help'"),
            (["cmd", "*", "cmd.run", "-l"], "if it is an argument, put '--' before it"),
        ],
    )
    def test_a_wrong_use_is_one_line(self, args, text):
        """Status 2 and what to do, on standard error."""
        result = CliRunner().invoke(program.program, args, prog_name="reactor")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("reactor: ")
        assert result.stderr.count("\n") == 1
        assert text in result.stderr

    @pytest.mark.parametrize(
        ("args", "text"),
        [
            (["key", "-L"], "no such option: -L; write 'reactor key list'"),
            (["key", "-d", "web1"], "no such option: -d; write 'reactor key delete ID'"),
            (["cmd", "*", "test.ping", "--out=json"], "no such option: --out; write '--json'"),
            (["run", "-d"], "write 'reactor run doc.runner'"),
            (["key", "acept", "web1"], "no such command: 'acept'; did you mean 'accept'?"),
            (["jobs", "xyzzy"], "no such command: 'xyzzy'; there are active, kill, list, show"),
            (["events", "--count"], "requires an argument (see 'reactor events --help')"),
            (["fire", "t", "{a: 1, a: 2}"], "cannot be read: the key 'a' is here twice"),
            (["fire", "t", "a: 1"], "is no mapping: write"),
        ],
    )
    def test_habits_and_slips_are_answered(self, args, text):
        """Who types what Salt has, or what is nearly right, is told what to type."""
        result = CliRunner().invoke(program.program, args, prog_name="reactor")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert text in result.stderr

    @pytest.mark.parametrize(
        "args",
        [
            ["key"],
            ["key", "accept", "x"],
            ["token", "create"],
            ["user", "list"],
            ["check"],
            ["why", "a/b"],
            ["why", "7"],
            ["trace"],
            ["replay", "--since", "1", "--dry-run"],
        ],
    )
    def test_nothing_is_begun_where_there_is_no_configuration(self, args, tmp_path, monkeypatch):
        """In a folder where nothing is, a command that keeps things says so and makes nothing."""
        monkeypatch.delenv("REACTOR_CONFIG_DIR", raising=False)
        monkeypatch.setattr("bus.config.lookup.SYSTEM_DIR", tmp_path / "system")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(program.program, args, prog_name="reactor")
        assert result.exit_code == 1
        assert result.stderr.startswith("reactor: there is no configuration directory ")
        assert result.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("args", [["key"], ["token", "create"], ["user", "list"]])
    def test_a_minion_alone_has_nobody_to_let_in(self, args, tmp_path):
        """Its host is not the place for keys, tokens and users."""
        place = tmp_path / "m"
        place.mkdir(mode=0o700)
        (place / "minion").write_text("id: web1\n")
        result = invoke(*args, "--config", str(place))
        assert result.exit_code == 1
        assert "is the configuration of a minion alone" in result.stderr
        assert [file.name for file in place.iterdir()] == ["minion"]

    @pytest.mark.parametrize(
        ("answer", "code", "told"),
        [("", 2, "nobody is there to answer: add --yes"), ("n\n", 1, "nothing was dropped")],
    )
    def test_nothing_is_dropped_without_a_yes(self, conf, answer, code, told):
        """Where there is nobody to ask, and where the answer is no."""
        result = invoke("dead", "drop", "--all", "--config", conf, input=answer)
        assert result.exit_code == code
        assert told in result.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
    def test_output_that_has_no_room_is_named(self):
        """A full disk behind the output is not taken for one of ours."""
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "reactor", "--version"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert ended.returncode == 1
        line = "reactor: what is printed cannot be written: No space left on device\n"
        assert ended.stderr == line

    def test_closed_output_is_no_error(self):
        """As under a supervisor that closes everything."""
        command = f"{shlex.quote(sys.executable)} -m reactor --version >&-"
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")

    def test_a_directory_that_is_not_there(self, tmp_path):
        """Status 1 and what to do."""
        result = invoke("fire", "t", "--config", str(tmp_path / "nope"))
        assert result.exit_code == 1
        assert result.stderr.startswith("reactor: there is no configuration directory")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("where", ["before", "after", "last"])
    def test_config_before_or_after_the_name(self, conf, where):
        """Both, as the contract has it."""
        args = {
            "before": ["--config", conf, "rules"],
            "after": ["rules", "--config", conf],
            "last": ["rules", "--json", "--config", conf],
        }[where]
        result = invoke(*args)
        assert result.exit_code == 1
        assert f"no bus answers at {conf}/run/master/master_reactor.ipc" in result.stderr

    @pytest.mark.parametrize(
        "args", [["key", "--config"], ["key", "list", "--config"], ["--config"]]
    )
    def test_config_of_a_group(self, conf, args):
        """Also between a group and its subcommand."""
        rest = [] if "list" in args else ["key", "list"] if args == ["--config"] else ["list"]
        result = invoke(*args, conf, *rest)
        assert result.exit_code == 0
        assert "Accepted:\n    web1\n" in result.stdout

    @pytest.mark.parametrize(
        "args",
        [
            ["fire", "t"],
            ["fire", "t", "--node", "minion"],
            ["events"],
            ["rules"],
            ["jobs", "list"],
            ["jobs", "show", "20261122093000123456"],
            ["cmd", "*", "test.ping"],
            ["cmd", "*", "test.ping", "--async"],
            ["cmd", "*", "test.ping", "-b", "1"],
        ],
    )
    def test_nothing_runs(self, conf, args):
        """Every command that needs a server says that there is none, and soon."""
        result = invoke("--config", conf, *args)
        assert result.exit_code == 1
        assert result.stderr.startswith("reactor: no bus answers at ")
        assert result.stderr.count("\n") == 1


def test_fire_at_a_bus_that_is_gone(conf):
    """A socket file that nobody serves is no bus; no event is taken for fired."""
    sockets = Path(conf, "run", "master")
    sockets.mkdir(parents=True)
    (sockets / "master_event_pull.ipc").touch()
    result = invoke("--config", conf, "fire", "a/b", "--timeout", "0.2")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no bus answers" in result.stderr


class TestErrors:
    """What becomes of an exception in a command."""

    def raising(self, error, *args):
        """Run a program whose one command raises ``error``."""

        class One(program.Program):
            def get_command(self, ctx, cmd_name):
                def run():
                    raise error

                return Command("fire", callback=run)

        group = One("reactor", params=settings.shared_options())
        return CliRunner().invoke(group, [*args, "fire"])

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (BusError("one\ntwo"), "reactor: one two\n"),
            (OSError("no disk"), "reactor: no disk\n"),
            (KeyError("x"), "reactor: KeyError: 'x' (--debug before the command shows where)\n"),
        ],
    )
    def test_one_line(self, error, text):
        """Never a traceback."""
        result = self.raising(error)
        assert result.exit_code == 1
        assert result.stderr == text

    def test_debug_shows_where(self):
        """The traceback, for who wants it."""
        error = BusError("x")
        result = self.raising(error, "--debug")
        assert result.exception is error

    def test_ctrl_c(self):
        """130, and no word."""
        result = self.raising(KeyboardInterrupt())
        assert result.exit_code == 130
        assert result.stderr.strip() == ""

    def test_ctrl_c_while_loading(self, monkeypatch):
        """Even before the program is loaded."""
        import reactor.cli

        def interrupted(**_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(program.program, "main", interrupted)
        with pytest.raises(SystemExit) as ended:
            reactor.cli.main()
        assert ended.value.code == 130

    def test_a_reader_that_went_away(self, monkeypatch):
        """Quiet, with the status that a shell gives to SIGPIPE."""
        monkeypatch.setattr(program, "_hush", lambda: None)
        result = self.raising(BrokenPipeError())
        assert result.exit_code == program.BROKEN_PIPE
        assert result.stderr == ""

    def test_hush(self, monkeypatch):
        """What is written at exit goes nowhere."""
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        program._hush()
        with sys.stdout as nowhere:
            assert nowhere.name == os.devnull


class TestArguments:
    """Salt-style arguments are left as typed."""

    def parse(self, command, *args):
        ctx = command.make_context("x", list(args))
        return ctx.params

    def test_options_before_and_after_the_target(self):
        """And after the function's arguments, as in Salt."""
        for args in (
            ["-L", "-t", "5", "a,b", "f.g", "x=1"],
            ["a,b", "-L", "--timeout", "5", "f.g", "x=1"],
            ["a,b", "f.g", "x=1", "-L", "-t", "5"],
        ):
            params = self.parse(cmd.command, *args)
            assert params["tgt"] == "a,b"
            assert params["tgt_type"] == "list"
            assert params["timeout"] == 5
            assert params["args"] == ("x=1",)

    def test_a_target_has_one_type(self):
        """Two contradict each other, and neither is guessed."""
        result = invoke("cmd", "-E", "-L", "web1", "test.ping")
        assert (result.exit_code, "-L, -E" in result.stderr) == (2, True)

    def test_a_negative_number_may_belong_to_an_option(self):
        """Then the option says what it takes."""
        result = invoke("fire", "t", "--timeout", "-1")
        assert result.exit_code == 2
        assert "-1.0 is not in the range x>0" in result.stderr

    def test_negative_numbers_are_arguments(self):
        """They only look like options."""
        params = self.parse(cmd.command, "*", "test.echo", "-5", "-.5", "x")
        assert params["args"] == ("-5", "-.5", "x")

    def test_after_two_dashes_everything_is_an_argument(self):
        """Also what looks like one of our options."""
        params = self.parse(cmd.command, "*", "test.echo", "--", "--json", "-5", "-L")
        assert params["args"] == ("--json", "-5", "-L")
        assert not params["as_json"]

    @pytest.mark.parametrize(
        ("option", "kind"),
        [
            ("-L", "list"),
            ("-E", "pcre"),
            ("-G", "grain"),
            ("-P", "grain_pcre"),
            ("-C", "compound"),
            ("-N", "nodegroup"),
            ("-S", "ipcidr"),
        ],
    )
    def test_target_types(self, option, kind):
        """The letters are Salt's."""
        assert self.parse(cmd.command, option, "x", "f.g")["tgt_type"] == kind

    def test_async_with_a_batch(self, conf):
        """They exclude each other."""
        result = invoke("--config", conf, "cmd", "*", "f.g", "--async", "-b", "1")
        assert result.exit_code == 2

    def test_a_batch_that_is_none(self):
        """It is a wrong use."""
        with pytest.raises(click.UsageError, match="give a number such as 5"):
            cmd._batch_size("0%", 10)


class TestListingGroup:
    """``reactor key`` and ``reactor jobs`` list when nothing else is asked for."""

    @pytest.mark.parametrize(
        ("args", "given"),
        [
            ([], ["list"]),
            (["--json"], ["list", "--json"]),
            (["list", "--limit", "2"], ["list", "--limit", "2"]),
            (["lsit"], ["lsit"]),
        ],
    )
    def test_what_is_asked_for(self, args, given):
        """Options alone are those of the list; a wrong name stays wrong."""
        ctx = click.Context(jobs.command, info_name="jobs")
        jobs.command.parse_args(ctx, list(args))
        assert [*ctx._protected_args, *ctx.args] == given


class TestFireData:
    """The data of ``reactor fire``."""

    @pytest.mark.parametrize(
        ("args", "data"),
        [
            ((), {}),
            (("{a: 1}",), {"a": 1}),
            (('{"a": {"b": [1, null]}}',), {"a": {"b": [1, None]}}),
            (("a=1", "b=yes", "c=x=y"), {"a": 1, "b": True, "c": "x=y"}),
            (("{a: 1, b: 2}", "b=3"), {"a": 1, "b": 3}),
        ],
    )
    def test_mapping_and_pairs(self, args, data):
        """YAML, JSON, pairs, or both."""
        assert fire.read_data(args) == data

    @pytest.mark.parametrize("arg", ["text", "[1, 2]", "3"])
    def test_what_is_no_mapping(self, arg):
        """Data is a mapping."""
        with pytest.raises(click.UsageError, match="no mapping"):
            fire.read_data((arg,))


class TestKeys:
    """Changing keys; this needs files only."""

    @pytest.fixture
    def pending(self, conf):
        """Two keys that wait."""
        import zmq

        from bus.keys import KeyStore

        for name in ("db1", "db2"):
            KeyStore(Path(conf, "pki", "master")).submit(name, zmq.curve_keypair()[0])
        return conf

    def listed(self, conf):
        return json.loads(invoke("--config", conf, "key", "list", "--json").stdout)

    def test_list(self, pending):
        """By state, for people and for programs."""
        assert self.listed(pending) == {
            "minions": ["web1"],
            "minions_pre": ["db1", "db2"],
            "minions_rejected": [],
            "minions_denied": [],
        }
        assert invoke("--config", pending, "key").stdout.startswith("Accepted:\n    web1\nPending:")

    @pytest.mark.parametrize("state", ["pending", "pre", "un"])
    def test_list_one_state(self, pending, state):
        """Salt's words are understood too."""
        result = invoke("--config", pending, "key", "list", state)
        assert result.stdout == "Pending:\n    db1\n    db2\n"

    def test_accept(self, pending):
        """One that is named."""
        result = invoke("--config", pending, "key", "accept", "db1", "-y")
        assert result.exit_code == 0
        assert result.stdout == "accepted: db1\n"
        assert self.listed(pending)["minions"] == ["db1", "web1"]

    def test_reject_and_take_back(self, pending):
        """All that match, and what was rejected may be accepted after all."""
        result = invoke("--config", pending, "key", "reject", "db*", "-y", "--json")
        assert json.loads(result.stdout) == {"reject": ["db1", "db2"]}
        again = invoke("--config", pending, "key", "accept", "-A", "-y")
        assert again.exit_code == 1
        assert "no pending key matches *" in again.stderr
        invoke("--config", pending, "key", "accept", "-A", "-y", "--include-rejected")
        assert self.listed(pending)["minions"] == ["db1", "db2", "web1"]
        invoke("--config", pending, "key", "reject", "db1", "-y", "--include-accepted")
        assert self.listed(pending)["minions_rejected"] == ["db1"]

    def test_keys_in_another_state_are_hinted_at(self, pending):
        """Who means them is told which option says so."""
        invoke("--config", pending, "key", "reject", "db1", "-y")
        result = invoke("--config", pending, "key", "accept", "db1", "-y")
        assert result.exit_code == 1
        assert result.stderr == (
            "reactor: no pending key matches db1, but rejected ones do: "
            "add --include-rejected if you mean them\n"
        )
        result = invoke("--config", pending, "key", "reject", "web1", "-y")
        assert "but accepted ones do: add --include-accepted" in result.stderr
        result = invoke("--config", pending, "key", "accept", "none", "-y")
        assert result.stderr.endswith("matches none: see 'reactor key list'\n")

    def test_a_fingerprint_of_nobody(self, pending):
        """Who asks for one that there is not is told so, not shown the master's alone."""
        result = invoke("--config", pending, "key", "finger", "none")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no key matches none" in result.stderr

    def test_delete(self, pending):
        """In whatever state."""
        result = invoke("--config", pending, "key", "delete", "web1", "db2", "-y")
        assert result.stdout == "deleted: db2\ndeleted: web1\n"

    @pytest.mark.parametrize("said", [["db*"], ["--all"]])
    def test_where_nobody_answers_a_glob_needs_a_yes(self, pending, said):
        """On the command line or on standard input: it may mean more than was thought."""
        result = invoke("--config", pending, "key", "accept", *said)
        assert result.exit_code == 2
        assert "add --yes to accept" in result.stderr
        assert self.listed(pending)["minions"] == ["web1"]
        assert invoke("--config", pending, "key", "accept", *said, input="y\n").exit_code == 0
        assert "db1" in self.listed(pending)["minions"]

    def test_a_script_that_writes_an_id_out_means_it(self, pending):
        """It is not asked."""
        result = invoke("--config", pending, "key", "accept", "db1")
        assert (result.exit_code, result.stdout) == (0, "accepted: db1\n")
        assert "db1" in self.listed(pending)["minions"]

    @pytest.mark.parametrize(("answer", "accepted"), [("y", True), ("n", False)])
    def test_at_a_terminal_it_asks(self, pending, monkeypatch, answer, accepted):
        """And shows whose keys, by their fingerprints."""
        monkeypatch.setattr(key, "is_terminal", lambda: True)
        result = invoke("--config", pending, "key", "accept", "db*", input=f"{answer}\n")
        fingers = json.loads(invoke("--config", pending, "key", "finger", "--json").stdout)
        for ident in ("db1", "db2"):
            listed = {**fingers.get("minions_pre", {}), **fingers.get("minions", {})}
            assert f"    {ident} (pending):  {listed[ident]}\n" in result.stderr
        assert (result.exit_code == 0) is accepted
        assert ("db1" in self.listed(pending)["minions"]) is accepted

    @pytest.mark.parametrize("args", [[], ["db1", "--all"]])
    def test_names_or_all(self, pending, args):
        """One of them, so that nothing is accepted by an oversight."""
        assert invoke("--config", pending, "key", "accept", "-y", *args).exit_code == 2

    def test_an_id_that_looks_like_a_glob(self):
        """Only what was shown is changed."""
        import fnmatch

        assert fnmatch.fnmatchcase("a[1]*", key._literal("a[1]*"))
        assert not fnmatch.fnmatchcase("a1xx", key._literal("a[1]*"))

    @pytest.fixture
    def place(self, pending, tmp_path, monkeypatch):
        """Where the files of a new minion go by default."""
        monkeypatch.chdir(tmp_path)
        return tmp_path / "new1"

    def test_gen(self, pending, place):
        """The secret is its owner's, the public half is accepted, the master's key lies beside."""
        result = invoke("--config", pending, "key", "gen", "new1")
        assert result.exit_code == 0, result.stderr
        pair = Keypair.read(place / "minion.pem")
        finger = fingerprint(pair.public)
        lines = [f"    new1/{name}" for name in ("minion.pem", "minion.pub", "minion_master.pub")]
        assert result.stdout.splitlines() == [f"made and accepted: new1  {finger}", *lines]
        assert place.stat().st_mode & 0o777 == 0o700
        assert (place / "minion.pem").stat().st_mode & 0o777 == 0o600
        fingers = json.loads(invoke("--config", pending, "key", "finger", "--json").stdout)
        assert fingers["minions"]["new1"] == finger
        own = (place / "minion_master.pub").read_bytes().strip()
        assert fingers["local"]["master.pub"] == fingerprint(own)
        assert pair.secret.decode() not in result.output

    def test_gen_without_accepting(self, pending, tmp_path):
        """Into a directory that is named."""
        options = ["--dir", str(tmp_path / "d"), "--no-accept", "--json"]
        result = invoke("--config", pending, "key", "gen", "new1", *options)
        found = json.loads(result.stdout)
        assert (found["id"], found["accepted"]) == ("new1", False)
        assert found["finger"] == fingerprint(Keypair.read(tmp_path / "d/minion.pem").public)
        assert self.listed(pending)["minions"] == ["web1"]

    def test_gen_without_a_key_of_the_master(self, tmp_path):
        """It says what is missing."""
        (tmp_path / "c").mkdir()
        options = ["--dir", str(tmp_path / "d"), "--no-accept"]
        result = invoke("--config", str(tmp_path / "c"), "key", "gen", "new1", *options)
        assert result.exit_code == 0
        assert "this master has no key yet" in result.stderr

    @pytest.mark.parametrize("ident", ["a/b", "*", "web1"])
    def test_gen_for_an_id_that_cannot_be(self, pending, place, ident):
        """One that is none, or that is known already; no secret is left behind."""
        options = ["--dir", str(place)]
        result = invoke("--config", pending, "key", "gen", ident, *options)
        assert result.exit_code == 1
        assert "must not" in result.stderr or "a key of web1 is accepted already" in result.stderr
        assert not (place / "minion.pem").exists()
        assert self.listed(pending)["minions"] == ["web1"]

    def test_gen_twice(self, pending, place):
        """A key that is there stays."""
        invoke("--config", pending, "key", "gen", "new1")
        before = (place / "minion.pem").read_bytes()
        result = invoke("--config", pending, "key", "gen", "new2", "--dir", str(place))
        assert result.exit_code == 1
        assert "minion.pem: there is a key already" in result.stderr
        assert (place / "minion.pem").read_bytes() == before
        assert self.listed(pending)["minions"] == ["new1", "web1"]

    def test_fingerprints(self, pending):
        """The master's own too."""
        found = json.loads(invoke("--config", pending, "key", "finger", "--json").stdout)
        assert set(found) == {"local", "minions", "minions_pre"}
        text = invoke("--config", pending, "key", "finger", "web*").stdout
        assert f"Master:\n    master.pub:  {found['local']['master.pub']}\n" in text
        assert "web1:" in text
        assert "db1" not in text


class TestCheck:
    """Rules that are not run."""

    def test_good_rules(self, conf):
        """Those of the configuration."""
        Path(conf, "rules", "a.yaml").write_text("r:\n  on: a\n  do:\n    - event: b\n")
        result = invoke("--config", conf, "check")
        assert result.exit_code == 0
        assert result.stdout == "1 rule, no problems\n"

    def test_a_broken_rule(self, conf, tmp_path):
        """File and line, and status 1."""
        path = tmp_path / "bad.yaml"
        path.write_text("r:\n  on: a\n  doo: []\n")
        result = invoke("--config", conf, "check", str(path))
        assert result.exit_code == 1
        assert result.stdout.startswith(f"{path}:")
        assert "problem" in result.stderr
        as_json = invoke("--config", conf, "check", "--json", str(path))
        assert as_json.exit_code == 1
        problems = json.loads(as_json.stdout)["problems"]
        assert {problem["file"] for problem in problems} == {str(path)}
        assert all(problem["line"] > 0 for problem in problems)

    def test_a_reactor_file(self, conf, tmp_path):
        """Salt's form is known by its name."""
        path = tmp_path / "start.sls"
        path.write_text("{% if %}\n")
        result = invoke("--config", conf, "check", str(path))
        assert result.exit_code == 1
        assert str(path) in result.stdout

    def test_a_path_that_is_not_there(self, conf):
        """A wrong use."""
        assert invoke("--config", conf, "check", "/no/where").exit_code == 2


class TestStatus:
    """What is asked, and when it is enough."""

    def test_nothing_runs(self, conf):
        """Each part is named, and the status is 1."""
        result = invoke("--config", conf, "status")
        assert result.exit_code == 1
        assert [line.split()[1] for line in result.stdout.splitlines()] == [
            "bus",
            "link",
            "reactor",
            "http",
            "minion",
        ]
        assert "is not running" in result.stdout
        found = json.loads(invoke("--config", conf, "status", "--json").stdout)
        assert found["ok"] is False

    @pytest.mark.parametrize(
        "command", [("rules",), ("jobs", "list"), ("fire", "--timeout", "1", "a/b"), ("status",)]
    )
    def test_sockets_that_a_killed_run_left(self, conf, command):
        """The same words as without them, and no advice to ask what was just asked."""
        master, minion = master_config(conf), minion_config(conf)
        servers = (endpoints.master_pull, endpoints.master_link, endpoints.master_reactor)
        for address in [*(server(master) for server in servers), endpoints.minion_pull(minion)]:
            with listening_socket(address):
                pass  # closing it leaves its file, as a kill does
        began = time.monotonic()
        result = invoke("--config", conf, *command)
        assert time.monotonic() - began < 30
        assert result.exit_code == 1
        assert "see 'reactor status'" not in result.output
        words = "is not running" if command == ("status",) else "start it with 'reactor up'"
        assert words in result.output

    def test_one_that_does_not_answer(self, conf):
        """It is there: it is stopped, or has too much to do."""
        with listening_socket(endpoints.master_reactor(master_config(conf))):
            result = invoke("--config", conf, "status")
        assert "gave no answer within 1 s: it is overloaded or stopped" in result.stdout
        assert "see 'reactor status'" not in result.stdout

    def test_only_what_is_configured(self, conf):
        """A minion's host has no master."""
        Path(conf, "master").unlink()
        result = invoke("--config", conf, "status")
        assert result.stdout.split()[:2] == ["down", "minion"]

    def test_no_configuration(self, tmp_path):
        """It says where it looked."""
        result = invoke("--config", str(tmp_path), "status")
        assert result.exit_code == 1
        assert f"neither a master nor a minion in {tmp_path}" in result.stderr

    def test_waits_for_a_directory_that_is_being_made(self, tmp_path, monkeypatch):
        """``reactor up`` in another terminal may only just have begun."""
        place = tmp_path / "conf"
        sleeps = []

        def sleep(seconds):
            sleeps.append(seconds)
            invoke("init", str(place))

        monkeypatch.setattr(status.time, "sleep", sleep)
        monkeypatch.setattr(
            status, "_part", lambda name, *_: status.Part(name, serves=True, text="serves")
        )
        result = invoke("--config", str(place), "status", "--wait", "5")
        assert result.exit_code == 0
        assert len(sleeps) == 1

    @pytest.mark.parametrize(
        ("describe", "details", "serves", "text"),
        [
            (status._of_link, {}, True, "serves"),
            (status._of_link, {"connected": ["a", "b"]}, True, "serves; 2 connected"),
            (status._of_link, {"connected": 3}, True, "serves; 3 connected"),
            (status._of_minion, {"id": "a", "link": "pending"}, False, "a: pending"),
            (status._of_minion, {"id": "a", "link": "disabled"}, True, "a: disabled"),
            (
                status._of_minion,
                {"id": "a", "link": "connecting", "spool": {"events": 3, "dropped": 2}},
                False,
                "a: connecting, 3 events in the spool, 2 dropped from it",
            ),
            (status._of_bus, {"last_seq": 7}, True, "serves; the last event is 7"),
            (
                status._of_bus,
                {
                    "last_seq": 7,
                    "counters": {"dropped": 5},
                    "slow_listeners": [{"pid": 9, "queued": 3}, {"pid": 8, "queued": 0}],
                },
                True,
                (
                    "serves; the last event is 7, 5 events lost by slow listeners, "
                    "the listener of process 9 is 3 behind"
                ),
            ),
            (
                status._of_bus,
                {"last_seq": 7, "counters": {"refused": 2}},
                True,
                "serves; the last event is 7, 2 fires refused",
            ),
            (status._of_reactor, {"rules": 2}, True, "serves; 2 rules"),
            (
                status._of_reactor,
                {"rules": 2, "switched_off": 3},
                True,
                "serves; 2 rules, 3 switched off",
            ),
            (
                status._of_reactor,
                {"rules": 2, "problems": 1, "behind": 7},
                True,
                "serves; 2 rules, 1 problems (see 'reactor rules'), 7 events behind",
            ),
        ],
    )
    def test_what_each_says(self, describe, details, serves, text):
        """In a few words."""
        assert describe(details) == (serves, text)

    def test_a_part_that_answers_with_an_error(self, monkeypatch):
        """Its own words are shown."""
        from bus import rpc

        def failing(*_args, **_kwargs):
            raise BusError("too busy")

        monkeypatch.setattr(rpc, "call", failing)
        part = status._part("bus", "ipc:///x", status._of_bus)
        assert (part.serves, part.text) == (False, "too busy")


class TestInit:
    """Making a directory."""

    def test_says_what_it_wrote_and_what_is_next(self, tmp_path, monkeypatch):
        """With the option that the next command needs."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("REACTOR_CONFIG_DIR", raising=False)
        result = invoke("init")
        assert f"wrote {tmp_path}/.reactor/master" in result.stdout
        assert result.stdout.endswith("then 'reactor up'\n")
        again = invoke("init", "--config", f"{tmp_path}/.reactor")
        assert "has all it needs" in again.stdout
        other = invoke("init", f"{tmp_path}/my conf")
        assert f"reactor up --config '{tmp_path}/my conf'" in other.stdout


class TestCompletion:
    """The scripts for shells."""

    @pytest.mark.parametrize("shell", completion.SHELLS)
    def test_each_shell(self, shell):
        """The script asks this program."""
        result = invoke("completion", shell)
        assert result.exit_code == 0
        assert "_REACTOR_COMPLETE" in result.stdout

    def test_the_one_in_use(self, monkeypatch):
        """By the variable SHELL."""
        monkeypatch.setenv("SHELL", "/usr/bin/fish")
        assert "fish" in invoke("completion").stdout
        monkeypatch.setenv("SHELL", "/bin/tcsh")
        assert invoke("completion").exit_code == 2

    def test_completes_commands(self):
        """A shell that asks gets names."""
        result = subprocess.run(
            [sys.executable, "-c", "from reactor.cli import main; main()"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "_REACTOR_COMPLETE": "bash_complete",
                "COMP_WORDS": "reactor ev",
                "COMP_CWORD": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "plain,events" in result.stdout


def test_until_a_time_to_come():
    """Numbers, ages and the past are not waited for."""
    assert events._future("12") is None
    assert events._future("1h") is None
    assert events._future("2020-01-01T00:00") is None
    assert events._future("2999-01-01T00:00") > 3e10


def test_local_time_of_what_is_none():
    """An event without a stamp keeps its column."""
    assert events.local_time("x") == "--:--:--.---"


def test_settings_of_a_node(conf):
    """Which options a command reads."""
    found = Settings()
    found.config = conf
    assert found.node("minion")["id"] == "web1"
    assert "ret_port" in found.node("master")


def test_fire_imports_little():
    """A one-shot command must not load what it does not use."""
    heavy = ("asyncio", "rich", "jinja2", "sqlite3", "watchdog", "bus.native", "bus.client")
    heavy += ("secrets", "hashlib", "hmac", "zmq")
    script = (
        "import sys\n"
        "from reactor.cli import main\n"
        "sys.argv = ['reactor', 'fire', 'a/b', 'x=1', '--config', '/nonexistent']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    import bus.direct.firing, bus.endpoints\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    # Coverage, if it is measured, loads modules of its own.
    environ = {name: value for name, value in os.environ.items() if "COV" not in name}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_runs_as_a_module():
    """``python -m reactor`` is the same program."""
    result = subprocess.run(
        [sys.executable, "-m", "reactor", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"reactor {__version__}\n"
