"""HTTP beside a running master: the seed document's line with the real curl, routes, permissions."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing

import pytest

import bus
from bus.config import master_config
from tests.support import wait_for
from tests.system import running
from tests.web import INSECURE, answer, ask, new_token, serving, stream, url_of

SECRET = "planted-secret-value"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system with HTTP."""
    with serving(tmp_path_factory.mktemp("http")) as running_system:
        yield running_system


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_seeds_line(system, url, token):
    """`curl -SsNk https://host:8000/events?token=...` prints events in Salt's form."""
    line = ["curl", "-SsNk", f"{url}/events?token={token}"]
    curl = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        assert curl.stdout.readline() == "retry: 400\n"
        seq = system.fire("http/seed", {"x": 1})
        lines = []
        while "http/seed" not in "".join(lines) or lines[-1] != "\n":
            lines.append(curl.stdout.readline())
        block = "".join(lines).rstrip("\n").split("\n\n")[-1].splitlines()
        assert block[0] == "tag: http/seed"
        said = json.loads(block[1].removeprefix("data: "))
        assert (said["tag"], said["data"]["x"]) == ("http/seed", 1)
        assert block[2] == f"id: {seq}"
    finally:
        curl.terminate()
        curl.wait(10)
        curl.stdout.close()


def test_a_client_that_comes_back_misses_nothing(system, url, token):
    """`Last-Event-ID` goes on behind the number, from the journal."""
    first = system.fire("http/back", {"n": 0})
    last = [system.fire("http/back", {"n": n}) for n in range(1, 4)][-1]
    address = f"/events?token={token}&tag=http/back"
    with stream(url, address, {"Last-Event-ID": str(first)}) as opened:
        found = [opened.until("http/back") for _ in range(3)]
    assert [json.loads(each["data"])["data"]["n"] for each in found] == [1, 2, 3]
    assert found[-1]["id"] == str(last)


def test_globs_and_a_limit(system, url, token):
    """Only what was asked for, and no more than that."""
    first = system.fire("http/globs/a", {})
    for tag in ("http/globs/b", "http/other", "http/more/c", "http/globs/d"):
        system.fire(tag, {})
    address = f"/events?token={token}&tag=http/globs/*&tag=http/more/*&limit=3&since={first}"
    with stream(url, address) as opened:
        tags = [opened.event()["tag"] for _ in range(3)]
        assert opened.response.read() == b""
    assert tags == ["http/globs/b", "http/more/c", "http/globs/d"]


def test_since_an_age_and_what_is_none(url, token):
    """Text that is no place is an error in one line, not a stream."""
    with stream(url, f"/events?token={token}&since=1h&limit=1") as opened:
        assert opened.event()["id"] == "1"
    status, said = answer(url, f"/events?token={token}&since=yesterday")
    assert status == 400
    assert "yesterday" in said["return"]


def test_a_stream_ends_with_itsnew_token(system, url):
    """At once, and the same token opens no other."""
    secret = new_token(system, "short", "--read", "http/*")
    with stream(url, f"/events?token={secret}") as opened:
        system.run("token", "revoke", "short")
        assert opened.response.read() == b""
    status, said = answer(url, f"/events?token={secret}")
    assert (status, said["status"]) == (401, 401)


def test_fire_and_hook(system, url, token):
    """Answered with the number that the event has in the journal."""
    status, said = answer(url, "/fire", {"tag": "http/fired", "data": {"a": [1]}}, token)
    assert (status, said["success"]) == (200, True)
    event = system.expect("http/fired", after=said["seq"] - 1)
    assert (event.seq, event.data["a"]) == (said["seq"], [1])
    status, said = answer(url, "/hook/ci/build", {"ok": True}, token, {"X-Kind": "push"})
    assert (status, said["success"]) == (200, True)
    event = system.expect("salt/netapi/hook/ci/build", after=said["seq"] - 1)
    assert event.data["post"] == {"ok": True}
    assert json.loads(event.data["body"]) == {"ok": True}
    assert event.data["headers"]["x-kind"] == "push"
    assert token not in str(event.data)


def test_a_form_as_a_webhook(system, url, token):
    """Its fields are what was posted."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, said = answer(url, "/hook/form", b"a=1&b=x%20y&a=2", token, kind)
    assert status == 200
    event = system.expect("salt/netapi/hook/form", after=said["seq"] - 1)
    assert event.data["post"] == {"a": ["1", "2"], "b": "x y"}


@pytest.mark.parametrize(
    ("path", "data", "status", "words"),
    [
        ("/fire", {"tag": "a\nb", "data": {}}, 400, "tag"),
        ("/fire", {"data": {}}, 422, "tag"),
        ("/fire", b"{", 422, "JSON"),
        ("/fire", {"tag": "x", "data": {"n": 1 << 70}}, 400, ""),
        ("/hook/x", b"{", 400, "no JSON"),
        ("/nowhere", {}, 404, ""),
    ],
)
def test_what_cannot_be_fired(url, token, path, data, status, words):
    """One line that says what was wrong."""
    found, said = answer(url, path, data, token)
    assert found == status
    assert words in said["return"]
    assert "\n" not in said["return"]


def test_a_request_that_is_too_large(url, token):
    """It is refused by the length that it announces, before it is sent."""
    where = urllib.parse.urlsplit(url).netloc
    with closing(http.client.HTTPSConnection(where, timeout=20, context=INSECURE)) as connection:
        connection.putrequest("POST", "/fire")
        for name, value in (
            ("Content-Type", "application/json"),
            ("Content-Length", "1100000"),
            ("X-Auth-Token", token),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        answered = connection.getresponse()
        assert answered.status == 413
        assert "http_max_body" in json.loads(answered.read())["return"]


def test_a_request_that_does_not_say_how_large_it_is(url, token):
    """It is refused once it is too large, and so is one that lied; then the server goes on."""
    where = urllib.parse.urlsplit(url).netloc
    for path in ("/fire", "/hook/large"):
        with closing(
            http.client.HTTPSConnection(where, timeout=20, context=INSECURE)
        ) as connection:
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("X-Auth-Token", token)
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            with contextlib.suppress(OSError):  # it may hang up before it has read all
                for _ in range(40):
                    connection.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                connection.send(b"0\r\n\r\n")
            answered = connection.getresponse()
            assert answered.status == 413
            assert "http_max_body" in json.loads(answered.read())["return"]
    assert answer(url, "/fire", {"tag": "http/after-large"}, token)[0] == 200


def test_without_a_token(url):
    """Nothing is told but that a token is needed, and that the process lives."""
    for path, data in (("/events", None), ("/events/1", None), ("/fire", {"tag": "a"})):
        status, said = answer(url, path, data)
        assert status == 401
        assert "reactor token create" in said["return"]
    assert answer(url, "/livez") == (200, {"ok": True})
    assert answer(url, "/readyz") == (200, {"ok": True})


def test_permissions_both_ways(system, url):
    """What a token may, it may; what it may not, it is told."""
    secret = new_token(system, "narrow", "--read", "http/may/*", "--fire", "http/may/*")
    status, said = answer(url, "/fire", {"tag": "http/may/a"}, secret)
    assert status == 200
    mine = said["seq"]
    assert answer(url, "/fire", {"tag": "other"}, secret)[0] == 403
    assert answer(url, "/hook/x", {}, secret)[0] == 403
    other = system.fire("http/secret", {})
    assert answer(url, f"/events/{other}", token=secret)[0] == 403
    status, said = answer(url, f"/events/{mine}", token=secret)
    assert (status, said["return"][0]["tag"]) == (200, "http/may/a")
    _, said = answer(url, "/events/recent", token=secret)
    assert {event["tag"] for event in said["return"]} == {"http/may/a"}
    with stream(url, f"/events?token={secret}&since={mine - 1}&limit=1") as opened:
        assert opened.event()["tag"] == "http/may/a"
    blind = new_token(system, "blind", "--fire", "*")
    assert answer(url, "/events", token=blind)[0] == 403


def test_one_event(url, token):
    """By its number; what is no number, or none that there is, is said."""
    status, said = answer(url, "/events/1", token=token)
    assert (status, said["return"][0]["seq"]) == (200, 1)
    assert answer(url, "/events/999999999", token=token)[0] == 404
    assert answer(url, "/events/0", token=token)[0] == 422


def test_login_and_logout(system, url):
    """A password gives a token in Salt's form; it ends with the logout."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "reactor",
            "user",
            "set",
            "ops",
            "--config",
            str(system.config),
            "--all",
        ],
        input=f"{SECRET}\n",
        text=True,
        capture_output=True,
        env=system.environ,
        check=True,
    )
    assert "ops" in ended.stdout
    wrong = {"username": "ops", "password": "not this one", "eauth": "pam"}
    assert answer(url, "/login", wrong)[0] == 401
    right = {"username": "ops", "password": SECRET, "eauth": "auto"}
    status, headers, body = ask(url, "/login", right)
    (said,) = json.loads(body)["return"]
    assert status == 200
    assert set(said) == {"token", "start", "expire", "user", "eauth", "perms"}
    assert headers["X-Auth-Token"] == said["token"]
    cookie = headers["Set-Cookie"]
    assert cookie.startswith(f"session_id={said['token']}")
    assert {"HttpOnly", "Secure", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    by_cookie = {"Cookie": f"session_id={said['token']}"}
    assert answer(url, "/events/1", headers=by_cookie)[0] == 200
    bearer = {"Authorization": f"Bearer {said['token']}"}
    assert answer(url, "/events/1", headers=bearer)[0] == 200
    elsewhere = {**by_cookie, "Origin": "https://other.example"}
    assert answer(url, "/fire", {"tag": "http/x"}, headers=elsewhere)[0] == 403
    assert answer(url, "/logout", b"", said["token"])[0] == 200
    assert answer(url, "/events/1", headers=bearer)[0] == 401


def test_a_login_by_a_token_and_what_is_none(system, url):
    """A page changes a token into a cookie; what names nobody is refused in one line."""
    secret = new_token(system, "page", "--read", "http/*", "--expires", "0")
    status, headers, body = ask(url, "/login", {"token": secret})
    (said,) = json.loads(body)["return"]
    assert (status, said["token"], said["expire"], said["user"]) == (200, secret, None, "page")
    assert "Max-Age" not in headers["Set-Cookie"]
    status, headers, body = ask(url, "/login", [{"username": "x", "password": "y"}])
    assert status == 401
    for wrong in ([], "text", {"username": "x"}, {"username": 1, "password": 2}, {"token": ""}):
        status, said = answer(url, "/login", wrong)
        assert (status, said["return"]) == (400, "name 'username' and 'password', or 'token'")
    elsewhere = {"Origin": "https://other.example"}
    assert answer(url, "/login", {"token": secret}, headers=elsewhere)[0] == 403
    # A token that was made is for whoever made it to end; only its cookie is taken away.
    assert ask(url, "/logout", b"", secret)[0] == 200
    assert answer(url, "/login", token=secret)[0] == 200


def test_tokens_are_listed_and_never_shown_again(system):
    """Nor is one kept anywhere, but as a digest in a file of the owner's."""
    secret = new_token(system, "listed", "--expires", "1h")
    shown = system.run("token", "list", "--json").stdout
    assert any(each["name"] == "listed" for each in json.loads(shown))
    assert secret not in shown
    kept = next(system.config.rglob("access.db"))
    assert kept.stat().st_mode & 0o077 == 0
    for path in system.config.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert "no token has the id" in system.run("token", "revoke", "nobody", code=1).stderr


def test_no_secret_stands_in_a_log(system, url, token):
    """Neither a token in an address nor a password."""
    ask(url, f"/events/1?token={token}")
    ask(url, f"/nowhere?token={token}")
    ask(url, "/login", {"username": "ops", "password": SECRET})
    for path in (system.log, *system.config.rglob("*.log")):
        text = path.read_text()
        assert token not in text
        assert SECRET not in text


def test_the_description_of_the_api(url):
    """It is there for programs, and names the routes."""
    status, said = answer(url, "/openapi.json")
    assert status == 200
    assert {"/events", "/fire", "/hook/{path}", "/login"} <= set(said["paths"])


def test_headers_of_security(url):
    """On every answer."""
    _, headers, _ = ask(url, "/livez")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_streams_end_when_the_master_stops(tmp_path):
    """Promptly: whoever reads sees the end, and `up` ends as it does without HTTP."""
    with serving(tmp_path) as system:
        url, token = url_of(system), new_token(system)
        request = urllib.request.Request(f"{url}/events?token={token}")
        with urllib.request.urlopen(request, timeout=20, context=INSECURE) as response:
            assert response.readline() == b"retry: 400\n"
            system.stop()
            response.read()


def test_a_port_that_is_taken_is_said_and_the_rest_serves(tmp_path, url):
    """One line that names the option; status shows HTTP as not serving, and is content."""
    port = urllib.parse.urlsplit(url).port
    with running(tmp_path, "--http-port", str(port)) as system:
        wait_for(lambda: "http_port" in system.log.read_text(), "the line")
        line = next(x for x in system.log.read_text().splitlines() if "http_port" in x)
        assert f"cannot serve on 127.0.0.1:{port}" in line


def test_a_bus_that_is_killed_under_a_stream(tmp_path):
    """The stream goes on behind it, and misses nothing."""
    with serving(tmp_path) as system:
        url, token = url_of(system), new_token(system)
        with stream(url, f"/events?token={token}&tag=http/killed&since=0") as opened:
            system.fire("http/killed", {"n": 1})
            assert json.loads(opened.until("http/killed")["data"])["data"]["n"] == 1
            os.kill(_bus_pid(system), signal.SIGKILL)

            def fired():
                try:
                    with bus.connect("master", master_config(system.config)) as events:
                        return events.fire("http/killed", {"n": 2})
                except bus.errors.BusError:
                    return 0

            wait_for(fired, "a fire")
            found = json.loads(opened.until("http/killed")["data"])["data"]["n"]
            assert found == 2


def _bus_pid(system):
    text = (system.config / "log" / "up.log").read_text()
    return int(text.rpartition("started bus as process ")[2].split()[0])


def test_a_log_in_json(tmp_path):
    """Every line of every part is an object, also of what went wrong; a token is in none."""
    with serving(tmp_path, more="log_format: json\nlog_level: debug\n") as system:
        url, token = url_of(system), new_token(system)
        assert ask(url, f"/events/1?token={token}")[0] == 200
        assert ask(url, f"/nowhere%1b%0a?token={token}")[0] == 404
        assert ask(url, "/login", {"username": "ops", "password": SECRET})[0] == 401
        with stream(url, f"/events?token={token}&limit=1&since=0") as opened:
            opened.response.read()
        path = system.config / "log" / "up.log"
        wait_for(lambda: "/nowhere" in path.read_text(), "the line")
        lines = path.read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert all({"time", "level", "process", "logger", "message"} <= each.keys() for each in found)
    assert {"reactor.supervisor", "reactor.http.requests"} <= {each["logger"] for each in found}
    (asked,) = [each["message"] for each in found if "/nowhere" in each["message"]]
    assert "/nowhere\x1b\n 404" in asked
    assert token not in "".join(lines)
    assert SECRET not in "".join(lines)
