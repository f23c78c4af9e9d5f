"""Who may what, by token and by login, both ways; and that no secret is written anywhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time

import pytest

from tests.web import answer, ask, new_token, serving, stream, url_of, websocket

PASSWORD = "planted-password-1"
HOOK = "planted-hook-secret-2"
FILED = "planted-filed-secret-3"
RULES = """
mine:
  on: perm/rule
  do:
    - event: perm/ruled
other:
  on: perm/other
  do:
    - event: perm/ruled-too
"""
CONFIG = f"""
log_level: debug
http_self_signed: false
http_hooks:
  gh: {{kind: github, secret: {HOOK}}}
  gl: {{kind: gitlab, secret_file: ./hook-secret}}
  sl: {{kind: slack, secret: {HOOK}}}
  st: {{kind: stripe, secret: {HOOK}}}
  ge/*: {{kind: generic, secret: {HOOK}}}
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system that logs all that it ever logs."""
    folder = tmp_path_factory.mktemp("permissions")
    (folder / "rules.yaml").write_text(RULES)
    (folder / "hook-secret").write_text(f"{FILED}\n")
    more = CONFIG.replace("./hook-secret", str(folder / "hook-secret"))
    with serving(folder, "--rules", str(folder / "rules.yaml"), more=more) as made:
        yield made


@pytest.fixture(scope="module")
def url(system):
    """Where it serves."""
    return url_of(system)


def user(system, *arguments, password=PASSWORD):
    command, *rest = arguments
    line = [sys.executable, "-m", "reactor", "user", command, "--config", str(system.config)]
    return subprocess.run(
        [*line, *rest],
        input=f"{password}\n",
        text=True,
        check=True,
        capture_output=True,
        env=system.environ,
    ).stdout


def login(url, name, password=PASSWORD):
    status, said = answer(url, "/login", {"username": name, "password": password})
    assert status == 200, said
    return said["return"][0]["token"]


def run(**chunk):
    return "/", {"kwarg": {}, **chunk}


GRANTS = [
    (("--read", "perm/*"), ("/events/recent", None), ("/stats", None)),
    (("--fire", "perm/*"), ("/fire", {"tag": "perm/a"}), ("/fire", {"tag": "other/a"})),
    (("--fire", "salt/netapi/hook/ci/*"), ("/hook/ci/x", {}), ("/hook/other", {})),
    (
        ("--run", "web*:test.*"),
        run(client="local", tgt="web1", fun="test.ping"),
        run(client="local", tgt="web1", fun="cmd.run", arg=["true"]),
    ),
    (
        ("--run", "web*:test.*"),
        ("/minions", {"tgt": "web1", "fun": "test.ping"}),
        ("/minions", {"tgt": "web1", "fun": "event.fire", "arg": [{}, "x"]}),
    ),
    (
        ("--runner", "manage.*"),
        run(client="runner", fun="manage.up"),
        run(client="runner", fun="event.send", arg=["x", {}]),
    ),
    (
        ("--wheel", "key.list*"),
        run(client="wheel", fun="key.list_all"),
        run(client="wheel", fun="key.delete", arg=["web1"]),
    ),
    (
        ("--wheel", "key.reject"),
        ("/keys/nobody", {"action": "reject"}),
        ("/keys/nobody", {"action": "delete"}),
    ),
    (("--rules", "*"), ("/rules/reload", {}), ("/rules", None)),
    (("--rules", "mine"), ("/dead/drop", {"rule": "mine"}), ("/dead/drop", {"rule": "other"})),
    (
        ("--rules", "mine*"),
        ("/rules/enable", {"rules": ["mine"]}),
        ("/rules/enable", {"rules": ["mine", "other"]}),
    ),
    (
        ("--rules", "mine*"),
        ("/rules/disable", {"rules": ["mine-or-not*"]}),
        ("/rules/disable", {"rules": ["*"]}),
    ),
]


class TestBothWays:
    """Each permission opens what it is for; without it the same is closed."""

    @pytest.mark.parametrize(("grant", "may", "may_not"), GRANTS)
    @pytest.mark.parametrize("by", ["token", "login"])
    def test_a_permission(self, system, url, by, grant, may, may_not):
        """Of a token that was made, and of a user who logged in."""
        if by == "token":
            secret, bare = new_token(system, "one", *grant), new_token(system, "b", "--read", "-")
        else:
            user(system, "set", "one", *grant)
            user(system, "set", "bare", "--read", "-")
            secret, bare = login(url, "one"), login(url, "bare")
        # What is not there is not found, by who may look for it.
        assert answer(url, *may, secret)[0] in (200, 202, 404)
        assert answer(url, *may, bare)[0] in ((403,) if may[1] is not None else (200,))
        if may_not[0] != "/stats":
            status, said = answer(url, *may_not, secret)
            assert (status, "may not" in said["return"]) == (403, True)

    def test_reading_is_by_tag(self, system, url):
        """In streams, lists, single events and WebSockets alike."""
        mine, other = system.fire("perm/mine", {}), system.fire("other/mine", {})
        secret = new_token(system, "reads", "--read", "perm/*")
        assert answer(url, f"/events/{mine}", token=secret)[0] == 200
        assert answer(url, f"/events/{other}", token=secret)[0] == 403
        last = system.fire("perm/last", {})
        with stream(url, f"/events?token={secret}&since={mine - 1}&tag=*&limit=2") as opened:
            assert [opened.event()["id"] for _ in range(2)] == [str(mine), str(last)]
        with websocket(url, f"/ws/{secret}?since={mine - 1}&seq=true") as client:
            assert client.receive() == "accepted"
            client.send("websocket client ready")
            assert [client.event()["seq"], client.event()["seq"]] == [mine, last]

    def test_a_refused_job_does_not_run_beside_allowed_ones(self, system, url):
        """The request is looked at as a whole before any of it runs."""
        secret = new_token(system, "half", "--run", "web*:test.*")
        before = system.fire("perm/mark", {})
        chunks = [{"tgt": "web1", "fun": "test.ping"}, {"tgt": "web1", "fun": "cmd.run"}]
        assert answer(url, "/minions", chunks, secret)[0] == 403
        after = system.fire("perm/mark", {})
        between = [event.tag for event in system.events() if before < event.seq < after]
        assert not [tag for tag in between if tag.startswith("salt/job/")]

    def test_who_may_not_does_not_learn_which_keys_there_are(self, system, url):
        """The answer is the same for one that is there."""
        secret = new_token(system, "nokeys", "--read", "perm/*")
        said = [answer(url, f"/keys/{mid}", {"action": "accept"}, secret) for mid in ("web1", "x")]
        assert said[0] == said[1]
        assert said[0][0] == 403

    def test_a_glob_names_no_key(self, system, url):
        """One request changes one key, whatever its name looks like."""
        secret = new_token(system, "keys", "--all")
        for mid in ("*", "web?", "web1,web2", "[a-z]*"):
            assert answer(url, f"/keys/{mid}".replace("?", "%3F"), {"action": "delete"}, secret)[
                0
            ] in (404, 422)
        assert answer(url, "/keys/web1", token=secret)[0] == 200


class TestTokens:
    """Named, expiring, listed, revoked."""

    def test_its_life(self, system, url):
        """From its making to its end."""
        made = json.loads(system.run("token", "create", "life", "--all", "--json").stdout)
        listed = json.loads(system.run("token", "list", "--json").stdout)
        (found,) = [each for each in listed if each["id"] == made["id"]]
        assert (found["name"], found["user"]) == ("life", None)
        assert found["expires"] > found["created"]
        assert answer(url, "/stats", token=made["token"])[0] == 200
        ended = json.loads(system.run("token", "revoke", made["id"], "--json").stdout)
        assert ended == {"revoked": [made["id"]]}
        assert answer(url, "/stats", token=made["token"])[0] == 401

    def test_for_ever(self, system):
        """Only if somebody says so."""
        made = json.loads(system.run("token", "create", "ever", "--expires", "0", "--json").stdout)
        assert made["expires"] is None
        for wrong in ("soon", "-1h"):
            said = system.run("token", "create", "x", f"--expires={wrong}", code=2).stderr
            assert "--expires" in said

    @pytest.mark.parametrize("grant", [("--run", "test.ping"), ("--read", "*", "--all")])
    def test_a_grant_that_is_none(self, system, grant):
        """Said in one line, and nothing is made."""
        ended = system.run("token", "create", "wrong", *grant, code=None)
        assert ended.returncode in (1, 2)
        assert len(ended.stderr.strip().splitlines()) == 1
        listed = json.loads(system.run("token", "list", "--json").stdout)
        assert "wrong" not in {each["name"] for each in listed}


class TestBruteForce:
    """Who guesses has to wait, and does not keep others out."""

    def test_passwords(self, tmp_path):
        """After some free ones; the answer says for how long; a token works meanwhile."""
        with serving(tmp_path, more="http_self_signed: false\n") as system:
            url, token = url_of(system), new_token(system, "t", "--all")
            user(system, "set", "victim", "--all")
            guess = {"username": "victim", "password": "a wrong password"}
            statuses = [ask(url, "/login", guess)[0] for _ in range(8)]
            assert statuses[:5] == [401] * 5
            assert 429 in statuses
            status, headers, body = ask(url, "/login", guess)
            assert status == 429
            assert int(headers["Retry-After"]) > 0
            assert "try again in" in json.loads(body)["return"]
            # Nor does the right password pass before the time is over.
            right = {"username": "victim", "password": PASSWORD}
            assert answer(url, "/login", right)[0] == 429
            assert answer(url, "/stats", token=token)[0] == 200

    def test_unknown_users_are_told_the_same(self, url, system):
        """Nobody learns who there is."""
        user(system, "set", "known", "--all")
        said = [
            answer(url, "/login", {"username": name, "password": "not the one"})
            for name in ("known", "unknown")
        ]
        assert said[0] == said[1]
        assert said[0][0] == 401


def _digest(text, secret=HOOK):
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _github(body, _time, secret):
    return {"X-Hub-Signature-256": f"sha256={_digest(body, secret)}"}


def _gitlab(_body, _time, secret):
    return {"X-Gitlab-Token": FILED if secret == HOOK else secret}


def _slack(body, time, secret):
    signed = _digest(f"v0:{time}:{body}", secret)
    return {"X-Slack-Request-Timestamp": time, "X-Slack-Signature": f"v0={signed}"}


def _stripe(body, time, secret):
    return {"Stripe-Signature": f"t={time},v0=00,v1={_digest(f'{time}.{body}', secret)}"}


def _generic(body, time, secret):
    return {"X-Timestamp": time, "X-Signature": f"sha256={_digest(f'{time}.{body}', secret)}"}


class TestWebhookProofs:
    """Each form of a signature, on the way that it really takes."""

    FORMS = {"gh": _github, "gl": _gitlab, "sl": _slack, "st": _stripe, "ge/x": _generic}

    @pytest.mark.parametrize("path", FORMS)
    def test_right_and_wrong_and_again(self, system, url, path):
        """The event is in the journal before the answer; a proof is good once."""
        form, now = self.FORMS[path], str(int(time.time()))
        body = json.dumps({"path": path, "n": time.time_ns()})

        def send(headers, text=body):
            return answer(url, f"/hook/{path}", text.encode(), headers=headers)

        for wrong in (form(body, now, "another secret"), {}):
            status, said = send(wrong)
            assert (status, "missing or wrong" in said["return"]) == (401, True)
        status, said = send(form(body, now, HOOK))
        assert (status, said["success"]) == (200, True)
        (event,) = [each for each in system.events() if each.seq == said["seq"]]
        assert event.tag == f"salt/netapi/hook/{path}"
        assert event.data["body"] == body
        status, said = send(form(body, now, HOOK))
        assert (status, said["return"]) == (409, "this webhook came before")
        if path != "gl":  # GitLab's does not sign the body
            assert send(form(body, now, HOOK), f"{body} ")[0] == 401
        token = new_token(system, "hook", "--all")
        assert answer(url, f"/hook/{path}", {}, token)[0] == 401

    @pytest.mark.parametrize("path", ["sl", "st", "ge/x"])
    @pytest.mark.parametrize("apart", [-3600, 3600])
    def test_old_and_of_the_future(self, url, path, apart):
        """A right signature of another hour is none; nor is one whose time was changed."""
        form, body = self.FORMS[path], "{}"
        then = str(int(time.time()) + apart)
        status, said = answer(url, f"/hook/{path}", b"{}", headers=form(body, then, HOOK))
        assert (status, "signed too long ago" in said["return"]) == (409, True)
        now = str(int(time.time()))
        moved = {k: v.replace(then, now) for k, v in form(body, then, HOOK).items()}
        assert answer(url, f"/hook/{path}", b"{}", headers=moved)[0] == 401


def test_no_planted_secret_is_written_anywhere(system, url):
    """Not in a log, though it logs everything, nor in events, traces, status or files."""
    token = new_token(system, "planted", "--all")
    user(system, "set", "planted", "--all")
    logged_in = login(url, "planted")
    basic = base64.b64encode(f"planted:{PASSWORD}".encode()).decode()
    now = str(int(time.time()))

    def signed(text):
        return hmac.new(HOOK.encode(), text.encode(), hashlib.sha256).hexdigest()

    github = signed("{}")
    # All the ways in which secrets come in, right and wrong ones.
    assert ask(url, f"/events/recent?token={token}")[0] == 200
    assert ask(url, f"/nowhere?token={token}&x=1")[0] == 404
    assert ask(url, f"/events?since=nonsense&token={token}")[0] == 400
    ask(url, "/stats", headers={"Authorization": f"Bearer {token}"})
    ask(url, "/stats", headers={"Authorization": f"Basic {basic}"})
    ask(url, "/stats", headers={"Cookie": f"session_id={token}"})
    ask(url, "/login", {"username": "planted", "password": f"{PASSWORD}x"})
    ask(url, "/login", f"username=planted&password={PASSWORD}".encode())  # no JSON
    ask(url, "/login", {"username": PASSWORD, "password": PASSWORD})
    chunk = {"client": "runner", "fun": "manage.up", "username": "planted", "password": PASSWORD}
    assert answer(url, "/run", [chunk])[0] == 200
    assert answer(url, "/run", {**chunk, "token": token})[0] == 200
    ask(url, "/run", {**chunk, "client": "local", "tgt": "*", "fun": "test.ping", "eauth": "pam"})
    ask(url, "/fire", {"tag": 1, "data": PASSWORD}, token)
    ask(url, "/hook/gh", b"{}", headers={"X-Hub-Signature-256": f"sha256={github}"})
    ask(url, "/hook/gl", b"{}", headers={"X-Gitlab-Token": FILED})
    ask(url, "/hook/gl", b"{}", headers={"X-Gitlab-Token": f"{FILED}x"})
    slack = {
        "X-Slack-Request-Timestamp": now,
        "X-Slack-Signature": f"v0={signed(f'v0:{now}:{{}}')}",
    }
    assert ask(url, "/hook/sl", b"{}", headers=slack)[0] == 200
    stripe = {"Stripe-Signature": f"t={now},v1={signed(f'{now}.{{}}')}"}
    assert ask(url, "/hook/st", b"{}", headers=stripe)[0] == 200
    more = {"Authorization": f"Bearer {token}", "Cookie": f"session_id={logged_in}"}
    assert ask(url, "/hook/x", b"{}", token, more)[0] == 200
    assert ask(url, f"/hook/y?token={token}", b"{}")[0] == 200
    with websocket(url, f"/ws/{token}") as client:
        assert client.receive() == "accepted"
    with websocket(url, f"/ws/{token}x") as client:
        assert client.receive() == 403
    seq = system.fire("perm/rule", {})
    system.expect("reactor/reaction/mine/done", after=seq)
    secrets = (PASSWORD, HOOK, FILED, token, logged_in, basic, github)
    told = {
        "log": system.log.read_text(),
        "events": "\n".join(f"{each.tag} {each.data}" for each in system.events()),
        "exported": system.run("journal", "export").stdout,
        "status": system.run("status", "--json").stdout,
        "tokens": system.run("token", "list", "--json").stdout + system.run("token", "list").stdout,
        "users": user(system, "list", "--json"),
        "traces": system.run("trace", "--json", code=None).stdout,
    }
    for path in ("/stats", "/metrics", "/rules", "/traces?limit=1000", "/login", "/openapi.json"):
        told[path] = ask(url, path, token=token)[2].decode()
    for path in system.config.rglob("*"):
        if path.is_file() and path.name != "more.conf":  # where they were planted
            told[str(path)] = path.read_bytes().decode(errors="replace")
    assert {"log", "events"} <= told.keys()
    assert "perm/ruled" in told["events"]
    found = [(place, which) for place, text in told.items() for which in secrets if which in text]
    assert found == []
