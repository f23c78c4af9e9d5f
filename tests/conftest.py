"""Fixtures of every test: a short directory, a master's options, and a bus in its process."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import master_options, minion_options, running_bus, temporary_directory

# The machine may be busy: how long it takes to think of an example says nothing about ours.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A shell starts what is in its background with SIGINT ignored, and children inherit that: those
# that the tests start have to hear Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SYSTEM_PLACES = ("/etc/reactor", "/var/cache/reactor", "/var/lib/reactor")


@pytest.fixture(scope="session", autouse=True)
def system_places():
    """Where root's own master and minion keep theirs: no test has any business there."""
    before = [name for name in SYSTEM_PLACES if Path(name).exists()]
    yield
    assert [name for name in SYSTEM_PLACES if Path(name).exists()] == before


@pytest.fixture
def tmp_path():
    """Pytest's own, but short: with several test processes its paths outgrow a socket's."""
    with temporary_directory() as directory:
        yield directory


@pytest.fixture
def place(tmp_path):
    """A directory whose path is short enough for socket files."""
    return tmp_path


@pytest.fixture
def master_opts(place):
    """The options of a master that lives in ``place``."""
    return master_options(place)


@pytest.fixture
def minion_opts(place):
    """The options of a minion that lives in ``place``."""
    return minion_options(place)


@pytest.fixture
def bus_process(master_opts):
    """The bus role of a master, in a process of its own."""
    with running_bus(master_opts) as running:
        yield running
