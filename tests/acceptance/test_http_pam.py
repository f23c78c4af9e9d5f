"""Logins that a real PAM decides, by a service of the test's own."""

import ctypes.util
import os
from pathlib import Path

import pytest

from tests.web import answer, ask, serving, url_of

SERVICES = Path("/etc/pam.d")
PASSWORD = "planted-pam-password"


@pytest.fixture
def service(tmp_path):
    """A service of PAM that knows one password; an account may be locked beside it."""
    if os.geteuid() != 0 or not SERVICES.is_dir():
        pytest.skip("only root can add a service to PAM")
    if not ctypes.util.find_library("pam"):
        pytest.skip("no PAM on this host")
    if not any(_modules()):
        pytest.skip("PAM has no pam_exec here")
    right, open_ = tmp_path / "right", tmp_path / "open"
    right.write_text(f"#!/bin/sh\n[ \"$(tr -d '\\0')\" = {PASSWORD} ]\n")
    open_.write_text('#!/bin/sh\n[ "$PAM_USER" != locked ]\n')
    for script in (right, open_):
        script.chmod(0o700)
    name = f"reactor-test-{os.getpid()}"
    path = SERVICES / name
    path.write_text(
        f"auth required pam_exec.so quiet expose_authtok {right}\n"
        f"account required pam_exec.so quiet {open_}\n"
    )
    try:
        yield name
    finally:
        path.unlink()


def _modules():
    for folder in ("/lib", "/usr/lib", "/lib64", "/usr/lib64"):
        yield from Path(folder).glob("security/pam_exec.so")
        yield from Path(folder).glob("*/security/pam_exec.so")


def _login(url, user, password):
    said = {"username": user, "password": password, "eauth": "pam"}
    return answer(url, "/login", said)


def test_who_logs_in(service, tmp_path):
    """By the password that PAM takes, with the permissions that were given here."""
    with serving(tmp_path, more=f"http_pam_service: {service}\n") as system:
        url = url_of(system)
        for name in ("ada", "locked"):
            system.run("user", "set", name, "--pam", "--read", "pam/*")
        status, said = _login(url, "ada", PASSWORD)
        assert status == 200, said
        (made,) = said["return"]
        assert (made["user"], made["perms"]) == ("ada", {"read": ["pam/*"]})
        seq = system.fire("pam/event", {"n": 1})
        assert answer(url, f"/events/{seq}", token=made["token"])[0] == 200
        assert answer(url, "/fire", {"tag": "pam/event"}, made["token"])[0] == 403
        # A wrong password, an account that PAM has locked, somebody whom only PAM knows, and
        # what no PAM could be asked.
        for user, password in (
            ("ada", "wrong"),
            ("locked", PASSWORD),
            ("eve", PASSWORD),
            ("ada", "\ud800"),
        ):
            assert _login(url, user, password)[0] == 401, user
        assert _login(url, "\ud800", PASSWORD)[0] in (401, 422)
        assert ask(url, "/logout", b"", made["token"])[0] == 200
        assert answer(url, f"/events/{seq}", token=made["token"])[0] == 401
        assert PASSWORD not in system.log.read_text()
