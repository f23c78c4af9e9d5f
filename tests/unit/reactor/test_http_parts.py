"""The pure parts of HTTP: JSON, bodies, filters, permissions, signatures, slowing down."""

import hashlib
import hmac
import json
import math
from datetime import UTC, datetime

import pytest

from bus.config import master_config
from bus.errors import ConfigError
from reactor.http import address, bodies, jsonout
from reactor.http.errors import HttpError, ReplayError, UnauthorizedError
from reactor.http.filters import MOST_GLOBS, Filter
from reactor.http.hooks import Replays, Signed, hook_for, hooks_of
from reactor.http.permissions import permissions
from reactor.http.slowdown import MOST, Rate, Slowdown


class TestJson:
    """Whatever an event or a function gives, a reader of JSON takes it."""

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ({"a": [1, None, True, "é"]}, {"a": [1, None, True, "é"]}),
            ((1, 2), [1, 2]),
            ({"x": {3}}, {"x": [3]}),
            (b"a\xff", "a\\xff"),
            (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
            (math.inf, "inf"),
            ({"n": [math.nan, 1.5]}, {"n": ["nan", 1.5]}),
            ({b"k": 1, (1, 2): 2}, {"k": 1, "[1, 2]": 2}),
        ],
    )
    def test_values(self, value, said):
        """What JSON has no form for becomes text or a list."""
        assert json.loads(jsonout.dumps(value)) == said

    def test_too_deep(self):
        """It ends, and says so."""
        deep = []
        for _ in range(100_000):
            deep = [deep]
        assert "nested too deeply" in jsonout.dumps(deep)


class TestBodies:
    """JSON, YAML and forms."""

    @pytest.mark.parametrize(
        ("body", "kind", "said"),
        [
            (b"", "application/json", None),
            (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
            (b"a: [1, x]", "application/x-yaml", {"a": [1, "x"]}),
            (
                b"a=1&b=&a=2&a=3",
                "application/x-www-form-urlencoded",
                {"a": ["1", "2", "3"], "b": ""},
            ),
        ],
    )
    def test_what_is_right(self, body, kind, said):
        """By its type."""
        assert bodies.read(body, kind) == said

    @pytest.mark.parametrize(
        ("body", "kind", "words"),
        [
            (b"{", "application/json", "no JSON"),
            (b"[" * 100_000, "application/json", "no JSON"),
            (b"a: [", "text/yaml", "no YAML"),
            (b"!!python/object/apply:os.system [true]", "text/yaml", "no YAML"),
            (b"\xff=1", "application/x-www-form-urlencoded", "no form"),
            (b"&".join([b"a=1"] * 2_000), "application/x-www-form-urlencoded", "no form"),
        ],
    )
    def test_what_is_wrong(self, body, kind, words):
        """One line that says as what it was read."""
        with pytest.raises(HttpError, match=words):
            bodies.read(body, kind)


class TestFilters:
    """What was asked for, of what may be read."""

    @pytest.mark.parametrize(
        ("wanted", "allowed", "tag", "passes"),
        [
            ((), ("*",), "a", True),
            (("b/*",), ("*",), "a", False),
            (("*",), ("b/*",), "a", False),
            (("a", "b"), ("b",), "b", True),
            ((), (), "a", False),
        ],
    )
    def test_tags(self, wanted, allowed, tag, passes):
        """Both have to match."""
        assert Filter(wanted, allowed)(tag) is passes

    @pytest.mark.parametrize("wanted", [("a",) * (MOST_GLOBS + 1), ("a" * 1_001,)])
    def test_too_much(self, wanted):
        """A filter costs for each event."""
        with pytest.raises(HttpError, match="glob"):
            Filter(wanted)


@pytest.mark.parametrize(
    "granted", [{"reed": ["*"]}, {"read": "*"}, {"read": [1]}, {"run": ["test.*"]}]
)
def test_permissions_that_are_none(granted):
    """Said, not taken for something else."""
    with pytest.raises(HttpError):
        permissions(granted)


def _hooks(tmp_path, **entries):
    return hooks_of(master_config(tmp_path).with_(http_hooks=entries))


class TestHooks:
    """Whose signature a path takes."""

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            ("github", "write a mapping"),
            ({"kind": "github", "sekret": "x"}, "write a mapping"),
            ({"kind": "gitbug", "secret": "x"}, "kind is one of"),
            ({"kind": "github"}, "it needs secret_file"),
            ({"kind": "github", "secret_file": "/no/such/file"}, "cannot read its secret_file"),
        ],
    )
    def test_what_is_no_hook(self, tmp_path, entry, words):
        """Refused at the start, with the path of the entry."""
        with pytest.raises(ConfigError, match=words) as error:
            _hooks(tmp_path, ci=entry)
        assert "http_hooks: ci" in str(error.value)

    def test_the_first_glob_counts(self, tmp_path):
        """And a secret is no part of what is printed."""
        hooks = _hooks(
            tmp_path, **{"a/*": {"kind": "github", "secret": "planted"}, "*": {"kind": "open"}}
        )
        assert hook_for(hooks, "a/b").kind == "github"
        assert hook_for(hooks, "b").kind == "open"
        assert hook_for(hooks[:1], "b") is None
        assert "planted" not in repr(hooks)

    @pytest.mark.parametrize(
        ("kind", "form", "headers"),
        [
            (
                "slack",
                "v0:{t}:{b}",
                {"x-slack-request-timestamp": "{t}", "x-slack-signature": "v0={s}"},
            ),
            ("stripe", "{t}.{b}", {"stripe-signature": "t={t},v1=0123,v1={s}"}),
            ("generic", "{t}.{b}", {"x-timestamp": "{t}", "x-signature": "sha256={s}"}),
        ],
    )
    def test_signatures_with_a_time(self, tmp_path, kind, form, headers):
        """Of time and body; with another of either it is none."""
        (hook,) = _hooks(tmp_path, x={"kind": kind, "secret": "s"})
        signed = hmac.new(b"s", form.format(t="1700000000", b="body").encode(), hashlib.sha256)

        def sent(time):
            return {k: v.format(t=time, s=signed.hexdigest()) for k, v in headers.items()}

        proof = hook.verify(sent("1700000000"), b"body")
        assert proof.at == 1_700_000_000
        for wrong, body in (
            (sent("1700000001"), b"body"),
            (sent("1700000000"), b"x"),
            ({}, b"body"),
        ):
            with pytest.raises(UnauthorizedError):
                hook.verify(wrong, body)

    def test_once_and_in_time(self, tmp_path):
        """Forgotten once it would be too old anyway; or because nothing came of it."""
        (hook,) = _hooks(tmp_path, x={"kind": "gitlab", "secret": "s"})
        now = [1_000.0]
        replays = Replays(60, lambda: now[0])
        proof = hook.verify({"x-gitlab-token": "s"}, b"body")
        replays.check("x", proof)
        replays.check("y", proof)
        with pytest.raises(ReplayError, match="came before"):
            replays.check("x", proof)
        replays.forget("x", proof)
        replays.check("x", proof)
        now[0] += 61
        replays.check("x", proof)

    def test_once_also_from_a_clock_that_is_ahead(self):
        """It is good for longer, so it is remembered for longer."""
        now = [1_000.0]
        replays = Replays(60, lambda: now[0])
        ahead = Signed("mark", at=1_050.0)
        replays.check("x", ahead)
        replays.check("x", Signed("other", at=1_000.0))
        for _ in range(10):  # at most 1,100, until when it is good
            now[0] += 10
            with pytest.raises(ReplayError, match="came before"):
                replays.check("x", ahead)
        now[0] = 1_111.0
        with pytest.raises(ReplayError, match="too long ago"):
            replays.check("x", ahead)


class TestSlowdown:
    """Waits that double, and are forgotten."""

    def test_it_is_forgotten(self):
        """After a quarter of an hour, or by a success."""
        now = [0.0]
        slow = Slowdown(lambda: now[0], free=1)
        slow.failed("a", "b")
        assert slow.wait("a", "c") == 1.0
        assert slow.wait() == 0.0
        slow.succeeded("a")
        assert slow.wait("a") == 0.0
        now[0] += 1_000
        slow.failed("b")
        assert slow.wait("b") == 1.0

    def test_few_are_remembered(self):
        """However many addresses try."""
        slow = Slowdown(lambda: 0.0, free=1)
        for number in range(MOST + 1):
            slow.failed(str(number))
        assert slow.wait("0") == 0.0
        assert slow.wait(str(MOST)) == 1.0

    def test_a_rate(self):
        """As many at once as a second has; then one at a time."""
        now = [0.0]
        rate = Rate(2, lambda: now[0])
        assert [rate.take("a"), rate.take("a"), rate.take("a")] == [0.0, 0.0, 0.5]
        assert rate.take("b") == 0.0
        now[0] += 0.5
        assert rate.take("a") == 0.0
        assert Rate(0, lambda: 0.0).take("a") == 0.0


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"http_port": 0}, ""),
        ({"http_interface": "0.0.0.0"}, "https://localhost:8000"),
        ({"http_interface": "::1", "http_self_signed": False}, "http://[::1]:8000"),
    ],
)
def test_where_it_serves(tmp_path, changes, url):
    """As people type it."""
    assert address.url_of(master_config(tmp_path).with_(**changes)) == url
