"""Who may use HTTP: tokens and users, in a small database that only the owner can read.

Of a token only a digest is kept. Tokens are random, 160 bits, so a fast digest is enough.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bus.config import private_dir
from reactor.errors import ReactorError
from reactor.http import passwords
from reactor.http.errors import NoSuchThingError
from reactor.http.permissions import Permissions, permissions

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, user TEXT,
    permissions TEXT NOT NULL, created REAL NOT NULL, expires REAL
);
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, password TEXT NOT NULL, permissions TEXT NOT NULL
);
"""
_COLUMNS = "id, name, user, permissions, created, expires"
_NAME = re.compile(r"[\w.@+-][\w.@+ -]{0,99}")
_BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token.

    Attributes:
        id: its public name, by which it is listed and revoked.
        name: what it is for, as its maker said.
        user: whose login made it; None if it was made by `reactor token`.
        permissions: what it allows.
        created: seconds since 1970.
        expires: seconds since 1970, or None for never.
    """

    id: str
    name: str
    user: str | None
    permissions: Permissions
    created: float
    expires: float | None


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can log in; ``is_pam`` if PAM knows the password."""

    name: str
    permissions: Permissions
    is_pam: bool


class Access:
    """The tokens and users. For one thread; other processes may have it open too.

    Args:
        directory: where the database is; made if missing.
        clock: seconds since 1970.

    Raises:
        ReactorError: it cannot be opened.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._path = private_dir(directory) / "access.db"
        self._clock = clock
        self._writes = 0
        with self._explained():
            # Made by us before SQLite does, so that nobody else can read it at any time.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_SECONDS)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)

    # -- tokens -------------------------------------------------------------------------------

    def create_token(
        self,
        name: str,
        allowed: Permissions,
        lifetime: float | None = None,
        user: str | None = None,
    ) -> tuple[str, Token]:
        """Make a token.

        Args:
            name: what it is for.
            allowed: what it allows; a user's token allows what the user may.
            lifetime: seconds; None for ever.
            user: whose login makes it.

        Returns:
            The secret, which is not kept, and what is known of it.
        """
        check_name(name)
        secret = secrets.token_hex(20)
        now = self._clock()
        token = Token(
            secrets.token_hex(4), name, user, allowed, now, now + lifetime if lifetime else None
        )
        row = (
            token.id, name, _digest(secret), user, json.dumps(allowed.plain()), now, token.expires
        )  # fmt: skip
        with self._explained():
            self._db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM tokens WHERE expires < ?", (now,))
        self._writes += 1
        return secret, token

    def token(self, secret: str) -> Token | None:
        """Return the token with this secret, unless there is none or it has ended."""
        return self._find("digest = ?", _digest(secret))

    def token_of(self, ident: str) -> Token | None:
        """Return the token with this id, unless there is none or it has ended."""
        return self._find("id = ?", ident)

    def tokens(self) -> list[Token]:
        """Return all tokens that have not ended, the oldest first."""
        with self._explained():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM tokens ORDER BY created, id"  # noqa: S608 - a constant
            ).fetchall()
        return [token for row in rows if (token := self._valid(row))]

    def revoke(self, wanted: str) -> list[Token]:
        """End the token with this id, or all with this name; return them.

        Raises:
            NoSuchThingError: there is none.
        """
        ended = [token for token in self.tokens() if wanted in (token.id, token.name)]
        if not ended:
            raise NoSuchThingError(
                f"no token has the id or name {wanted[:60]!r}: see 'reactor token list'"
            )
        with self._explained():
            self._db.executemany("DELETE FROM tokens WHERE id = ?", [(t.id,) for t in ended])
        self._writes += 1
        return ended

    def version(self) -> tuple[int, int]:
        """Return something that changes whenever anybody has changed anything."""
        with self._explained():
            return self._db.execute("PRAGMA data_version").fetchone()[0], self._writes

    def _find(self, where: str, value: Any) -> Token | None:
        query = f"SELECT {_COLUMNS} FROM tokens WHERE {where}"  # noqa: S608 - a constant
        with self._explained():
            row = self._db.execute(query, (value,)).fetchone()
        return self._valid(row) if row else None

    def _valid(self, row: Any) -> Token | None:
        ident, name, user, allowed, created, expires = row
        if expires is not None and expires <= self._clock():
            return None
        if user is None:
            granted = permissions(json.loads(allowed))
        else:
            # What a user may counts now, not when the login was.
            found = self.user(user)
            if found is None:
                return None
            granted = found.permissions
        return Token(ident, name, user, granted, created, expires)

    # -- users --------------------------------------------------------------------------------

    def set_user(self, name: str, password: str | None, allowed: Permissions) -> None:
        """Make or change a user; their logins end.

        Args:
            name: the user's name.
            password: the new password; None if PAM is to be asked.
            allowed: what the user may.
        """
        check_name(name)
        kept = passwords.PAM if password is None else passwords.hashed(password)
        with self._explained():
            self._db.execute(
                "INSERT OR REPLACE INTO users VALUES (?, ?, ?)",
                (name, kept, json.dumps(allowed.plain())),
            )
            self._db.execute("DELETE FROM tokens WHERE user = ?", (name,))
        self._writes += 1

    def remove_user(self, name: str) -> None:
        """Remove a user; their logins end.

        Raises:
            NoSuchThingError: there is none of this name.
        """
        with self._explained():
            gone = self._db.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount
            self._db.execute("DELETE FROM tokens WHERE user = ?", (name,))
        self._writes += 1
        if not gone:
            raise NoSuchThingError(f"there is no user {name[:60]!r}: see 'reactor user list'")

    def users(self) -> list[User]:
        """Return all users by name."""
        with self._explained():
            rows = self._db.execute("SELECT * FROM users ORDER BY name").fetchall()
        return [_user(row) for row in rows]

    def user(self, name: str) -> User | None:
        """Return a user."""
        if not _NAME.fullmatch(name):  # nobody's, and perhaps no text that can be looked for
            return None
        with self._explained():
            row = self._db.execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
        return _user(row) if row else None

    def password_of(self, name: str) -> str:
        """Return what is kept of a user's password; empty if there is no such user."""
        if not _NAME.fullmatch(name):
            return ""
        with self._explained():
            row = self._db.execute("SELECT password FROM users WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ReactorError(f"cannot use the tokens in {self._path}: {error}") from error


def access_dir(opts: Mapping[str, Any]) -> Path:
    """Return where a master's tokens and users are kept."""
    return Path(str(opts["state_dir"]), "http")


def check_name(name: str) -> str:
    """Return the name of a user or token if it can be one.

    Raises:
        ReactorError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ReactorError(
            f"{name[:60]!r} is no name: use up to 100 letters, digits, spaces and '._@+-'"
        )
    return name


def _user(row: Any) -> User:
    name, kept, allowed = row
    return User(name, permissions(json.loads(allowed)), kept == passwords.PAM)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
