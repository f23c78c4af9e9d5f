"""The execution module grains."""

import stat

import pytest

from bus import loader
from bus.config import minion_config
from bus.errors import BusError
from tests.unit.bus.loader_tools import execution, minion_bus


@pytest.fixture
def known():
    """The grains of the process."""
    return {"os": "Debian", "ip": {"eth0": ["10.0.0.1"]}, "a:b": "odd", "none": None}


@pytest.fixture
def grains(tmp_path, known):
    """The module."""
    return execution("grains", {"config_dir": str(tmp_path)}, known)


@pytest.fixture
def file(tmp_path):
    """Where a host's own grains are kept."""
    return tmp_path / "grains"


def test_reading(grains, known):
    """All, some, one, their names."""
    assert grains.items() == known
    assert grains.item("os", "nothing", "ip:eth0:0") == {"os": "Debian", "ip:eth0:0": "10.0.0.1"}
    assert grains.get("os") == "Debian"
    assert grains.get("nothing") == ""
    assert grains.get("os:deeper", 5) == 5
    assert grains.get("ip:eth0:7", 5) == 5
    assert grains.get("ip/eth0", delimiter="/") == ["10.0.0.1"]
    assert grains.get("a:b") == "odd"
    assert grains.ls() == ["a:b", "ip", "none", "os"]
    assert [grains.has_value(key) for key in ("os", "none", "nothing")] == [True, False, False]


def test_setting(grains, known, file, tmp_path):
    """What is set holds now, and for whoever loads the grains anew."""
    assert grains.setval("role", ["web"]) == {"role": ["web"]}
    assert known["role"] == ["web"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert grains.setvals({"rack": 4, "où": "là"}) == {"rack": 4, "où": "là"}
    found = loader.grains({"config_dir": str(tmp_path)})
    assert (found["role"], found["rack"], found["où"]) == (["web"], 4, "là")


def test_keeps_what_others_wrote(grains, file):
    """Other grains and the mode of the file stay."""
    file.write_text("mine: 1\n")
    file.chmod(0o644)
    grains.setval("x", 2)
    assert file.read_text() == "mine: 1\nx: 2\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_lists(grains):
    """Values are added once; what is no list becomes one only if asked."""
    assert grains.append("roles", "web") == {"roles": ["web"]}
    assert grains.append("roles", "db") == {"roles": ["web", "db"]}
    assert grains.append("roles", "db") == {"roles": ["web", "db"]}
    with pytest.raises(BusError, match="'os' is no list"):
        grains.append("os", "x")
    assert grains.append("os", "x", convert=True) == {"os": ["Debian", "x"]}


def test_deleting(grains, known, file):
    """The value alone, or the name too."""
    grains.setvals({"a": 1, "b": 2})
    assert grains.delval("a") == {"a": None}
    assert grains.delkey("b") == {}
    assert file.read_text() == "a: null\n"
    assert known["a"] is None
    assert "b" not in known


def test_what_is_refused(grains, file, tmp_path):
    """Names with a colon, data that is not plain, broken files, no directory."""
    with pytest.raises(ValueError, match="without ':'"):
        grains.setval("a:b", 1)
    with pytest.raises(ValueError, match="plain data"):
        grains.setval("a", object())
    with pytest.raises(ValueError, match="takes a dict"):
        grains.setvals([1])
    file.write_text("a: [")
    with pytest.raises(BusError, match=f"{file}:2:1: "):
        grains.setval("a", 1)
    assert file.read_text() == "a: ["
    with pytest.raises(BusError, match="no configuration directory"):
        execution("grains", {}).setval("a", 1)
    with pytest.raises(BusError, match="cannot be kept: No such file"):
        execution("grains", {"config_dir": str(tmp_path / "none")}).setval("a", 1)


def test_a_mapping_that_cannot_be_changed(tmp_path):
    """The file is the truth; frozen grains are left alone."""
    from types import MappingProxyType

    grains = execution("grains", {"config_dir": str(tmp_path)}, MappingProxyType({"a": 0}))
    assert grains.setval("a", 1) == {"a": 1}
    assert grains.get("a") == 0


def test_the_minion_is_told_of_a_change(tmp_path, known):
    """Once for each change, and not of what is there already."""
    opts = minion_config({"id": "web1", "sock_dir": str(tmp_path)})
    told = []
    module = execution("grains", {**opts, "config_dir": str(tmp_path)}, known)
    with minion_bus(opts, {"grains.refresh": told.append}):
        module.setval("role", "web")
        module.setval("role", "web")
        assert len(told) == 1
        module.delkey("role")
        assert len(told) == 2
