"""The execution module service, with stand-ins for the programs that it starts."""

import os
import textwrap
from pathlib import Path

import pytest

from bus.errors import BusError
from tests.unit.bus.loader_tools import execution

SYSTEMCTL = """
#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >> calls
case "$1" in
    is-system-running) echo running ;;
    is-active) test -e "active-$3" ;;
    is-enabled) test -e "enabled-$3" ;;
    start|restart) touch "active-$2" ;;
    stop) rm "active-$2" ;;
    enable) touch "enabled-$2" ;;
    disable) rm -f "enabled-$2" ;;
    reload) echo "Unit $2" >&2; echo "cannot reload" >&2; exit 5 ;;
    show) if [ "$4" = nginx.service ]; then echo loaded; else echo not-found; fi ;;
    list-unit-files) printf 'ssh.service enabled\\n\\nnginx.service disabled\\n' ;;
esac
"""

SERVICE = """
#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$(basename "$0") $*" >> calls
case "$2" in
    status) test -e "active-$1" ;;
    start) touch "active-$1" ;;
    stop) exit 3 ;;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A directory of programs, the first of the path."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Programs(tmp_path)


class Programs:
    def __init__(self, path):
        self.path = path

    def add(self, name, text):
        script = self.path / name
        script.write_text(textwrap.dedent(text).lstrip())
        script.chmod(0o755)

    def only(self, monkeypatch, *tools):
        """Leave nothing in the path but these and what scripts need."""
        for tool in tools:
            (self.path / tool).symlink_to(f"/usr/bin/{tool}")
        monkeypatch.setenv("PATH", str(self.path))

    @property
    def calls(self):
        return (self.path / "calls").read_text().splitlines()


@pytest.fixture
def systemd(programs):
    """The module on a host with systemd."""
    programs.add("systemctl", SYSTEMCTL)
    return execution("service")


def test_start_status_stop(systemd):
    """A service that was started runs until it is stopped."""
    assert systemd.status("nginx") is False
    assert systemd.start("nginx") is True
    assert systemd.status("nginx") is True
    assert systemd.stop("nginx") is True
    assert systemd.status("nginx") is False
    assert systemd.restart("nginx") is True
    assert systemd.status("nginx") is True


def test_enable(systemd):
    """At boot or not."""
    assert systemd.disabled("nginx") is True
    assert systemd.enable("nginx") is True
    assert systemd.enabled("nginx") is True
    assert systemd.disable("nginx") is True
    assert systemd.enabled("nginx") is False


def test_what_there_is(systemd):
    """Services are listed and found."""
    assert systemd.get_all() == ["nginx", "ssh"]
    assert systemd.available("nginx") is True
    assert systemd.missing("nothing") is True


def test_a_failure_says_why(systemd):
    """The manager's own words, in one line."""
    with pytest.raises(BusError, match="service nginx: reload failed with status 5: Unit ngin"):
        systemd.reload("nginx")
    with pytest.raises(BusError, match="service nginx: stop failed with status 1"):
        systemd.stop("nginx")


def test_unit_names(systemd, programs):
    """A name with an ending is a unit's own."""
    systemd.start("getty@tty1")
    systemd.start("backup.timer")
    assert programs.calls[-2:] == ["start getty@tty1.service", "start backup.timer"]


@pytest.mark.parametrize("name", ["", "--all", "a b", "../x", "a;b"])
def test_odd_names(systemd, name):
    """A name never becomes an option of the program."""
    with pytest.raises(ValueError, match="no name of a service"):
        systemd.start(name)


def test_asks_once_which_manager(systemd, programs):
    """The manager is found once a process."""
    systemd.status("a")
    systemd.status("b")
    probes = [call for call in programs.calls if call == "is-system-running"]
    assert len(probes) <= 1


def test_a_hanging_manager(systemd, programs, monkeypatch):
    """It is given up, and said so."""
    systemd.status("nginx")
    programs.add("systemctl", "#!/bin/sh\nsleep 60\n")
    monkeypatch.setitem(systemd.functions["service.start"].__globals__, "_SECONDS", 0.2)
    with pytest.raises(BusError, match=r"start did not end within 0\.2 seconds"):
        systemd.start("nginx")


@pytest.fixture
def sysv(programs, monkeypatch):
    """The module on a host whose systemctl speaks to nobody."""
    programs.add("systemctl", "#!/bin/sh\necho offline\nexit 1\n")
    programs.add("service", SERVICE)
    programs.add("update-rc.d", SERVICE)
    module = execution("service")
    names = module.functions["service.start"].__globals__
    monkeypatch.setitem(names, "_SYSTEMD_RUNS", Path("/none"))
    return module


def test_sysv(sysv, programs):
    """Without systemd the program service is used."""
    assert sysv.status("cron") is False
    assert sysv.start("cron") is True
    assert sysv.status("cron") is True
    assert sysv.enable("cron") is True
    assert programs.calls[-1] == "update-rc.d cron enable"
    with pytest.raises(BusError, match="stop failed with status 3: it says nothing"):
        sysv.stop("cron")


def test_sysv_files(sysv, tmp_path, monkeypatch):
    """Scripts and links say what there is and what starts at boot."""
    (tmp_path / "etc" / "init.d").mkdir(parents=True)
    (tmp_path / "etc" / "rc2.d").mkdir()
    for name in ("cron", "ssh"):
        (tmp_path / "etc" / "init.d" / name).write_text("")
    (tmp_path / "etc" / "rc2.d" / "S01cron").write_text("")
    names = sysv.functions["service.start"].__globals__
    monkeypatch.setitem(names, "Path", lambda path: tmp_path / path.lstrip("/"))
    monkeypatch.setitem(names, "_SYSTEMD_RUNS", tmp_path / "none")
    assert sysv.get_all() == ["cron", "ssh"]
    assert sysv.available("cron") is True
    assert sysv.available("on") is False
    assert sysv.enabled("cron") is True
    assert sysv.enabled("ssh") is False


def test_no_manager_at_all(programs, monkeypatch):
    """The text says what was looked for."""
    programs.only(monkeypatch)
    with pytest.raises(BusError, match="neither systemctl nor service"):
        execution("service").status("cron")
    assert os.environ["PATH"] == str(programs.path)
