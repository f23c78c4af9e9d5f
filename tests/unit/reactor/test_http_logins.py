"""Passwords, PAM, and who may log in when."""

import asyncio
import sys
import time
import types

import pytest

from reactor.errors import ReactorError
from reactor.http import passwords
from reactor.http.access import Access
from reactor.http.auth import Authenticator
from reactor.http.errors import TooManyError, UnauthorizedError
from reactor.http.permissions import READ_ONLY


class TestPasswords:
    """Kept as scrypt hashes."""

    def test_right_and_wrong(self):
        """Each time with a salt of its own."""
        kept = passwords.hashed("a good password")
        assert kept != passwords.hashed("a good password")
        assert "good" not in kept
        assert passwords.matches("a good password", kept)
        assert not passwords.matches("a good passworD", kept)

    @pytest.mark.parametrize(
        "kept", ["", "pam", "scrypt$1", "scrypt$x$8$5$AAAA$AAAA", "md5$a$b$c$d$e"]
    )
    def test_what_is_no_hash(self, kept):
        """It is no password of anybody's."""
        assert not passwords.matches("", kept)


class _PamError(Exception):
    pass


@pytest.fixture
def pam(monkeypatch):
    """A PAM that knows one user, and notes what it was asked."""
    asked = []

    def authenticate(user, password, service, resetcred):
        asked.append((user, service, resetcred))
        if (user, password) != ("ada", "of PAM"):
            raise _PamError("Authentication failure")

    made = types.SimpleNamespace(PAMError=_PamError, authenticate=authenticate)
    monkeypatch.setitem(sys.modules, "pamela", made)
    return asked


@pytest.fixture
def access(tmp_path, monkeypatch):
    """Somebody whom PAM knows, and somebody with a password, whose hash is made fast."""
    monkeypatch.setattr(passwords, "N", 2)
    monkeypatch.setattr(passwords, "P", 1)
    with Access(tmp_path / "http", time.time) as opened:
        opened.set_user("ada", None, READ_ONLY)
        opened.set_user("bob", "of a file", READ_ONLY)
        yield opened


def make(access, clock=time.monotonic):
    return Authenticator(access, lifetime=60, pam_service="reactor", clock=clock)


def login(auth, user, password, eauth="auto", address="192.0.2.1"):
    return asyncio.run(auth.login(user, password, address, eauth))


class TestPam:
    """Beside the passwords that are kept here."""

    def test_who_is_known_there(self, access, pam):
        """PAM is asked with the service of the option; the token is the user's."""
        secret, who = login(make(access), "ada", "of PAM")
        assert who.token.user == "ada"
        assert access.token(secret).permissions == READ_ONLY
        assert pam == [("ada", "reactor", 0)]
        login(make(access), "ada", "of PAM", "pam")

    @pytest.mark.parametrize(
        ("user", "password", "eauth"),
        [
            ("ada", "wrong", "auto"),
            ("ada", "", "auto"),
            ("ada", "pam", "file"),
            ("bob", "of a file", "pam"),
            ("eve", "of PAM", "auto"),
        ],
    )
    def test_who_is_not(self, access, pam, user, password, eauth):
        """Nor is PAM asked about those who are not to log in by it."""
        with pytest.raises(UnauthorizedError, match="wrong user or password"):
            login(make(access), user, password, eauth)
        assert {asked[0] for asked in pam} <= {"ada"}

    def test_with_a_password_of_ours(self, access, pam):
        """PAM is not asked at all."""
        login(make(access), "bob", "of a file")
        assert pam == []

    @pytest.mark.parametrize("error", [ImportError, OSError, AttributeError])
    def test_without_the_library(self, access, monkeypatch, error):
        """The error says what to install, and gives nobody a token."""
        monkeypatch.setitem(sys.modules, "pamela", None)
        if error is not ImportError:
            finder = types.SimpleNamespace(find_spec=_raising(error))
            monkeypatch.delitem(sys.modules, "pamela")
            monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
        with pytest.raises(ReactorError, match="pip install"):
            login(make(access), "ada", "of PAM")
        assert access.tokens() == []

    def test_the_real_one(self):
        """It does not know somebody who is not there."""
        pytest.importorskip("pamela")
        assert not passwords.matches_pam("nobody-of-this-name", "x", "login")


def _raising(error):
    def find_spec(name, *_rest):
        if name == "pamela":
            raise error("no libpam here")

    return find_spec


class TestBruteForce:
    """By address and by user, on a clock of the test's."""

    def test_an_address_that_guesses(self, access):
        """The waits double; others log in meanwhile; the right one forgets it all."""
        now = [0.0]
        auth = make(access, lambda: now[0])
        waits = []
        for _ in range(9):
            while True:
                try:
                    login(auth, "bob", "wrong")
                except TooManyError as error:
                    waits.append(error.retry_after)
                    now[0] += error.retry_after
                except UnauthorizedError:
                    break
        assert waits == [1.0, 2.0, 4.0, 8.0]
        with pytest.raises(TooManyError):
            login(auth, "bob", "of a file")
        login(auth, "bob", "of a file", address="192.0.2.2")
        now[0] += 60
        login(auth, "bob", "of a file")
        with pytest.raises(UnauthorizedError):
            login(auth, "bob", "wrong")

    def test_many_addresses_at_one_user(self, access):
        """They share what a user has free."""
        auth = make(access, lambda: 0.0)
        for number in range(20):
            with pytest.raises(UnauthorizedError):
                login(auth, "bob", "wrong", address=f"192.0.2.{number}")
        with pytest.raises(TooManyError):
            login(auth, "bob", "wrong", address="192.0.2.99")
