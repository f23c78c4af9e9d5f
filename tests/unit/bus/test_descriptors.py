"""The number of files that a process may have."""

from __future__ import annotations

import logging
import resource

import pytest

from bus import descriptors


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits that were set, of a process that may have 1,024 and could have 4,096."""
    now = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: now.append(limits))
    return now


def test_the_limit_is_what_the_system_grants(limits: list[tuple[int, int]]) -> None:
    """Once."""
    assert descriptors.raise_limit() == 4096
    assert descriptors.raise_limit() == 4096
    assert limits[1:] == [(4096, 4096)]


@pytest.mark.usefixtures("limits")
def test_a_system_that_grants_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit stays."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 1024


@pytest.mark.parametrize(
    ("limit", "connections", "warned"),
    [(1024, 500, False), (1024, 1000, True), (resource.RLIM_INFINITY, 10**6, False)],
)
def test_more_minions_than_files(
    limit: int, connections: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, with what to do."""
    caplog.set_level(logging.WARNING)
    descriptors.warn_if_few(limit, connections, "accepted minions")
    assert ("LimitNOFILE" in caplog.text) is warned
