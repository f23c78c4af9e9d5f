"""Addresses of the sockets."""

from pathlib import Path

import pytest

from bus import endpoints
from bus.config import settings
from bus.errors import ConfigError

MASTER = {"sock_dir": "/run/m", "ipc_mode": "ipc"}
KEYED = "tcp://127.0.0.1:{}#/r/local.key"
MINION = {"sock_dir": "/run/n", "ipc_mode": "ipc", "id": "web1"}


def test_master_sockets_have_salts_names():
    """The file names are what Salt's users look for."""
    assert endpoints.master_pub(MASTER) == "ipc:///run/m/master_event_pub.ipc"
    assert endpoints.master_pull(MASTER) == "ipc:///run/m/master_event_pull.ipc"
    assert endpoints.master_link(MASTER) == "line:///run/m/master_link.ipc"
    assert endpoints.master_reactor(MASTER) == "line:///run/m/master_reactor.ipc"


def test_minion_sockets_are_named_by_the_hash_of_the_id():
    """Ten hex digits of SHA-256 of the id."""
    import hashlib

    digest = hashlib.sha256(b"web1").hexdigest()[:10]
    assert endpoints.minion_pub(MINION) == f"ipc:///run/n/minion_event_{digest}_pub.ipc"
    assert endpoints.minion_pull(MINION) == f"ipc:///run/n/minion_event_{digest}_pull.ipc"


def test_tcp_mode_is_loopback():
    """Without UNIX sockets nothing but loopback is bound."""
    ports = {"tcp_pub_port": 1, "tcp_pull_port": 2, "tcp_link_port": 3}
    opts = {"ipc_mode": "tcp", "sock_dir": "/r", **ports}
    assert endpoints.master_pub(opts) == "tcp://127.0.0.1:1#/r/local.key"
    assert endpoints.minion_pull(opts) == "tcp://127.0.0.1:2#/r/local.key"
    assert endpoints.master_link(opts) == "tcp://127.0.0.1:3#/r/local.key"


def test_ports_that_are_not_given_are_the_roles_defaults():
    """A master and a minion on one host do not collide."""
    assert endpoints.master_pub({"ipc_mode": "tcp", "sock_dir": "/r"}) == KEYED.format(4512)
    assert endpoints.minion_pub({"ipc_mode": "tcp", "sock_dir": "/r"}) == KEYED.format(4510)


def test_socket_path():
    """Ports have no file."""
    assert endpoints.socket_path("ipc:///run/m/x.ipc") == Path("/run/m/x.ipc")
    assert endpoints.socket_path("line:///run/m/x.ipc") == Path("/run/m/x.ipc")
    assert endpoints.socket_path("tcp://127.0.0.1:1") is None


def test_missing_options_are_named():
    """A mapping that lacks an option says which, and how to get it."""
    with pytest.raises(ConfigError, match=r"sock_dir .*master_config"):
        endpoints.master_pub({})
    with pytest.raises(ConfigError, match="option id is missing"):
        endpoints.minion_pub({"sock_dir": "/x"})


def test_the_longest_names_are_those_that_the_configuration_counts_with():
    """The length check of sock_dir knows the real names."""
    functions = {
        "master": (
            "master_pub",
            "master_pull",
            "master_link",
            "master_reactor",
            "master_http",
        ),
        "minion": ("minion_pub", "minion_pull", "minion_reactor"),
    }
    for role, names in functions.items():
        paths = [endpoints.socket_path(getattr(endpoints, name)(MINION)) for name in names]
        paths.append(getattr(endpoints, f"{role}_direct")(MINION))
        paths.append(endpoints.socket_path(endpoints.master_reactor_named(MASTER, "standby-1")))
        paths.append(endpoints.line_path(getattr(endpoints, f"{role}_fires")(MINION)))
        longest = max(len(path.name) for path in paths)
        assert longest == settings.LONGEST_SOCKET_NAME[role]
