"""The execution module network, on this host's own interfaces and on the loopback."""

import os
import shutil
import socket
import stat
import sys
import textwrap
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from bus import netlink, wire
from bus.errors import BusError
from bus.modules import _procnet
from tests.unit.bus.loader_tools import execution


@pytest.fixture
def network():
    """The module."""
    return execution("network")


@contextmanager
def listening(family=socket.AF_INET, host="127.0.0.1"):
    """A socket that can be connected to; yields it and its port."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((host, 0))
        server.listen()
        yield server, server.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port that nobody can get while the test runs, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


ADDRESSES = [
    netlink.Address("lo", ip_address("127.0.0.1"), 8, "lo", "", "host"),
    netlink.Address("eth0", ip_address("10.1.2.3"), 16, "eth0", "10.1.255.255"),
    netlink.Address("eth0", ip_address("8.8.4.4"), 24, "eth0:1", "8.8.4.255"),
    netlink.Address("eth1", ip_address("10.1.0.9"), 16),
    netlink.Address("eth0", ip_address("fe80::1"), 64, scope="link"),
    netlink.Address("lo", ip_address("::1"), 128, scope="host"),
]


@pytest.fixture
def fleet(network, monkeypatch):
    """The module on a host with several interfaces."""
    monkeypatch.setattr(netlink, "addresses", lambda: ADDRESSES)
    return network


def test_the_loopback(network):
    """It is there on every host, with its address."""
    found = network.interfaces()["lo"]
    assert found["up"] is True
    assert found["hwaddr"] == "00:00:00:00:00:00"
    entry = {"address": "127.0.0.1", "netmask": "255.0.0.0", "broadcast": None, "label": "lo"}
    assert entry in found["inet"]
    assert network.interface("lo") == found["inet"]
    assert network.interface_ip("lo") == "127.0.0.1"
    assert network.hw_addr("lo") == network.hwaddr("lo") == "00:00:00:00:00:00"
    assert "127.0.0.1" in network.ip_addrs(include_loopback=True)
    assert network.ip_addrs(interface="lo") == []
    assert wire.unpack(wire.pack(network.interfaces())) == network.interfaces()


def test_interfaces(fleet):
    """Addresses go to their interface, also one that has just come."""
    found = fleet.interfaces()
    assert found["eth1"]["inet"][0]["label"] == "eth1"
    assert {"address": "fe80::1", "prefixlen": "64", "scope": "link"} in found["eth0"]["inet6"]
    assert [entry["address"] for entry in fleet.interface("eth0")] == ["10.1.2.3", "8.8.4.4"]
    with pytest.raises(BusError, match="there is no interface 'eth7'"):
        fleet.hw_addr("eth7")


def test_an_interface_that_goes_away(network):
    """It is not up."""
    assert network.functions["network.interfaces"].__globals__["_is_up"]("eth-none") is False


def test_addresses(fleet):
    """Sorted as numbers, and chosen by interface, network and type."""
    assert fleet.ip_addrs() == ["8.8.4.4", "10.1.0.9", "10.1.2.3"]
    assert fleet.ipaddrs(interface="eth1") == ["10.1.0.9"]
    assert fleet.ip_addrs(include_loopback=True)[-1] == "127.0.0.1"
    assert fleet.ip_addrs(cidr="10.1.2.0/24") == ["10.1.2.3"]
    assert fleet.ip_addrs(type="public") == ["8.8.4.4"]
    assert fleet.ip_addrs(type="private") == ["10.1.0.9", "10.1.2.3"]
    assert fleet.ip_addrs6() == ["fe80::1"]
    assert fleet.ipaddrs6(include_loopback=True) == ["::1", "fe80::1"]
    assert fleet.ip_addrs6(cidr="fe80::/10") == ["fe80::1"]
    with pytest.raises(ValueError, match="unknown type"):
        fleet.ip_addrs(type="odd")


def test_subnets(fleet):
    """Each network once, without the loopback's."""
    assert fleet.subnets() == ["8.8.4.0/24", "10.1.0.0/16"]
    assert fleet.subnets("eth1") == fleet.subnets(["eth1"]) == ["10.1.0.0/16"]
    assert fleet.subnets6() == ["fe80::/64"]


def test_in_subnet(fleet):
    """The host, or an address."""
    assert fleet.in_subnet("10.1.0.0/16") is True
    assert fleet.in_subnet("10.2.0.0/16") is False
    assert fleet.in_subnet("10.2.0.0/16", "10.2.3.4") is True
    assert fleet.in_subnet("10.2.0.0/16", "::1") is False
    with pytest.raises(ValueError, match="no network"):
        fleet.in_subnet("10.2.0.0/99")
    with pytest.raises(ValueError, match="no address"):
        fleet.in_subnet("10.2.0.0/16", "x")


def test_hostname(network):
    """As the system has it."""
    assert network.get_hostname() == socket.gethostname()


def test_sockets(network):
    """A listening socket, a connection and a socket of UDP are seen, with their program."""
    with (
        listening() as (server, port),
        socket.create_connection(("127.0.0.1", port)) as client,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        ours = {entry["inode"]: entry for entry in network.netstat()}
        entry = ours[str(os.fstat(server.fileno()).st_ino)]
        assert entry["proto"] == "tcp"
        assert entry["local-address"] == f"127.0.0.1:{port}"
        assert entry["state"] == "LISTEN"
        assert entry["recv-q"] == 1  # nobody has accepted the connection
        assert entry["program"].startswith(f"{os.getpid()}/")
        entry = ours[str(os.fstat(client.fileno()).st_ino)]
        assert (entry["state"], entry["remote-address"]) == ("ESTABLISHED", f"127.0.0.1:{port}")
        entry = ours[str(os.fstat(datagrams.fileno()).st_ino)]
        assert (entry["proto"], entry["state"]) == ("udp", "UNCONN")
        connection = {
            "local_addr": "127.0.0.1",
            "local_port": client.getsockname()[1],
            "remote_addr": "127.0.0.1",
            "remote_port": port,
        }
        assert connection in network.active_tcp().values()


@pytest.fixture
def ipv6():
    """A host whose loopback has IPv6."""
    entries = netlink.addresses()
    if not any(str(entry.address) == "::1" for entry in entries):
        pytest.skip("no IPv6 on the loopback")


def test_sockets_of_ipv6(network, ipv6):
    """Their addresses are written as usual."""
    with listening(socket.AF_INET6, "::1") as (server, port):
        inode = str(os.fstat(server.fileno()).st_ino)
        entry = next(entry for entry in network.netstat() if entry["inode"] == inode)
        assert (entry["proto"], entry["local-address"]) == ("tcp6", f"[::1]:{port}")
        connected = network.connect("::1", port)
        assert connected == {"result": True, "comment": f"connected to [::1]:{port}"}


# Addresses of IPv4 are in the byte order of a little-endian processor.
ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0101000A 0003 0 0 100 00000000 0 0 0
tun0 00000000 00000000 0001 0 0 0 00000080 0 0 0
eth0 0000000A 00000000 0001 0 0 100 000000FF 0 0 0
eth9 0000000B 00000000 0000 0 0 100 000000FF 0 0 0
"""
NOTHING = "0" * 32
LINK = "fe80" + "0" * 28
ROUTES6 = f"""\
{NOTHING} 00 {NOTHING} 00 {LINK[:-1]}1 00000400 00000001 00000000 00000003     eth0
{LINK} 40 {NOTHING} 00 {NOTHING} 00000100 00000001 00000000 00000001     eth0
{NOTHING} 00 {NOTHING} 00 {NOTHING} ffffffff 00000001 00000000 00200200       lo
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is a little-endian kernel's")
def test_routes(network, tmp_path, monkeypatch):
    """Those in use; a half of everywhere is not everywhere."""
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "ipv6_route").write_text(ROUTES6)
    monkeypatch.setattr(_procnet, "_NET", tmp_path)
    assert [
        (route["destination"], route["netmask"], route["gateway"], route["flags"])
        for route in network.routes("inet")
    ] == [
        ("0.0.0.0", "0.0.0.0", "10.0.1.1", "UG"),
        ("0.0.0.0", "128.0.0.0", "0.0.0.0", "U"),
        ("10.0.0.0", "255.0.0.0", "0.0.0.0", "U"),
    ]
    assert [route["destination"] for route in network.routes("inet6")] == ["::/0", "fe80::/64"]
    assert [route["gateway"] for route in network.default_route()] == ["10.0.1.1", "fe80::1"]
    assert [route["metric"] for route in network.default_route("inet6")] == [1024]
    with pytest.raises(ValueError, match="unknown family"):
        network.routes("ipx")
    (tmp_path / "ipv6_route").unlink()
    assert network.routes("inet6") == []


def test_the_real_routes(network):
    """Whatever this host has, it can be read and sent."""
    found = network.routes()
    assert wire.unpack(wire.pack(found)) == found
    assert all(route["interface"] for route in found)


def test_odd_sockets():
    """States that are not known yet, processes that have gone."""
    assert _procnet._state("tcp", 99) == "99"
    assert _procnet._name(_procnet.Path("/proc/none")) == ""
    assert list(_procnet._inodes(_procnet.Path("/proc/none"))) == []


def test_a_user_without_a_name(network, monkeypatch):
    """He is shown by his number."""
    names = network.functions["network.netstat"].__globals__
    assert names["_user_name"](4_000_000_000) == "4000000000"


def test_dig(network):
    """The resolver's answer."""
    assert "127.0.0.1" in network.dig("localhost")
    assert network.dig("127.0.0.1") == ["127.0.0.1"]
    for name in ("no such host", "a" * 300 + ".x"):
        with pytest.raises(BusError, match=name[:12]):
            network.dig(name)


def test_connect(network, closed_port):
    """To who listens, and to who does not."""
    with listening() as (_, port):
        done = network.connect("127.0.0.1", port, timeout=5)
        assert done == {"result": True, "comment": f"connected to 127.0.0.1:{port}"}
        assert network.connect("localhost", str(port), family="ipv4")["result"] is True
    refused = network.connect("127.0.0.1", closed_port)
    assert refused == {
        "result": False,
        "comment": f"127.0.0.1:{closed_port}: Connection refused",
    }
    assert network.connect("127.0.0.1", "no-such-service")["result"] is False
    assert network.connect("127.0.0.1", 1 << 80)["result"] is False
    with pytest.raises(ValueError, match="unknown family"):
        network.connect("127.0.0.1", 1, family="ipx")
    with pytest.raises(ValueError, match="the timeout"):
        network.connect("127.0.0.1", 1, timeout=0)


def test_connect_without_an_answer(network):
    """The wait has an end. A full queue of connections answers nobody."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        with socket.create_connection(address):
            done = network.connect(*address, timeout=0.2)
    assert done["result"] is False
    assert "no answer within 0.2 seconds" in done["comment"]


PING = """
#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in
    *unknown*) echo "ping: unknown: Name or service not known" >&2; exit 2 ;;
    *silent*) echo "4 packets transmitted, 0 received"; exit 1 ;;
    *hanging*) exec sleep 60 ;;
    *wordless*) exit 3 ;;
esac
echo "4 packets transmitted, 4 received"
"""


@pytest.fixture
def ping(tmp_path, monkeypatch):
    """A program ping, and what it was called with."""
    program = tmp_path / "ping"
    program.write_text(textwrap.dedent(PING).lstrip())
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "ping.calls"


def test_ping(network, ping):
    """What the program writes, or whether there was an answer."""
    assert network.ping("web1", timeout=2) == "4 packets transmitted, 4 received"
    assert ping.read_text() == "-c 4 -W 2 -- web1\n"
    assert network.ping("::1", return_boolean=True) is True
    assert network.ping("silent") == "4 packets transmitted, 0 received"
    for host in ("silent", "unknown"):
        assert network.ping(host, return_boolean=True) is False
    with pytest.raises(BusError, match="ping failed: ping: unknown: Name"):
        network.ping("unknown")
    with pytest.raises(BusError, match="ping failed: status 3"):
        network.ping("wordless")
    for host in ("-f", "a b", "", "a;b"):
        with pytest.raises(ValueError, match="no name or address"):
            network.ping(host)


def test_a_ping_that_hangs(network, ping, monkeypatch):
    """It is ended, and that is no answer."""
    monkeypatch.setitem(network.functions["network.ping"].__globals__, "_PINGS", 0)
    assert network.ping("hanging", timeout=0.2, return_boolean=True) is False
    assert network.ping("hanging", timeout=0.2) == ""


def test_the_real_ping(network):
    """The loopback answers."""
    if shutil.which("ping") is None:
        pytest.skip("no program ping on this host: .ci/run installs it where it can")
    try:
        said = network.ping("127.0.0.1", timeout=1)
    except BusError as error:
        if "not permitted" in str(error) or "SOCK_RAW" in str(error):
            # No package changes that, so it is no failure of a build machine's.
            pytest.skip(f"the kernel forbids it: {error}")
        raise
    assert "4 received" in said


def test_no_ping(network, tmp_path, monkeypatch):
    """The error says where it comes from."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BusError, match=r"no program ping.*iputils-ping"):
        network.ping("127.0.0.1")


def test_doc():
    """The loader shows the module as any other."""
    doc = execution("sys").doc("network")
    assert {"network.interfaces", "network.ip_addrs", "network.ipaddrs"} <= set(doc)
    assert "network.grains" not in doc
