"""What packages install: units, a container's files, a dashboard, manual pages, completions."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import click
import pytest
import yaml
from click.core import ParameterSource

from reactor.cli.program import program
from tests.support import need, wait_for
from tests.system import ROOT
from tests.web import answer, ask, new_token, serving, url_of

PACKAGING = ROOT / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
EXPOSURE = {"reactor-master": 25, "reactor-http": 25}
"""The most that systemd may have to say against a unit, in tenths."""


@pytest.fixture(scope="module")
def generate():
    """The module that writes the generated files."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(unit):
    """Return a unit's settings."""
    pairs = re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE)
    return dict(pairs)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
class TestUnits:
    """Of systemd."""

    def test_systemd_takes_it(self, unit, tmp_path):
        """Without a word against it."""
        need(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
        written = tmp_path / unit.name
        text = unit.read_text().replace("/opt/reactor/bin/reactor ", f"{sys.executable} ")
        written.write_text(text.replace("User=reactor", "User=root").replace("Group=reactor\n", ""))
        ended = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(written)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = [line for line in ended.stderr.splitlines() if unit.name in line]
        assert said == []
        if unit.stem in EXPOSURE:
            limit = EXPOSURE[unit.stem]
            judged = subprocess.run(
                ["systemd-analyze", "security", "--offline=yes", f"--threshold={limit}", str(written)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert judged.returncode == 0, judged.stdout

    def test_its_command_is_one_of_ours(self, unit):
        """With options that it has."""
        found = section(unit)
        assert (found["Type"], found["NotifyAccess"]) == ("notify", "main")
        path, name, *arguments = shlex.split(found["ExecStart"])
        assert path.endswith("/reactor")
        command = program.get_command(click.Context(program), name)
        command.make_context(name, arguments)


def test_the_watchdog_and_notify(tmp_path):
    """A real master says that it serves, that it lives, and that it stops."""
    (tmp_path / "c").mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "c" / "master").write_text(f"interface: 127.0.0.1\nret_port: {port}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"\0reactor-test-{os.getpid()}-{port}"
        sock.bind(name)
        sock.settimeout(30)
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": f"@{name[1:]}",
            "WATCHDOG_USEC": "1000000",
        }
        line = [sys.executable, "-m", "reactor", "master", "--config", str(tmp_path / "c")]
        master = subprocess.Popen(line, env=environ, stderr=subprocess.PIPE)
        try:
            said = []
            while "READY=1" not in said or said[-2:] != ["WATCHDOG=1"] * 2:
                said.append(sock.recv(100).decode())
            master.terminate()
            while said[-1] != "STOPPING=1":
                said.append(sock.recv(100).decode())
            assert set(said) == {"READY=1", "WATCHDOG=1", "STOPPING=1"}
            assert said.count("READY=1") == 1
            assert master.wait(20) == 0
        finally:
            master.kill()
            master.wait()
            master.stderr.close()


def _is_given(context, name):
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


class TestContainer:
    """What can be said of it without a daemon that builds it."""

    def lines(self):
        text = (PACKAGING / "Dockerfile").read_text().replace("\\\n", " ")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    def named(self, word):
        return [line.partition(" ")[2] for line in self.lines() if line.startswith(f"{word} ")]

    def test_what_it_copies_is_there(self):
        """And is let through by .dockerignore."""
        allowed = (ROOT / ".dockerignore").read_text().splitlines()
        for line in self.named("COPY"):
            *sources, _ = [word for word in line.split() if not word.startswith("--")]
            for source in sources:
                if not source.startswith("/"):
                    assert (ROOT / source).exists(), source
                    assert f"!{source.split('/')[0]}" in allowed

    def test_it_is_slim_and_not_root(self):
        """The last stage counts."""
        assert all("-slim" in line for line in self.named("FROM"))
        assert self.named("USER") == ["reactor"]

    @pytest.mark.parametrize("word", ["CMD", "HEALTHCHECK"])
    def test_its_commands_are_ours(self, word):
        """With options that they have."""
        (line,) = self.named(word)
        arguments = json.loads(line[line.index("[") :])
        name, *rest = arguments[1:] if arguments[0] == "reactor" else arguments
        command = program.get_command(click.Context(program), name)
        assert command is not None, name
        context = command.make_context(name, rest)  # an option that it has not is an error
        assert not context.args
        given = [name for name in context.params if _is_given(context, name)]
        assert len(given) == sum(word.startswith("-") for word in rest)

    def test_its_configuration_serves(self, tmp_path):
        """With the addresses of this test instead of those of a container."""
        text = (PACKAGING / "docker-master.conf").read_text()
        options = yaml.safe_load(text)
        assert options.pop("interface") == options.pop("http_interface") == "0.0.0.0"
        assert (options.pop("ret_port"), options.pop("http_port")) == (4506, 8000)
        with socket.create_server(("127.0.0.1", 0)) as free:
            options["ret_port"] = free.getsockname()[1]
        directory = tmp_path / ".reactor"
        for folder in (directory, directory / "master.d", directory / "rules"):
            folder.mkdir(mode=0o700)
        (directory / "master.d" / "docker.conf").write_text(yaml.safe_dump(options))
        with serving(tmp_path) as system:
            assert answer(url_of(system), "/livez") == (200, {"ok": True})
            told = json.loads(system.run("rules", "--json").stdout)
            assert told["rules"] == []


class TestMetricsAndReadiness:
    """What watches a master."""

    @pytest.fixture(scope="class")
    @classmethod
    def system(cls, tmp_path_factory):
        """A running system, seen by who has no token."""
        with serving(tmp_path_factory.mktemp("watched"), more="http_open_metrics: true\n") as made:
            yield made

    def test_every_metric_of_the_dashboard_is_there(self, system):
        """By its name, and with the labels that are asked for."""
        url = url_of(system)
        ask(url, "/livez")  # so that there is an answer to count
        text = ask(url, "/metrics")[2].decode()
        have = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        board = json.loads((PACKAGING / "grafana" / "reactor.json").read_text())
        wanted = {
            name
            for panel in board["panels"]
            for target in panel["targets"]
            for name in re.findall(r"\breactor_\w+", target["expr"])
        }
        assert len(wanted) > 10
        assert wanted <= have | {f"{name}_total" for name in have}, text
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        named = set(re.findall(r"\{\{(\w+)\}\}", json.dumps(board)))
        assert named <= set(re.findall(r"(\w+)=\"", text))

    def test_labels_are_bounded(self, system):
        """However many tags, minions and addresses there are: the lines stay as they are."""
        url = url_of(system)
        before = _series(ask(url, "/metrics")[2].decode())
        for number in range(50):
            system.fire(f"metrics/tag/{number}", {"id": f"minion{number}"})
            ask(url, f"/nowhere/{number}")
        after = _series(ask(url, "/metrics")[2].decode())
        assert len(after - before) <= 2  # the status 404, and what is counted for the first time
        assert not [each for each in after if "metrics/" in each or "nowhere" in each]

    def test_ready_is_the_truth(self, system):
        """A part that hangs is not ready; one that goes on is."""
        url = url_of(system)
        assert answer(url, "/readyz") == (200, {"ok": True})
        pid = _pid_of(system, "reactor-reactor")
        os.kill(pid, signal.SIGSTOP)
        try:
            assert answer(url, "/readyz") == (503, {"ok": False})
            assert answer(url, "/livez") == (200, {"ok": True})
            assert 'reactor_up{part="reactor"} 0.0' in ask(url, "/metrics")[2].decode()
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: answer(url, "/readyz") == (200, {"ok": True}), "readiness")


def _series(text):
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def _pid_of(system, comm):
    from pathlib import Path

    found = [
        pid for pid in system.left_over() if Path(f"/proc/{pid}/comm").read_text().strip() == comm
    ]
    assert len(found) == 1, found
    return int(found[0])


class TestGenerated:
    """Manual pages and completion scripts."""

    def test_they_are_what_the_commands_say(self, generate):
        """Nothing old, nothing missing, nothing too much."""
        files = generate.packaged()
        for path, text in files.items():
            assert path.exists(), f"run: python docs/generate.py ({path.name} is missing)"
            assert path.read_text() == text, f"run: python docs/generate.py ({path.name} is old)"
        assert {*PACKAGING.glob("man/*"), *PACKAGING.glob("completions/*/*")} == set(files)

    def test_man_shows_each_page(self):
        """As a reader would have it shown, without a warning."""
        if not shutil.which("man"):
            pytest.skip("man is not installed")
        for path in sorted((PACKAGING / "man").glob("*.1")):
            ended = subprocess.run(
                ["man", "--warnings", "-l", str(path)],
                capture_output=True, text=True, check=True,
                env={**os.environ, "MANWIDTH": "80", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
            assert ended.stderr == "", path.name
            assert "SEE ALSO" in ended.stdout

    def test_man_takes_each_page(self):
        """Without a warning of groff's; the examples come through as they are typed."""
        need(shutil.which("groff"), "groff is not installed")
        for path in sorted((PACKAGING / "man").glob("*.1")):
            ended = subprocess.run(
                ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-rLL=200n", "-P-cbou", str(path)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert ended.stderr == ""
            assert "SYNOPSIS" in ended.stdout
        token = subprocess.run(
            ["groff", "-man", "-Kutf8", "-Tutf8", "-rLL=200n", "-P-cbou",
             str(PACKAGING / "man" / "reactor-token.1")],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "reactor token create ops --read '*' --run 'web*:test.*' --wheel 'key.*'" in token

    @pytest.fixture
    def program(self, tmp_path):
        """An environment with a `reactor` that completes, and says what is run otherwise."""
        path = tmp_path / "bin" / "reactor"
        path.parent.mkdir()
        path.write_text(
            '#!/bin/sh\n[ -z "$_REACTOR_COMPLETE" ] && { echo "ran: $*"; exit; }\n'
            f'exec {sys.executable} -m reactor "$@"\n'
        )
        path.chmod(0o755)
        paths = f"{path.parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def test_bash_completes(self, program):
        """Commands, their options and choices, in a real bash."""
        need(shutil.which("bash"), "bash is not installed")

        def complete(*words):
            line = " ".join(map(shlex.quote, words))
            script = (
                f"source {PACKAGING}/completions/bash/reactor\n"
                f"COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}\n"
                '_reactor_completion reactor\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
            )
            ended = subprocess.run(
                ["bash", "--norc", "-c", script],
                capture_output=True, text=True, check=True, env=program,
            )  # fmt: skip
            return set(ended.stdout.split())

        assert complete("reactor", "to") == {"token"}
        assert {"create", "list", "revoke"} <= complete("reactor", "token", "")
        assert "--expires" in complete("reactor", "token", "create", "--e")
        assert complete("reactor", "completion", "") == {"bash", "fish", "zsh"}

    def test_fish_completes(self, program):
        """Commands with what they do, their options and choices, in a real fish."""
        if not shutil.which("fish"):
            pytest.skip("fish is not installed")

        def complete(line):
            script = f"source {PACKAGING}/completions/fish/reactor.fish; complete -C {line!r}"
            ended = subprocess.run(
                ["fish", "--no-config", "-c", script],
                capture_output=True, text=True, check=True, env=program,
            )  # fmt: skip
            return dict(line.partition("\t")[::2] for line in ended.stdout.splitlines())

        assert set(complete("reactor to")) == {"token"}
        assert complete("reactor to")["token"]
        assert {"create", "list", "revoke"} <= set(complete("reactor token "))
        assert "--expires" in complete("reactor token create --e")
        assert set(complete("reactor completion ")) == {"bash", "fish", "zsh"}

    def test_zsh_completes(self, program, tmp_path):
        """What Tab makes of the words is what is run."""
        if not shutil.which("zsh"):
            pytest.skip("zsh is not installed")
        with Terminal(
            ["zsh", "-f", "-i"], {**program, "TERM": "dumb", "HOME": str(tmp_path)}
        ) as zsh:
            zsh.write(f"fpath=({PACKAGING}/completions/zsh $fpath)\n")
            # Else a Tab that comes before the prompt does is a blank.
            zsh.write("zstyle ':completion:*' insert-tab false\n")
            zsh.write("autoload -Uz compinit; compinit -u -D; print REA''DY\n")
            zsh.wait_for("READY")
            for typed, meant in (
                ("reactor toke\t", "token"),
                ("reactor token crea\t --exp\t 1h", "token create --expires 1h"),
                ("reactor completion f\t", "completion fish"),
                ("reactor rules dis\t web", "rules disable web"),
            ):
                zsh.write(f"{typed}\n")
                zsh.wait_for(f"ran: {meant}")


class Terminal:
    """A program on a terminal of its own, as if somebody typed."""

    def __init__(self, line, environ):
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            line, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)
        self._said = ""

    def write(self, text):
        os.write(self._ours, text.encode())

    def wait_for(self, text):
        """Read until the program has said it."""
        deadline = time.monotonic() + 60
        while text not in self._said:
            left = deadline - time.monotonic()
            assert left > 0, self._said
            if select.select([self._ours], [], [], left)[0]:
                self._said += os.read(self._ours, 4096).decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


def test_what_is_installed_is_there():
    """The wheel's list of shared files names folders that are not empty."""
    import tomllib

    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    shared = built["targets"]["wheel"]["shared-data"]
    for source in shared:
        assert any((ROOT / source).iterdir()), source
    assert "packaging" in built["targets"]["sdist"]["include"]


def test_tokens_are_made_where_the_container_says(tmp_path):
    """`reactor token create` works with the environment's directory alone."""
    with serving(tmp_path) as system:
        environ = {**system.environ, "REACTOR_CONFIG_DIR": str(system.config)}
        made = subprocess.run(
            [sys.executable, "-m", "reactor", "token", "create"],
            capture_output=True, text=True, check=True, env=environ, cwd="/",
        ).stdout.strip()  # fmt: skip
        assert answer(url_of(system), "/stats", token=made)[0] == 200
        assert new_token(system) != made
