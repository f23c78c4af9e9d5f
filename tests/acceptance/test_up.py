"""`reactor up` as a person has it in front of him."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.system import ROOT, System, wait_until


def test_a_newcomer_sees_the_main_job_and_ends_it_with_ctrl_c(tmp_path):
    """Start, job, return, event: shown with what reacted and how long; the end is clean."""
    system = System(tmp_path, ["--rules", str(ROOT / "examples" / "reactors" / "01-hello")])
    try:
        system.wait_ready()
        system.expect("hello/answered", minion="web1")
        system.expect("reactor/reaction/hello_answered/done")
        wait_until(lambda: "reactor fire" in system.log.read_text())
        system.stop()
    finally:
        system.kill()
    shown = system.log.read_text()
    assert "salt/minion/web1/start" in shown
    assert "greet → local test.echo on web1" in shown
    assert "hello_answered → event hello/answered" in shown
    assert " ms)" in shown
    assert "Traceback" not in shown


def test_ctrl_c_while_it_starts(tmp_path):
    """At any moment of the start the end is clean, from our first line on."""
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        system = System(folder, [])
        try:
            wait_until(lambda system=system: system.config.exists())
            while len(system.left_over()) <= number:
                assert not system.has_ended(), system.log.read_text()
            system.process.send_signal(2)
            assert system.process.wait(10) in (0, 130, -2), system.log.read_text()
            assert system.left_over() == []
        finally:
            system.kill()
        assert "Traceback" not in system.log.read_text()


def test_a_second_start_in_the_same_place_goes_on(tmp_path):
    """What was journaled is still there, and the minion needs no new acceptance."""
    first = System(tmp_path, [])
    try:
        first.wait_ready()
        seq = first.fire("kept/over/a/restart", {"n": 1})
        first.stop()
    finally:
        first.kill()
    second = System(tmp_path, [])
    try:
        second.wait_ready()
        assert second.expect("kept/over/a/restart", n=1).seq == seq
        second.expect("salt/minion/web1/start", after=seq)
        second.stop()
    finally:
        second.kill()


def test_a_second_up_beside_the_first_is_refused(tmp_path):
    """One clear line, and the first goes on."""
    first = System(tmp_path, [])
    try:
        first.wait_ready()
        again = first.run("up", code=1)
        assert len(again.stderr.strip().splitlines()) == 1
        assert "Traceback" not in again.stderr
        first.fire("still/here", {})
        first.stop()
    finally:
        first.kill()


def test_a_console_that_is_killed_comes_back(tmp_path):
    """It says so, and shows what happens from then on, and nothing twice."""
    system = System(tmp_path, [])
    try:
        system.wait_ready()
        wait_until(lambda: "salt/minion/web1/start" in system.log.read_text())
        names = {pid: Path("/proc", pid, "comm").read_text().strip() for pid in system.left_over()}
        [console] = [int(pid) for pid, name in names.items() if name == "reactor-console"]
        os.kill(console, signal.SIGKILL)
        wait_until(lambda: "console ended unexpectedly" in system.log.read_text())
        wait_until(lambda: bool(system.fire("shown/again", {})) and _shows(system, "shown/again"))
        system.stop()
    finally:
        system.kill()
    shown = system.log.read_text()
    assert shown.count("Ctrl-C ends it") == 1
    assert shown.count("salt/minion/web1/start") == 1


def _shows(system: System, text: str) -> bool:
    return text in system.log.read_text()


def test_reactor_files_that_no_map_names_are_told(tmp_path):
    """On the terminal, in the log and in ``rules``, until a map names them; then they react."""
    folder = tmp_path / "salt"
    folder.mkdir()
    (folder / "one.sls").write_text("a: {runner.test.ping: []}\n")
    told = f"{folder}: nothing reacts by a reactor file here (one.sls)"
    system = System(tmp_path, ["--rules", str(folder)])
    try:
        system.wait_ready()
        system.expect("reactor/rules/warning", file=str(folder))
        wait_until(lambda: f"! {told}" in system.log.read_text())
        log = system.config / "log" / "up.log"
        assert log.read_text().count(told) == 1
        assert told in system.run("rules").stderr
        assert told in system.run("why", "my/tag").stdout
        seq = system.fire("my/mark", {})
        (folder / "map.yaml").write_text("reactor: [{my/tag: one.sls}]\n")
        system.expect("reactor/rules/reloaded", seq, rules=1)
        assert told not in system.run("rules").stderr
        seq = system.fire("my/tag", {})
        system.expect("reactor/reaction/one/done", seq)
        (folder / "two.sls").write_text("")
        system.expect("reactor/rules/warning", seq)
        system.stop()
    finally:
        system.kill()
    assert log.read_text().count(told) == 1
    assert system.log.read_text().count(told) == 1
