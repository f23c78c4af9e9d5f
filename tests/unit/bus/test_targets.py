"""Targets: who is meant."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import TargetError
from bus.targets import compile_target, expand

MINIONS = {
    "web1": {
        "os": "Debian",
        "roles": ["www", "cache"],
        "ipv4": ["10.0.0.7", "127.0.0.1"],
        "cloud": {"zone": {"name": "eu:west"}, "tags": ["a", {"deep": "yes"}]},
    },
    "web2": {"os": "Debian", "osrelease": 12, "ipv4": "10.0.1.7", "ipv6": ["fe80::1"]},
    "db1": {"os": "Arch", "a:b": "c", "ipv4": [10, "no address"]},
    "lonely": {},
}
GROUPS = {
    "webs": "web*",
    "all": "N@webs or db1",
    "listed": ["web1", "db1"],
    "words": ["G@os:Debian", "and", "not", "web2"],
    "round": "N@trip",
    "trip": "N@round",
}


@pytest.mark.parametrize(
    ("kind", "target", "found"),
    [
        ("glob", "*", "web1 web2 db1 lonely"),
        ("glob", "web[12]", "web1 web2"),
        ("glob", "web1", "web1"),
        ("glob", "WEB1", ""),
        ("list", "db1, web1,none", "web1 db1"),
        ("list", "db1 web1  none", "web1 db1"),
        ("list", ["web2"], "web2"),
        ("pcre", "web|db", "web1 web2 db1"),
        ("pcre", "eb", ""),
        ("grain", "os:Deb*", "web1 web2"),
        ("grain", "os:debian", "web1 web2"),
        ("grain", "roles:cache", "web1"),
        ("grain", "osrelease:12", "web2"),
        ("grain", "cloud:zone:name:eu:west", "web1"),
        ("grain", "cloud:zone:name", "web1"),
        ("grain", "cloud:*", "web1"),
        ("grain", "cloud:tags:deep:yes", "web1"),
        ("grain", "cloud:tags:a", "web1"),
        ("grain", "a:b:c", "db1"),
        ("grain", "none:x", ""),
        ("grain_pcre", "os:(Debian|Arch)$", "web1 web2 db1"),
        ("ipcidr", "10.0.0.0/24", "web1"),
        ("ipcidr", "10.0.1.7", "web2"),
        ("ipcidr", "fe80::/10", "web2"),
        ("nodegroup", "webs", "web1 web2"),
        ("nodegroup", "all", "web1 web2 db1"),
        ("nodegroup", "listed", "web1 db1"),
        ("nodegroup", "words", "web1"),
        ("compound", "web*", "web1 web2"),
        ("compound", "G@os:Debian and not web2", "web1"),
        ("compound", "G@os:Debian not web2", "web1"),
        ("compound", "not G@os:*", "lonely"),
        ("compound", "db1 or G@os:Debian and web1", "web1 db1"),
        ("compound", "(db1 or G@os:Debian) and web*", "web1 web2"),
        ("compound", "( db1 or web1 )", "web1 db1"),
        ("compound", "not (web1 or (db1))", "web2 lonely"),
        ("compound", "E@web(1|2)", "web1 web2"),
        ("compound", "(E@web(1|2) and L@web2,db1)", "web2"),
        ("compound", "S@10.0.1.0/24 or N@listed", "web1 web2 db1"),
        ("compound", "P@os:^A", "db1"),
        ("compound", ["web1", "or", "db1"], "web1 db1"),
    ],
)
def test_who_is_meant(kind: str, target: str, found: str) -> None:
    """Each type finds its minions, in the order in which they are given."""
    assert expand(target, kind, MINIONS, GROUPS) == found.split()


@pytest.mark.parametrize(
    ("kind", "target"),
    [("pcre", "(a|aa)+$"), ("grain_pcre", "os:(a|aa)+$"), ("compound", "E@(a|aa)+$ or P@os:x")],
)
def test_an_expression_that_takes_too_long(kind: str, target: str) -> None:
    """What a minion says of itself, or is named, cannot stop the master."""
    endless = "a" * 60 + "!"
    with pytest.raises(TargetError, match="takes too long for this text"):
        expand(target, kind, {endless: {"os": endless}}, GROUPS)


@pytest.mark.parametrize(
    ("kind", "target", "text"),
    [
        ("glob", "", "empty"),
        ("glob", 3, "text or a list"),
        ("glob", ["a"], "is text"),
        ("list", ["a", 1], "text or a list"),
        ("globb", "*", "did you mean 'glob'"),
        ("zzz", "*", "known are"),
        ("pcre", "(", "no regular expression"),
        ("grain_pcre", "os:(", "no regular expression"),
        ("grain", "os", "has no ':'"),
        ("grain", ":x", "has no ':'"),
        ("grain", "a" + ":b" * 200, "more than 100"),
        ("ipcidr", "10.0.0.0/99", "no IP address"),
        ("nodegroup", "web", "did you mean 'webs'"),
        ("nodegroup", "round", "circle"),
        ("compound", "web1 web2", "'and' or 'or' is missing"),
        ("compound", "web1 and", "ends too early"),
        ("compound", "and web1", "before 'and'"),
        ("compound", "( web1", "a '\\)' is missing"),
        ("compound", "web1 )", "unexpected"),
        ("compound", "I@pillar:x", "use one of G@"),
        ("compound", "G@", "nothing after"),
        ("compound", "not " * 200 + "x", "nested deeper"),
        ("compound", "x" * 1_100_000, "longer than"),
    ],
)
def test_a_target_that_cannot_be_read(kind: str, target: str, text: str) -> None:
    """The error is one line that says what is wrong."""
    with pytest.raises(TargetError, match=text) as caught:
        expand(target, kind, MINIONS, GROUPS)
    assert "\n" not in str(caught.value)


def test_hostile_grains_do_no_harm() -> None:
    """Grains come from minions, and may be nested as deep as msgpack allows."""
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    nested: object = "x"
    for _ in range(900):
        nested = {"a": nested}
    minions = {"evil": {"os": deep, "a": nested}}
    assert expand("os:x", "grain", minions) == []
    assert expand("a:a:a:x", "grain", minions) == []


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A compound target never fails in another way."""
    with contextlib.suppress(TargetError):
        compile_target(text, "compound", GROUPS)("web1", MINIONS["web1"])
