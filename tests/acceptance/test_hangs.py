"""Parts that hang: each is killed and started again, and all of it serves as before."""

import os
import re
import signal

import pytest

from bus.config import private_dir
from reactor.up import prepare
from tests.support import wait_for
from tests.system import PARTS
from tests.web import answer, serving, status_of, url_of

RULES = """
answer:
  on: hang/ask
  do: [{event: hang/answered, data: {n: "{{ data.n }}"}}]
"""

SECONDS = 120

SLOW_EVENTS = 8
"""Half a second each: several times as long as the patience of the test."""


@pytest.fixture
def system(tmp_path):
    """A running system whose parts may hang for a few seconds only."""
    (tmp_path / "r.yaml").write_text(RULES)
    limit = "hang_after: 4s\n"
    directory = private_dir(tmp_path / ".reactor")
    prepare(directory, "web1")
    (private_dir(directory / "minion.d") / "hang.conf").write_text(limit)
    with serving(tmp_path, "--rules", str(tmp_path / "r.yaml"), more=limit) as made:
        yield made


def _are_others(before, now):
    return len(now) == len(PARTS) and not {*before.values()} & {*now.values()}


@pytest.mark.timeout(300)
def test_a_part_that_hangs_is_started_again(system):
    """All of them at once; what was acknowledged is still reacted to."""
    before = wait_for(lambda: len(found := system.parts()) == len(PARTS) and found, "parts")
    seq = system.fire("hang/ask", {"n": 1})
    system.expect("hang/answered", after=seq, n=1)
    os.kill(before["reactor"], signal.SIGSTOP)
    seq = system.fire("hang/ask", {"n": 2})
    for name in ("bus", "link", "http", "minion"):
        os.kill(before[name], signal.SIGSTOP)
    wait_for(lambda: _are_others(before, system.parts()), "other processes", seconds=SECONDS)
    wait_for(lambda: answer(url_of(system), "/readyz")[0] == 200, "readiness", seconds=SECONDS)
    system.expect("hang/answered", after=seq, n=2)
    wait_for(lambda: status_of(system)["parts"]["minion"]["ok"], "the minion", seconds=SECONDS)
    assert "True" in system.run("cmd", "web1", "test.ping").stdout
    said = system.log.read_text()
    for name in PARTS:
        assert f"{name} hangs: no sign of life for" in said


def test_what_takes_its_time_does_not_hang(tmp_path):
    """A template of each event takes a while; a whole turn takes longer than the patience."""
    (tmp_path / "slow.sls").write_text(
        "{% do salt['test.sleep'](0.5) %}\n"
        "done:\n  runner.test.arg:\n    - args:\n      - {{ data['n'] }}\n"
    )
    (tmp_path / "map.yaml").write_text(f"reactor:\n  - 'slow/*': {tmp_path}/slow.sls\n")
    rules = ("--rules", str(tmp_path / "map.yaml"))
    with serving(tmp_path, *rules, more="hang_after: 1s\n") as system:
        pid = system.parts()["reactor"]
        for number in range(SLOW_EVENTS):
            system.fire("slow/x", {"n": number})
        wait_for(lambda: _returned(system) == SLOW_EVENTS, "all of them", seconds=SECONDS)
        assert system.parts()["reactor"] == pid


def _returned(system):
    return sum(
        re.fullmatch(r"salt/run/\d+/ret", event.tag) is not None for event in system.events()
    )
