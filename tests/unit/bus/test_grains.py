"""Facts about a host, held against what the host says by other ways."""

import ipaddress
import os
import platform
import socket
import struct
import time

import pytest

from bus import loader, netlink, wire
from bus.grains import core, network


@pytest.fixture(scope="module")
def found():
    """The grains of the host that runs the tests."""
    return loader.grains({})


def test_system(found):
    """Kernel and architecture are those of uname."""
    assert found["kernel"] == platform.system()
    assert found["kernelrelease"] == platform.release()
    assert found["cpuarch"] == platform.machine()


def test_hardware(found):
    """Processors and memory are those of the host."""
    assert found["num_cpus"] == os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["mem_total"] == pages // 2**20
    assert found["cpu_model"]


def test_names(found):
    """The host is named as it names itself."""
    assert found["nodename"] == socket.gethostname()
    assert found["host"] == socket.gethostname().split(".")[0]


def test_addresses(found):
    """Loopback is there, and every address is one."""
    assert "127.0.0.1" in found["ipv4"]
    assert "127.0.0.1" in found["ip4_interfaces"]["lo"]
    for address in found["ipv4"] + found["ipv6"]:
        ipaddress.ip_address(address)
    assert found["hwaddr_interfaces"]["lo"] == "00:00:00:00:00:00"


def test_they_go_over_the_wire(found):
    """Grains are plain data."""
    assert wire.unpack(wire.pack(found)) == found


def test_they_are_quick():
    """A worker collects them when it starts: the best of five stays under 50 ms."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        loader.grains({})
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n',
            ("Ubuntu", "Debian", "24.04", "noble", 24),
        ),
        (
            'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
            ("Rocky", "RedHat", "9.4", "", 9),
        ),
        ("NAME=Void\nID=void\n", ("Void", "Void", "", "", "")),
    ],
)
def test_distributions(tmp_path, monkeypatch, text, expected):
    """os-release says which distribution it is, and which family."""
    file = tmp_path / "os-release"
    file.write_text(text)
    monkeypatch.setattr(core, "_OS_RELEASE", (file,))
    found = core.system()
    names = ("os", "os_family", "osrelease", "oscodename", "osmajorrelease")
    assert tuple(found[name] for name in names) == expected


def test_without_os_release(tmp_path, monkeypatch):
    """A system without that file is called by its kernel."""
    monkeypatch.setattr(core, "_OS_RELEASE", (tmp_path / "none",))
    assert core.system()["os"] == platform.system()


@pytest.mark.parametrize(
    ("files", "fqdn", "domain"),
    [
        ({"/etc/hosts": "10.0.0.1 web1.example.org web1 # me"}, "web1.example.org", "example.org"),
        (
            {"/etc/resolv.conf": "search x\ndomain corp.example.\n"},
            "web1.corp.example",
            "corp.example",
        ),
        ({}, "web1", ""),
    ],
)
def test_full_name_from_files(monkeypatch, files, fqdn, domain):
    """The full name comes from hosts(5), else the resolver's domain, without a look-up."""
    monkeypatch.setattr(core.socket, "gethostname", lambda: "web1")
    monkeypatch.setattr(core, "_read", lambda path, limit=0: files.get(str(path), ""))
    assert (core.names()["fqdn"], core.names()["domain"]) == (fqdn, domain)


def test_full_name_of_a_host_that_knows_it(monkeypatch):
    """A host name with a dot is the full name."""
    monkeypatch.setattr(core.socket, "gethostname", lambda: "db.example.net")
    assert core.names()["host"] == "db"
    assert core.names()["domain"] == "example.net"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/sys/class/dmi/id/sys_vendor": "QEMU\n"}, "kvm"),
        ({"/sys/class/dmi/id/product_name": "VMware7,1\n"}, "VMware"),
        ({"/proc/1/environ": "a=b\0container=lxc\0"}, "container"),
        ({}, "physical"),
    ],
)
def test_virtual(monkeypatch, files, expected):
    """Files tell what the host runs in."""
    monkeypatch.setattr(core.Path, "exists", lambda _self: False)
    monkeypatch.setattr(core, "_read", lambda path, limit=0: files.get(str(path), ""))
    assert core.hardware()["virtual"] == expected
    assert core.hardware()["swap_total"] == 0


def test_a_container_engine(monkeypatch):
    """Container engines leave a file."""
    monkeypatch.setattr(core.Path, "exists", lambda self: str(self) == "/.dockerenv")
    assert core.hardware()["virtual"] == "container"


def test_a_user_without_a_name(monkeypatch):
    """A uid that the system does not know is its own name."""
    monkeypatch.setattr(core.os, "geteuid", lambda: 3999999)
    assert core.software()["username"] == "3999999"


def test_the_kernel_does_not_answer(monkeypatch):
    """Without netlink there are no addresses, and no error."""

    def refuse(*_args):
        raise PermissionError("no")

    monkeypatch.setattr(netlink.socket, "socket", refuse)
    assert network.addresses()["ipv4"] == []
    monkeypatch.delattr(netlink.socket, "AF_NETLINK")
    assert network.addresses()["ipv4"] == []


class FakeLink:
    """A netlink socket that gives what it is told to."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def recv(self, _size):
        return self.answers.pop(0)


def message(kind, body):
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def address(index, *attributes):
    raw = b"".join(struct.pack("=HH", 4 + len(value), kind) + value for kind, value in attributes)
    return message(20, struct.pack("=BBBBI", 2, 8, 0, 0, index) + raw)


def test_reads_what_the_kernel_says():
    """Own ends of point-to-point links, odd families, other messages, broken lengths."""
    done = message(3, b"")
    link = FakeLink(
        address(1, (1, b"\x0a\0\0\x02"), (2, b"\x0a\0\0\x01")) + message(99, b"abcd"),
        address(1, (1, b"xyzxyzxy")) + address(1) + address(999999, (1, b"\x7f\0\0\1")) + done,
    )
    entries = [netlink._parse(body) for body in netlink._answers(link)]
    assert [str(entry.address) for entry in entries if entry] == ["10.0.0.1"]
    assert list(netlink._answers(FakeLink(struct.pack("=IHHII", 0, 20, 0, 0, 0)))) == []
    assert list(netlink._attributes(struct.pack("=HH", 0, 1))) == []


def test_an_interface_that_goes_away(tmp_path, monkeypatch):
    """Between listing and reading, an interface may vanish."""
    (tmp_path / "eth9").mkdir()
    (tmp_path / "eth9" / "address").mkdir()
    monkeypatch.setattr(network, "Path", lambda _path: tmp_path)
    assert network.hardware_addresses() == {"hwaddr_interfaces": {}}
