"""The execution module pkg: real apt and dpkg on a system of packages in a temporary directory.

dpkg's database, apt's lists and the root that packages are unpacked to are all in there, so that
neither root nor a network is needed and the host's own packages are never touched.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import textwrap
from pathlib import Path

import pytest

from bus import loader
from bus.errors import BusError
from bus.modules import _apt, _packages
from bus.modules._process import Outcome
from tests.support import need
from tests.unit.bus.loader_tools import execution

APT_CONF = """
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Dpkg::Options {{ "--force-not-root"; "--force-bad-path"; "--force-script-chrootless"; }};
Dpkg::Options:: "--log={root}/dpkg.log";
"""


def _output(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Host:
    """A system of packages of its own, and a repository for it."""

    def __init__(self, place):
        self.root = place / "root"
        self.repository = place / "repository"
        self.arch = _output("dpkg", "--print-architecture")
        for name in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/dpkg/updates"):
            (self.root / name).mkdir(parents=True)
        for name in ("var/lib/dpkg/info", "var/lib/apt/lists/partial", "var/log/apt"):
            (self.root / name).mkdir(parents=True)
        (self.root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        self.repository.mkdir()
        self.sources = self.root / "etc/apt/sources.list"
        self.sources.write_text(f"deb [trusted=yes] file:{self.repository} ./\n")
        self.config = place / "apt.conf"
        self.config.write_text(APT_CONF.format(root=self.root, arch=self.arch))
        self.environ = {
            "APT_CONFIG": str(self.config),
            "DPKG_ADMINDIR": str(self.root / "var/lib/dpkg"),
            "DPKG_ROOT": str(self.root),
        }

    def build(self, name, version, *, arch="all", script="", depends=""):
        """Make a package and return its file."""
        tree = self.repository.parent / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = {
            "Package": name,
            "Version": version,
            "Architecture": arch,
            "Section": "misc",
            "Maintainer": "Nobody <nobody@example.com>",
            "Installed-Size": "3",
            "Description": "a package of a test\n more of it",
            **({"Depends": depends} if depends else {}),
        }
        (tree / "DEBIAN/control").write_text("".join(f"{k}: {v}\n" for k, v in control.items()))
        for folder, text in (("usr/share", version), ("etc", "default")):
            (tree / folder).mkdir(parents=True)
            (tree / folder / f"{name}.txt").write_text(text)
        (tree / "DEBIAN/conffiles").write_text(f"/etc/{name}.txt\n")
        if script:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{script}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        file = self.repository.parent / f"{name}_{version}.deb"
        _output("dpkg-deb", "--root-owner-group", "--build", str(tree), str(file))
        return file

    def publish(self, *files):
        """Put packages into the repository."""
        for file in files:
            shutil.copy(file, self.repository)
        entries = [self._entry(file) for file in sorted(self.repository.glob("*.deb"))]
        (self.repository / "Packages").write_text("\n".join(entries))

    @staticmethod
    def _entry(file):
        content = file.read_bytes()
        control = _output("dpkg-deb", "--field", str(file))
        digest = hashlib.sha256(content).hexdigest()
        return f"{control}\nFilename: ./{file.name}\nSize: {len(content)}\nSHA256: {digest}\n"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An empty system of packages, which apt and dpkg take for the host's."""
    need(all(map(shutil.which, (*_apt.PROGRAMS, "dpkg-deb"))), "apt and dpkg are not on this host")
    tmp_path.chmod(0o755)
    host = Host(tmp_path)
    for name, value in host.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return host


@pytest.fixture
def pkg(host):
    """The module."""
    return execution("pkg")


def test_from_a_file(host, pkg):
    """A package's file is installed and removed; what changes nothing returns nothing."""
    file = host.build("hello-test", "1.0")
    assert pkg.list_pkgs() == {}
    assert pkg.install(str(file)) == {"hello-test": {"old": "", "new": "1.0"}}
    assert pkg.install(str(file)) == {}
    assert pkg.list_pkgs() == {"hello-test": "1.0"}
    assert pkg.list_pkgs(versions_as_list=True) == {"hello-test": ["1.0"]}
    assert (host.root / "usr/share/hello-test.txt").read_text() == "1.0"
    assert pkg.remove("hello-test") == {"hello-test": {"old": "1.0", "new": ""}}
    assert pkg.remove("hello-test") == {}
    assert (host.root / "etc/hello-test.txt").exists()
    assert pkg.list_pkgs() == {}


def test_purge(host, pkg):
    """It also takes what a removal left; a package that is not known is no change."""
    file = host.build("hello-test", "1.0")
    pkg.install(str(file))
    assert pkg.purge("hello-test") == {"hello-test": {"old": "1.0", "new": ""}}
    assert not (host.root / "etc/hello-test.txt").exists()
    pkg.install(str(file))
    pkg.remove("hello-test")
    assert pkg.purge("hello-test") == {"hello-test": {"old": "1.0", "new": ""}}
    assert pkg.purge("hello-test") == {}


def test_from_a_repository(host, pkg):
    """By name, in a version, with what it depends on; upgrades are found and made."""
    one = host.build("hello-test", "1.0", depends="other-test")
    host.publish(one, host.build("other-test", "5"))
    assert set(pkg.refresh_db().values()) <= {True, None, False}
    assert pkg.latest_version("hello-test", refresh=False) == "1.0"
    assert pkg.upgrade_available("hello-test", refresh=False) is False
    both = {"hello-test": {"old": "", "new": "1.0"}, "other-test": {"old": "", "new": "5"}}
    assert pkg.install("hello-test") == both
    assert pkg.install("hello-test,other-test") == {}

    host.publish(host.build("hello-test", "2.0", depends="other-test"))
    assert pkg.upgrade_available("hello-test") is True
    assert pkg.available_version("hello-test", "other-test", "none-test", refresh=False) == {
        "hello-test": "2.0",
        "other-test": "",
        "none-test": "",
    }
    assert pkg.list_upgrades(refresh=False) == {"hello-test": "2.0"}
    assert pkg.upgrade(refresh=False) == {"hello-test": {"old": "1.0", "new": "2.0"}}
    assert pkg.upgrade() == {}
    back = pkg.install("hello-test", version="1.0")
    assert back == {"hello-test": {"old": "2.0", "new": "1.0"}}
    forth = pkg.install(pkgs=[{"hello-test": "2.0"}, "other-test"], refresh=True)
    assert forth == {"hello-test": {"old": "1.0", "new": "2.0"}}
    assert pkg.remove(pkgs=["other-test"]) == {
        "hello-test": {"old": "2.0", "new": ""},
        "other-test": {"old": "5", "new": ""},
    }


def test_versions(host, pkg):
    """One name has one answer, several have a dict; the host's own processor goes without."""
    pkg.install(pkgs=[str(host.build("a-test", "1.0", arch=host.arch))])
    assert pkg.version("a-test") == "1.0"
    assert pkg.version(f"a-test:{host.arch}") == "1.0"
    assert pkg.version("none-test") == ""
    assert pkg.version("a-test", "none-test") == {"a-test": "1.0", "none-test": ""}
    with pytest.raises(ValueError, match="no package is named"):
        pkg.version()


def test_another_processors_package(host, pkg):
    """It has the processor's name in its own."""
    status = host.root / "var/lib/dpkg/status"
    status.write_text(
        "Package: a-test\nStatus: install ok installed\nMaintainer: n\nArchitecture: sparc\n"
        "Version: 1\nDescription: d\n"
    )
    assert pkg.list_pkgs() == {"a-test:sparc": "1"}


def test_what_is_installed(host, pkg):
    """Files, their package, and what the package says of itself."""
    pkg.install(str(host.build("hello-test", "1.0")))
    listed = pkg.file_list("hello-test", "none-test")
    assert "/usr/share/hello-test.txt" in listed["files"]
    assert listed["errors"] == ["the package 'none-test' is not installed"]
    assert pkg.owner("/usr/share/hello-test.txt") == "hello-test"
    owners = pkg.owner("/usr/share/hello-test.txt", "/usr/share/hello-tes?.txt")
    assert owners == {"/usr/share/hello-test.txt": "hello-test", "/usr/share/hello-tes?.txt": ""}
    info = pkg.info_installed("hello-test")["hello-test"]
    assert (info["version"], info["arch"], info["size"]) == ("1.0", "all", 3072)
    assert info["description"] == "a package of a test"
    assert info["install_date_time_t"] > 0
    assert "url" not in info
    assert pkg.info_installed() == {"hello-test": info}
    with pytest.raises(BusError, match="the package 'none-test' is not installed"):
        pkg.info_installed("none-test")


def test_the_same_file_by_two_ways(host, pkg, tmp_path, monkeypatch):
    """A file may be known to dpkg by ``/bin`` or by ``/usr/bin``, which are one directory."""
    assert _apt._places("/bin/x")[0] == "/bin/x"
    assert _apt._places("/none/x") == ["/none/x"]
    if Path("/bin").is_symlink():
        assert _apt._places("/usr/bin/x") == ["/usr/bin/x", "/bin/x"]


def test_hold(host, pkg):
    """A package that is held is not upgraded; only what changes is returned."""
    host.publish(host.build("hello-test", "1.0"))
    pkg.install("hello-test", refresh=True)
    assert pkg.hold("hello-test") == {"hello-test": {"old": "install", "new": "hold"}}
    assert pkg.hold(pkgs=["hello-test"]) == {}
    assert pkg.list_holds() == ["hello-test"]
    host.publish(host.build("hello-test", "2.0"))
    assert pkg.upgrade() == {}
    assert pkg.unhold("hello-test") == {"hello-test": {"old": "hold", "new": "install"}}
    assert pkg.unhold("hello-test") == {}
    assert pkg.upgrade(dist_upgrade=True) == {"hello-test": {"old": "1.0", "new": "2.0"}}
    with pytest.raises(BusError, match="'none-test' is not installed: it cannot be held"):
        pkg.hold("none-test")


@pytest.mark.parametrize(
    "name",
    ["--help", "-y", "a b", "bash-", "bash*", "^bash$", "bash/stable", "bash=1", "a;b", "B\n", 7],
)
def test_odd_names(pkg, name):
    """A name is never an option, a glob, or a wish to remove something."""
    for function in (pkg.install, pkg.remove, pkg.purge, pkg.hold, pkg.unhold):
        with pytest.raises(ValueError, match="no name of a package"):
            function(pkgs=[name])
    for function in (pkg.version, pkg.latest_version, pkg.file_list, pkg.info_installed):
        with pytest.raises(ValueError, match="no name of a package"):
            function(name)


def test_odd_wishes(pkg, tmp_path):
    """Each of them is answered before a program is started."""
    for wish, text in (
        ({}, "nothing to install"),
        ({"name": "a", "version": "1 -y"}, "no version"),
        ({"name": "a", "version": "-y"}, "no version"),
        ({"name": "a,b", "version": "1"}, "for one package"),
        ({"pkgs": [{"a": "-y"}]}, "no version"),
        ({"name": "/etc/passwd"}, "no file of a package"),
    ):
        with pytest.raises(ValueError, match=text):
            pkg.install(**wish)
    with pytest.raises(BusError, match="there is no such file"):
        pkg.install(str(tmp_path / "none.deb"))
    with pytest.raises(ValueError, match="no file is named"):
        pkg.owner()
    for path in ("bin/ls", "/a\n/b", "-x"):
        with pytest.raises(ValueError, match="not absolute"):
            pkg.owner(path)


def test_pkgs_as_a_mapping():
    """Names with or without a version, as YAML may have them."""
    wanted = _packages.targets(None, {"a": "1", "b": None}, None)
    assert wanted == [_packages.Target("a", "1"), _packages.Target("b")]


def test_no_such_package(pkg):
    """Apt's own words, in one line."""
    with pytest.raises(BusError) as caught:
        pkg.install("none-test")
    assert str(caught.value) == "apt-get install: Unable to locate package none-test"


def test_a_script_that_fails(host, pkg):
    """The error is dpkg's, not that apt's helper has failed."""
    file = host.build("broken-test", "1.0", script="exit 7")
    with pytest.raises(BusError, match=r"apt-get install: dpkg: error processing.*status 7"):
        pkg.install(str(file))
    assert pkg.list_pkgs() == {}
    assert pkg.purge("broken-test") == {}


def test_nobody_is_asked(host, pkg):
    """A changed configuration file stays, without a question."""
    pkg.install(str(host.build("hello-test", "1.0")))
    mine = host.root / "etc/hello-test.txt"
    mine.write_text("mine")
    newer = host.build("hello-test", "2.0", script='test "$DEBIAN_FRONTEND" = noninteractive')
    assert pkg.install(str(newer)) == {"hello-test": {"old": "1.0", "new": "2.0"}}
    assert mine.read_text() == "mine"


def test_sources_that_cannot_be_had(host, pkg):
    """The error names the source."""
    host.sources.write_text(f"deb [trusted=yes] file:{host.repository}/none ./\n")
    with pytest.raises(BusError, match="apt-get update: "):
        pkg.refresh_db()


def test_a_source_with_several_files():
    """It is new if one of its files is; what could not be had is false."""
    lines = (
        "Hit:1 http://a.example x InRelease\n"
        "Get:2 http://b.example y InRelease [151 kB]\n"
        "Hit:3 http://b.example y InRelease\n"
        "Ign:4 http://c.example z InRelease\n"
        "Reading package lists...\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_apt, "change", lambda *_args, **_kwargs: lines)
        assert _apt.Apt().refresh() == {
            "http://a.example x InRelease": None,
            "http://b.example y InRelease": True,
            "http://c.example z InRelease": False,
        }


@pytest.fixture
def locked(host):
    """Another process has dpkg's lock, until the file is closed."""
    with (host.root / "var/lib/dpkg/lock-frontend").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield file


def test_a_lock(host, pkg, locked, monkeypatch):
    """It is waited for, and the error says who has it."""
    monkeypatch.setattr(_packages, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(_packages, "_LOOK_SECONDS", 0.05)
    with pytest.raises(BusError, match=r"gave up after 0\.1 s: Could not get lock .*by process"):
        pkg.install(str(host.build("hello-test", "1.0")))
    assert pkg.list_pkgs() == {}


def test_a_lock_that_becomes_free(host, pkg, locked, monkeypatch):
    """Then the packages are installed."""
    file = host.build("hello-test", "1.0")
    monkeypatch.setattr(_packages.time, "sleep", lambda _seconds: locked.close())
    assert pkg.install(str(file)) == {"hello-test": {"old": "", "new": "1.0"}}


def test_a_program_that_hangs(pkg, monkeypatch):
    """It is ended, and said so."""
    monkeypatch.setattr(_packages, "_QUERY_SECONDS", 0.1)
    with pytest.raises(BusError, match=r"sleep did not end within 0\.1 seconds"):
        _packages.query("sleep", "60")


def test_reasons():
    """The line that tells most, whatever there is."""

    def reason(stderr):
        return _apt._reason(Outcome(1, 100, "", stderr))

    assert reason("") == "status 100"
    assert reason("W: odd\nsomething\n\n") == "something"
    assert reason("E: first\nE: second\nE: Sub-process x returned an error\n") == "second"


def test_a_broken_database(host, pkg):
    """In the words of dpkg and apt."""
    (host.root / "var/lib/dpkg/status").write_text("nonsense\n")
    with pytest.raises(BusError, match="dpkg-query: "):
        pkg.list_pkgs()
    with pytest.raises(BusError, match="apt-get: "):
        pkg.list_upgrades(refresh=False)


def test_a_host_without_packages(tmp_path, monkeypatch):
    """The module is not loaded, and whoever calls it is told why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    pkg = execution("pkg")
    with pytest.raises(BusError, match="neither apt-get and dpkg nor dnf and rpm"):
        pkg.version("bash")
    assert "pkg.version" not in pkg.functions
    assert list(pkg.functions.failures()) == ["pkg"]


def test_a_manager_that_went_away(host, pkg, tmp_path, monkeypatch):
    """It was there when the module was loaded."""
    assert "pkg.version" in pkg.functions
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BusError, match="is gone"):
        pkg.version("bash")


def test_doc():
    """The loader shows the module as any other."""
    need(shutil.which("apt-get") or shutil.which("dnf"), "no package manager on this host")
    doc = execution("sys").doc("pkg")
    assert doc["pkg.install"].startswith("Install or upgrade packages")
    functions = loader.execution_modules({}, grains={})
    assert functions["pkg.available_version"] is functions["pkg.latest_version"]


# -- dnf, by stand-ins for its programs ---------------------------------------------------

RPM = r"""
#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "rpm $*" >> calls
case "$*" in
    *--file*/none) echo "file /none is not owned by any package"; exit 1 ;;
    *--file*) printf 'bash\nbash\n' ;;
    *--list*none) echo "package none is not installed"; exit 1 ;;
    *--list*) printf '/usr/bin/bash\n(contains no files)\n' ;;
    *INSTALLTIME*none) echo "package none is not installed"; exit 1 ;;
    *INSTALLTIME*) printf 'bash\t5.2-1\tx86_64\tb.src.rpm\tUnspecified\t(none)\thttp://b\tGPL\t900\tA shell\t1700000000\n' ;;
    *) cat installed ;;
esac
"""

DNF = r"""
#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "dnf $*" >> calls
case "$*" in
    --version) cat version ;;
    *locked*) echo "metadata already locked by 7" >&2; echo "  State: Sleeping" >&2; exit 200 ;;
    *repolist*) printf 'repo id   repo name\nbase      Base\nupdates   Updates\n' ;;
    *--upgrades*) printf 'bash\t5.3-1\n\n' ;;
    *repoquery*broken*) echo "Error: Failed to download metadata" >&2; exit 1 ;;
    *repoquery*) printf 'vim\t2:9.1-1\nzsh\t0:5.9-1\n' ;;
    *install*none*) echo "warning" >&2; echo "Error: Unable to find a match: none" >&2; exit 1 ;;
    *install*) printf 'bash\t5.3-1\nbash\t5.2-1\ngpg-pubkey\t1-1\nvim\t2:9.1-1\n' > installed ;;
    *remove*) printf 'bash\t5.2-1\n' > installed ;;
    *upgrade*) printf 'bash\t5.3-1\n' > installed ;;
esac
"""


@pytest.fixture
def dnf(tmp_path, monkeypatch):
    """The module on a host with dnf, and what its programs were called with."""
    for name, text in (("rpm", RPM), ("dnf", DNF)):
        script = tmp_path / name
        script.write_text(textwrap.dedent(text).lstrip())
        script.chmod(stat.S_IRWXU)
    for tool in ("cat", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "installed").write_text("bash\t5.2-1\ngpg-pubkey\t1-1\n")
    (tmp_path / "version").write_text("5.2.1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    module = execution("pkg")
    module.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    return module


def test_dnf_changes(dnf):
    """What changed is told by rpm; keys are no packages."""
    assert dnf.list_pkgs() == {"bash": "5.2-1"}
    assert dnf.install(pkgs=[{"vim": "2:9.1-1"}, "bash"]) == {
        "bash": {"old": "5.2-1", "new": "5.3-1,5.2-1"},
        "vim": {"old": "", "new": "2:9.1-1"},
    }
    assert "dnf --assumeyes --quiet install vim-2:9.1-1 bash" in dnf.calls()
    assert dnf.purge("vim") == {
        "bash": {"old": "5.3-1,5.2-1", "new": "5.2-1"},
        "vim": {"old": "2:9.1-1", "new": ""},
    }
    assert dnf.remove("vim") == {}
    assert dnf.upgrade() == {"bash": {"old": "5.2-1", "new": "5.3-1"}}
    assert dnf.refresh_db() == {"base": True, "updates": True}


def test_dnf_file(dnf, tmp_path):
    """A file is installed as it is."""
    file = tmp_path / "x.rpm"
    file.touch()
    dnf.install(str(file))
    assert f"dnf --assumeyes --quiet install {file}" in dnf.calls()


def test_dnf_questions(dnf):
    """Versions, owners, files, descriptions."""
    assert dnf.latest_version("bash", "vim", "none", refresh=False) == {
        "bash": "5.3-1",
        "vim": "2:9.1-1",
        "none": "",
    }
    assert dnf.latest_version("bash") == "5.3-1"
    assert dnf.list_upgrades() == {"bash": "5.3-1"}
    assert dnf.owner("/usr/bin/bash", "/none") == {"/usr/bin/bash": "bash", "/none": ""}
    assert dnf.file_list("bash", "none") == {
        "errors": ["the package 'none' is not installed"],
        "files": ["/usr/bin/bash"],
    }
    info = dnf.info_installed("bash")["bash"]
    assert (info["size"], info["license"], "packager" in info) == (900, "GPL", False)
    assert dnf.info_installed() == {"bash": info}


def test_dnf_failures(dnf):
    """The last line of its errors."""
    with pytest.raises(BusError, match=r"^dnf install: Unable to find a match: none$"):
        dnf.install("none")
    with pytest.raises(BusError, match=r"^dnf: Failed to download metadata"):
        dnf.latest_version("broken", refresh=False)
    for ask in (dnf.list_holds, lambda: dnf.hold("bash"), lambda: dnf.unhold("bash")):
        with pytest.raises(BusError, match="dnf versionlock"):
            ask()


def test_dnf_lock(dnf, tmp_path, monkeypatch):
    """Version 4 is told not to wait by itself; the error says who has the lock."""
    (tmp_path / "version").write_text("4.14.0\n  Installed: dnf\n")
    monkeypatch.setattr(_packages, "LOCK_SECONDS", 0)
    with pytest.raises(BusError, match=r"gave up after 0 s: metadata already locked by 7$"):
        dnf.install("locked")
    assert dnf.calls()[-1] == "dnf --assumeyes --quiet --setopt=exit_on_lock=1 install locked"
