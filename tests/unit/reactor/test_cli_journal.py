"""``reactor journal`` and ``reactor events --cursor`` against a bus that runs, and one that ended."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import bus
from bus.journal import JournalReader, journal_path
from bus.listening import Listening
from reactor.cli import journal as journal_command
from reactor.cli import program
from tests.support import running_bus, wait_for

ROOT = Path(__file__).parents[3]


@pytest.fixture
def reactor(place):
    """Calls a command with the configuration in ``place``."""

    def invoke(*args, **kwargs):
        return CliRunner().invoke(program.program, ["--config", str(place), *args], **kwargs)

    return invoke


def _fire(opts, count, prefix="t"):
    with bus.connect("master", opts, timeout=5) as connection:
        pairs = ((f"{prefix}/{number % 3}/x", {"n": number}) for number in range(count))
        assert connection.fire_events(pairs) == count


def _command(*args):
    return [sys.executable, "-m", "reactor", *args]


def _shown(result):
    return [json.loads(line)["seq"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", ["check", "stats", "export", "import", "cursors"])
def test_every_command_has_help_with_an_example(reactor, name):
    """A person who asks sees a line that works."""
    result = reactor("journal", name, "--help")
    assert result.exit_code == 0
    assert f"reactor journal {name}" in result.stdout


def test_check(reactor, bus_process):
    """Nothing is wrong, while the bus runs; no repair then."""
    _fire(bus_process.opts, 1200)
    assert reactor("journal", "check").stdout == "1200 events, nothing wrong\n"
    found = json.loads(reactor("journal", "check", "--json").stdout)
    assert found == {"events": 1200, "findings": []}
    refused = reactor("journal", "check", "--repair")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert "the bus is running" in refused.stderr


def test_check_and_repair_of_a_damaged_file(reactor, bus_process):
    """What is wrong is named, the exit status says so, and the repair makes it whole."""
    path = journal_path(bus_process.opts["state_dir"])
    _fire(bus_process.opts, 3000)
    bus_process.stop()
    try:
        (file,) = path.glob("*.db")
        data = bytearray(file.read_bytes())
        data[4096 * 5 : 4096 * 8] = b"\xa5" * 4096 * 3
        file.write_bytes(data)
        result = reactor("journal", "check")
        assert result.exit_code == 1
        assert str(file) in result.stdout
        assert "--repair" in result.stderr
        assert json.loads(reactor("journal", "check", "--json").stdout)["findings"]
        result = reactor("journal", "check", "--repair")
        assert result.exit_code == 0, result.output
        assert "taken out of a damaged journal file" in result.stderr
        assert reactor("journal", "check").exit_code == 0
    finally:
        bus_process.start()


def test_stats(reactor, bus_process):
    """For people and as JSON."""
    _fire(bus_process.opts, 300)
    shown = reactor("journal", "stats").stdout
    assert "events:     300" in shown
    assert "100     t/0" in shown
    found = json.loads(reactor("journal", "stats", "--json").stdout)
    assert (found["events"], found["first_seq"], found["last_seq"]) == (300, 1, 300)
    assert found["tags"] == {"t/0": 100, "t/1": 100, "t/2": 100}
    assert found["first_at"] <= found["last_at"]


def test_stats_without_a_journal(reactor):
    """One line that says so."""
    result = reactor("journal", "stats")
    assert result.exit_code == 1
    assert "has the master run here" in result.stderr


def test_export_and_import(reactor, bus_process, place):
    """To a file that only its owner reads, or to standard output; and in again, once."""
    _fire(bus_process.opts, 300)
    file = place / "out.jsonl"
    result = reactor(
        "journal", "export", "t/1/*", "--since", "150", "--until", "200", "--file", str(file)
    )
    assert result.exit_code == 0, result.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(place.glob("*.unfinished"))
    lines = file.read_text().splitlines()
    assert (
        lines
        == reactor(
            "journal", "export", "t/1/*", "--since", "150", "--until", "200"
        ).stdout.splitlines()
    )
    assert 150 < json.loads(lines[0])["seq"] < json.loads(lines[-1])["seq"] <= 200
    result = reactor("journal", "import", str(file))
    assert result.stdout == f"{len(lines)} events imported\n"
    result = reactor("journal", "import", str(file))
    assert result.stdout.startswith(f"0 events imported\n{len(lines)} were imported before")
    result = reactor("journal", "import", "-", "--json", input=file.read_bytes())
    assert json.loads(result.stdout) == {"events": len(lines), "new": 0}
    result = reactor("journal", "import", str(file), "--again", "--json")
    assert json.loads(result.stdout) == {"events": len(lines), "new": len(lines)}
    bad = reactor("journal", "import", "-", input=b"no json\n")
    assert bad.exit_code == 1
    assert ":1: no exported event" in bad.stderr


def test_import_from_a_pipe_and_export_of_all(reactor, bus_process, place):
    """What cannot be read twice is copied first."""
    _fire(bus_process.opts, 10)
    command = f"{sys.executable} -m reactor journal export --config {place}"
    again = f"{sys.executable} -m reactor journal import - --again --config {place}"
    done = subprocess.run(
        f"{command} | {again}",
        shell=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("10 events imported\n", "")


def test_an_export_that_fails_leaves_nothing(place):
    """Neither the file nor a part of it."""

    def lines():
        yield "a\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal_command._write(place / "x", lines())
    assert list(place.glob("x*")) == []


def test_import_without_a_bus(reactor, place):
    """One line that says what to start."""
    (place / "f").write_text('{"tag": "t", "data": {}}\n')
    result = reactor("journal", "import", str(place / "f"))
    assert result.exit_code == 1
    assert "reactor up" in result.stderr


def test_progress_is_for_terminals(monkeypatch, capsys):
    """Elsewhere nothing is written."""
    progress = journal_command._Progress("events", 5000)
    progress(1)
    progress.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = journal_command._Progress("events", 5000)
    progress(1000)
    progress(1001)
    progress.clear()
    assert capsys.readouterr().err.count("1,000 of 5,000 events") == 1


def test_a_cursor_of_the_command_line(reactor, bus_process):
    """Each call shows what is new, and the list says how far it is."""
    _fire(bus_process.opts, 5)
    args = ["events", "t/*", "--cursor", "mine", "--json", "--timeout", "0.3"]
    assert _shown(reactor(*args, "--since", "2")) == [3, 4, 5]
    assert _shown(reactor(*args)) == []
    _fire(bus_process.opts, 2500)
    assert _shown(reactor(*args, "--count", "1200")) == list(range(6, 1206))
    assert _shown(reactor(*args, "--since", "0")) == list(range(1206, 2506))
    _fire(bus_process.opts, 2)
    found = json.loads(reactor("journal", "cursors", "--json").stdout)
    assert (found["mine"]["seq"], found["mine"]["behind"]) == (2505, 2)
    assert "mine  2505  2" in reactor("journal", "cursors").stdout
    assert reactor("journal", "cursors", "--delete", "mine").exit_code == 0
    result = reactor("journal", "cursors", "--delete", "mine")
    assert result.exit_code == 1
    assert "there is no cursor 'mine'" in result.stderr
    result = reactor("events", "--cursor", "x", "--until", "5")
    assert result.exit_code == 2


def test_a_cursor_after_ctrl_c(reactor, bus_process, place):
    """What was shown is done, the rest comes the next time."""
    _fire(bus_process.opts, 7)
    shown = place / "shown"
    with shown.open("w") as target:
        process = subprocess.Popen(
            _command("events", "--cursor", "c", "--since", "0", "--json", "--config", str(place)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=target,
        )
        try:
            wait_for(lambda: len(shown.read_text().splitlines()) == 7)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    _fire(bus_process.opts, 1)
    assert _shown(reactor("events", "--cursor", "c", "--json", "--timeout", "0.3")) == [8]


def test_ctrl_c_while_the_place_is_saved(reactor, bus_process, monkeypatch):
    """It is saved on the way out: what was shown does not come again."""
    _fire(bus_process.opts, 3)
    commit, interrupted = Listening.commit, []

    def interrupt(listening, seq=None):
        if not interrupted:
            interrupted.append(seq)
            raise KeyboardInterrupt
        return commit(listening, seq)

    monkeypatch.setattr(Listening, "commit", interrupt)
    result = reactor("events", "--cursor", "c", "--since", "0", "--json")
    assert _shown(result) == [1, 2, 3]
    assert interrupted == [3]
    assert reactor("events", "--cursor", "c", "--json", "--timeout", "0.3").stdout == ""


def test_a_fire_at_a_bus_that_hangs(reactor, bus_process):
    """It ends once its time is over, and is not sent a second time in another way."""
    os.kill(bus_process.pid, signal.SIGSTOP)
    try:
        result = reactor("fire", "t/hung", "--timeout", "1")
    finally:
        os.kill(bus_process.pid, signal.SIGCONT)
    assert result.exit_code == 1
    assert "within 1 s: is the server running and not overloaded?" in result.stderr
    assert reactor("fire", "t/next").exit_code == 0
    result = reactor("events", "t/*", "--since", "0", "--json", "--timeout", "0.1")
    tags = [json.loads(line)["tag"] for line in result.stdout.splitlines()]
    assert tags in (["t/next"], ["t/hung", "t/next"])  # one that is late may still be kept


def test_a_slow_terminal_is_told_what_it_lost(reactor, master_opts, place):
    """``events`` behind a pipe that is not read: what it lost stands on standard error, exactly."""
    with running_bus(master_opts.with_(listener_queue_size=2 << 20)) as bus_process:
        _lose_and_read(bus_process, place, 400_000)


def _lose_and_read(bus_process, place, count):
    process = subprocess.Popen(
        _command("events", "t/*", "--json", "--config", str(place)),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        _fire_until_heard(bus_process.opts, process)
        process.send_signal(signal.SIGSTOP)
        _fire(bus_process.opts, count)
        process.send_signal(signal.SIGCONT)
        heard = _read_all(process.stdout.fileno())
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    lost = _losses(complaints.decode())
    assert lost
    assert all(last - first + 1 == number for number, first, last in lost), lost
    with JournalReader(journal_path(bus_process.opts["state_dir"])) as reader:
        last_seq = reader.last_seq()
    missing = {seq for _, first, last in lost for seq in range(first, last + 1)}
    assert missing | set(heard) >= set(range(heard[0], last_seq + 1))
    assert not missing & set(heard)


def _fire_until_heard(opts, process):
    """Fire until the command has begun to listen."""
    with bus.connect("master", opts, timeout=5) as connection:

        def heard():
            connection.fire("t/first", {})
            return select.select([process.stdout], [], [], 0.1)[0]

        wait_for(heard)


def _read_all(descriptor):
    """Read until nothing more comes for a while, and return the numbers of the events."""
    parts = []
    while select.select([descriptor], [], [], 2.0)[0]:
        parts.append(os.read(descriptor, 1 << 20))
    return [json.loads(line)["seq"] for line in b"".join(parts).splitlines()]


def _losses(complaints):
    """Return count, first and last number of each loss that was told."""
    found = re.findall(
        r"lost (\d+) events \(of any tag\) between seq (\d+) and (\d+); --since", complaints
    )
    return [tuple(map(int, numbers)) for numbers in found]
