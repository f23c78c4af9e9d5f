"""Functions, jobs, minions, keys, rules and what explains them, over HTTP; each permission."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import subprocess
import time
import urllib.parse
from contextlib import closing

import pytest

from bus.config import master_config
from bus.keys import Keypair, KeyStore
from tests.support import wait_for
from tests.web import INSECURE, answer, ask, new_token, serving

RULES = """
greet:
  on: api/greet
  do:
    - event: api/greeted
      data: {who: "{{ data.who }}"}
jobs:
  on: api/job
  do:
    - local: test.ping
      tgt: web1
breaks:
  on: api/break
  do:
    - local: test.ping
      tgt: "{{ data.not.there }}"
"""

HOOKS = """
http_hooks:
  gh/*: {kind: github, secret: planted-hook-secret}
  gl: {kind: gitlab, secret: planted-hook-secret}
  mine: {kind: generic, secret: planted-hook-secret}
  open: {kind: open}
http_hook_rate: 5
"""

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system with rules and signed webhooks."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "rules.yaml").write_text(RULES)
    with serving(folder, "--rules", str(folder / "rules.yaml"), more=HOOKS) as made:
        yield made


def low(url, token, *chunks):
    """Run low data; return the status and what is returned."""
    status, said = answer(url, "/", list(chunks), token)
    return status, said["return"]


def form(**fields):
    """Return a body in a form."""
    return urllib.parse.urlencode(fields, doseq=True).encode()


class TestFunctions:
    """Salt's low data."""

    def test_all_clients_in_one_request(self, url, token):
        """Each answers in Salt's shape, in the order asked."""
        status, (local, sent, runner, wheel, begun) = low(
            url,
            token,
            {"client": "local", "tgt": "web1", "fun": "test.echo", "arg": ["hi"]},
            {"client": "local_async", "tgt": "*", "fun": "test.ping"},
            {"client": "runner", "fun": "manage.up"},
            {"client": "wheel", "fun": "key.list", "match": "accepted"},
            {"client": "runner_async", "fun": "manage.up"},
        )
        assert status == 200
        assert local == {"web1": "hi"}
        assert sent["minions"] == ["web1"]
        assert sent["jid"].isdecimal()
        assert runner == ["web1"]
        assert wheel["data"]["return"] == {"minions": ["web1"]}
        assert wheel["data"]["success"] is True
        assert wheel["tag"] == f"salt/wheel/{wheel['data']['jid']}"
        assert begun["tag"] == f"salt/run/{begun['jid']}"

    def test_a_background_function_tells_its_end_as_an_event(self, system, url, token):
        """Where the answer says that its events will be."""
        _, (begun,) = low(url, token, {"client": "wheel_async", "fun": "key.list_all"})
        assert system.expect(f"{begun['tag']}/ret", success=True)

    def test_full_return_and_batch(self, url, token):
        """As Salt's local client has them."""
        job = {"client": "local", "tgt": "*", "fun": "test.ping"}
        _, (full, batch) = low(url, token, {**job, "full_return": True}, {**job, "batch": 1})
        assert full["web1"]["ret"] is True
        assert full["web1"]["retcode"] == 0
        assert batch == {"web1": True}

    def test_a_form_as_curl_sends_it(self, url, token):
        """Salt's documentation shows it so."""
        data = form(client="local", tgt="*", fun="test.echo", arg="a b")
        assert answer(url, "/", data, token, FORM) == (200, {"return": [{"web1": "a b"}]})

    def test_run_takes_its_credentials_in_the_body(self, url, token):
        """No header and no session; without any, nothing runs."""
        chunk = {"client": "local", "tgt": "*", "fun": "test.ping"}
        status, said = answer(url, "/run", {**chunk, "token": token})
        assert (status, said) == (200, {"return": [{"web1": True}]})
        assert answer(url, "/run", chunk)[0] == 401
        assert answer(url, "/run", {**chunk, "token": "not a token"})[0] == 401
        assert answer(url, "/run", chunk, token)[0] == 200

    @pytest.mark.parametrize(
        ("chunk", "words"),
        [
            ({"client": "ssh", "fun": "test.ping"}, "client"),
            ({"client": "local", "fun": "test.ping"}, "tgt"),
            ({"client": "local", "tgt": 3, "fun": "test.ping"}, "tgt"),
            ({"client": "runner", "fun": ["a", "b"]}, "fun"),
            ({"client": "local", "tgt": "*", "fun": "test.ping", "timeout": -1}, "timeout"),
            ({"client": "local", "tgt": "*", "fun": "test.ping", "timeout": "x"}, "timeout"),
            ({"client": "runner", "fun": "test.x", "kwarg": [1]}, "kwarg"),
            ("text", "mapping"),
            ([], "1 to 100"),
        ],
    )
    def test_low_data_that_is_wrong(self, url, token, chunk, words):
        """One line, and nothing runs."""
        status, said = answer(url, "/", chunk, token)
        assert status == 400
        assert words in said["return"]

    def test_a_function_that_is_not_there(self, url, token):
        """Its error has the status that it means."""
        status, said = answer(url, "/", {"client": "runner", "fun": "no.such"}, token)
        assert status == 404
        assert "no.such" in said["return"]


class TestPermissions:
    """What a token may, it may; what it may not, it is told, and nothing happens."""

    def test_functions_on_targets(self, system, url):
        """Function and every targeted minion have to be allowed."""
        secret = new_token(system, "narrow", "--run", "web*:test.*")
        job = {"client": "local", "tgt": "*"}
        assert low(url, secret, {**job, "fun": "test.ping"}) == (200, [{"web1": True}])
        assert answer(url, "/", {**job, "fun": "cmd.run", "arg": ["true"]}, secret)[0] == 403
        other = new_token(system, "other", "--run", "db*:test.*")
        assert answer(url, "/", {**job, "fun": "test.ping"}, other)[0] == 403
        assert answer(url, "/minions", {"tgt": "*", "fun": "test.ping"}, other)[0] == 403
        nobody = {"client": "local", "tgt": "nobody", "fun": "test.ping"}
        assert answer(url, "/", nobody, other)[0] == 403

    @pytest.mark.parametrize("client", ["runner", "runner_async"])
    def test_runners(self, system, url, client):
        """By the function's name."""
        secret = new_token(system, "r", "--runner", "manage.*")
        assert low(url, secret, {"client": client, "fun": "manage.up"})[0] == 200
        assert answer(url, "/", {"client": client, "fun": "jobs.active"}, secret)[0] == 403

    @pytest.mark.parametrize("client", ["wheel", "wheel_async"])
    def test_wheel(self, system, url, client):
        """By the function's name; a runner's permission says nothing of it."""
        secret = new_token(system, "w", "--wheel", "key.list*")
        assert low(url, secret, {"client": client, "fun": "key.list_all"})[0] == 200
        chunk = {"client": client, "fun": "key.delete", "match": "web1"}
        assert answer(url, "/", chunk, secret)[0] == 403
        assert answer(url, "/keys/web1", {"action": "delete"}, secret)[0] == 403
        runner = new_token(system, "r2", "--runner", "*")
        assert answer(url, "/", {"client": client, "fun": "key.list_all"}, runner)[0] == 403

    def test_one_refused_chunk_does_not_hide_behind_another(self, system, url):
        """The request is refused."""
        secret = new_token(system, "r3", "--runner", "manage.up")
        chunks = [
            {"client": "runner", "fun": "manage.up"},
            {"client": "wheel", "fun": "key.list_all"},
        ]
        assert answer(url, "/", chunks, secret)[0] == 403

    @pytest.mark.parametrize(
        ("path", "glob"),
        [
            ("/jobs", "salt/job/*"),
            ("/keys", "salt/key"),
            ("/minions/web1", "salt/minion/*"),
            ("/rules", "reactor/rules/*"),
            ("/traces", "reactor/rules/*"),
            ("/dead", "reactor/rules/*"),
        ],
    )
    def test_what_follows_from_reading_events(self, system, url, path, glob):
        """Who may read the events that tell the same may look; who may only fire may not."""
        assert ask(url, path, token=new_token(system, "reads", "--read", glob))[0] == 200
        assert ask(url, path, token=new_token(system, "fires", "--fire", "*"))[0] == 403

    def test_what_is_listed_is_what_may_be_read(self, system, url, token):
        """A minion, a job or a trace beyond that is left out."""
        narrow = new_token(system, "db", "--read", "salt/minion/db*", "--read", "reactor/rules/*")
        assert answer(url, "/minions", token=narrow) == (200, {"return": [{}]})
        assert answer(url, "/minions", token=token)[1]["return"][0]["web1"]["connected"] is True
        assert answer(url, "/traces", token=narrow)[1] == {"return": []}

    def test_rules(self, system, url, token):
        """To have them read again takes the administration of all."""
        seq = system.fire("mark/reload", {})
        secret = new_token(system, "gr", "--rules", "greet", "--read", "*")
        assert answer(url, "/rules/reload", {}, secret)[0] == 403
        assert answer(url, "/replay", {"seq": seq, "run": True}, secret)[0] == 403
        assert answer(url, "/replay", {"seq": seq, "run": True, "rule": "greet"}, secret)[0] == 200
        assert answer(url, "/rules/reload", {}, token)[0] == 200

    def test_rules_are_switched(self, system, url):
        """The rule is off for everybody, and says by whose token."""
        secret = new_token(system, "switcher", "--rules", "greet", "--read", "*")
        try:
            said = answer(url, "/rules/disable", {"rules": ["greet"]}, secret)[1]["return"]
            assert [(rule["rule"], rule["state"]) for rule in said] == [("greet", "off")]
            assert said[0]["why"].startswith("switched off by switcher at 20")
            seq = system.fire("api/greet", {"who": "nobody"})
            wait_for(lambda: answer(url, f"/why/{seq}", token=secret)[1]["return"][0]["disabled"])
            (off,) = answer(url, f"/why/{seq}", token=secret)[1]["return"][0]["disabled"]
            assert (off["rule"], off["why"]) == ("greet", said[0]["why"])
        finally:
            said = answer(url, "/rules/enable", {"rules": ["gree?"]}, secret)
        assert said[1]["return"][0]["state"] == "on"

    def test_switching_takes_every_rule_that_is_meant(self, system, url):
        """Else nothing of it is done, and it is not told which rules there are."""
        secret = new_token(system, "globs", "--rules", "greet")
        for wanted in (["greet", "j*"], ["greet", "jobs"], ["greet", "no such rule"]):
            status, said = answer(url, "/rules/disable", {"rules": wanted}, secret)
            text = f"this token may not administer every rule that is meant by {', '.join(wanted)}"
            assert (status, said["return"]) == (403, text)
        assert "switched off" not in system.run("rules").stdout

    def test_an_unknown_rule(self, system, url, token):
        """The nearest name is told to those who may read which there are."""
        for secret, text in (
            (token, "there is no rule 'gret': did you mean greet?"),
            (new_token(system, "blind", "--rules", "*"), "there is no rule 'gret'"),
        ):
            status, said = answer(url, "/rules/disable", {"rules": ["gret"]}, secret)
            assert (status, said["return"]) == (404, text)
        assert answer(url, "/rules/disable", {"rules": []}, token)[0] == 422


class TestJobsAndMinions:
    """What is there."""

    def test_a_job_and_its_returns(self, url, token):
        """In Salt's shapes: sent through /minions, followed by the link that it gives."""
        status, said = answer(
            url, "/minions", {"tgt": "*", "fun": "test.echo", "arg": ["x"]}, token
        )
        assert status == 202
        (link,) = said["_links"]["jobs"]
        found = wait_for(lambda: _returned(url, link["href"], token), "the return")
        assert found["return"] == [{"web1": "x"}]
        (info,) = found["info"]
        assert info["Function"] == "test.echo"
        assert info["Result"]["web1"] == {"return": "x", "retcode": 0, "success": True}
        assert said["return"][0]["jid"] in answer(url, "/jobs", token=token)[1]["return"][0]
        assert answer(url, "/jobs/20200101000000000000", token=token)[0] == 404
        assert answer(url, "/jobs/nonsense", token=token)[0] == 422

    def test_minions(self, url, token):
        """Their grains."""
        _, said = answer(url, "/minions/web1", token=token)
        assert said["return"][0]["web1"]["kernel"] == "Linux"
        assert answer(url, "/minions/nobody", token=token)[0] == 404

    def test_keys_are_accepted_rejected_and_deleted(self, system, url, token, tmp_path):
        """The states change; what cannot be done is said."""
        store = KeyStore(master_config(system.config)["pki_dir"])
        store.submit("new1", Keypair.create(tmp_path, "minion").public, auto_accept=False)
        listed = answer(url, "/keys", token=token)[1]
        assert listed["return"]["minions_pre"] == ["new1"]
        assert ":" in listed["fingerprints"]["minions_pre"]["new1"]
        for action, folder in (("accept", "minions"), ("reject", "minions_rejected")):
            assert answer(url, "/keys/new1", {"action": action}, token)[0] == 200
            assert list(answer(url, "/keys/new1", token=token)[1]["return"]) == [folder]
        assert answer(url, "/keys/new1", {"action": "delete"}, token)[0] == 200
        assert answer(url, "/keys/new1", token=token)[0] == 404
        assert answer(url, "/keys/new1", {"action": "accept"}, token)[0] == 404
        assert answer(url, "/keys/new1", {"action": "eat"}, token)[0] == 422


def _returned(url, path, token):
    found = answer(url, path, token=token)[1]
    return found if found["return"][0] else None


class TestRules:
    """What they made of events."""

    def test_an_event_its_chain_and_its_trace(self, system, url, token):
        """From the cause down, and from the effect up."""
        seq = system.fire("api/greet", {"who": "x"})
        effect = system.expect("api/greeted", after=seq, who="x")
        system.expect("reactor/reaction/greet/done", after=seq)
        (chain,) = answer(url, f"/events/{seq}/chain", token=token)[1]["return"]
        tags = [event["tag"] for event in chain["effects"]]
        assert "api/greeted" in tags
        assert "reactor/reaction/greet/done" in tags
        (chain,) = answer(url, f"/events/{effect.seq}/chain", token=token)[1]["return"]
        assert [event["seq"] for event in chain["causes"]] == [seq]
        found = wait_for(
            lambda: answer(url, f"/traces?seq={seq}", token=token)[1]["return"], "a trace"
        )
        assert found[0]["state"] == "done"
        assert found[0]["calls"][0]["result"]["seq"] == effect.seq
        (why,) = answer(url, f"/why/{seq}", token=token)[1]["return"]
        assert why["rules"][0]["rule"] == "greet"
        assert answer(url, "/why/999999999", token=token)[0] == 404
        assert answer(url, "/events/999999999/chain", token=token)[0] == 404

    def test_a_chain_goes_through_a_job(self, system, url, token):
        """Its first event too, which stands before the report that names the job."""
        seq = system.fire("api/job", {})
        report = system.expect("reactor/reaction/jobs/done", after=seq)
        jid = report.data["calls"][0]["result"]["jid"]
        system.expect(f"salt/job/{jid}/ret/web1", after=seq)
        (chain,) = answer(url, f"/events/{seq}/chain", token=token)[1]["return"]
        tags = {event["tag"] for event in chain["effects"]}
        assert {f"salt/job/{jid}/new", f"salt/job/{jid}/ret/web1"} <= tags

    def test_rules_say_how_they_do(self, system, url, token):
        """Counters, source, last error."""
        seq = system.fire("api/break", {})
        system.expect("reactor/reaction/breaks/failed", after=seq)

        def broken():
            (found,) = answer(url, "/rules", token=token)[1]["return"]
            (rule,) = [each for each in found["rules"] if each["name"] == "breaks"]
            return rule["last_error"]

        assert "not" in wait_for(broken, "the error")

    def test_dead_letters_are_retried_and_dropped(self, system, url, token):
        """By who may administer their rule."""
        seq = system.fire("api/break", {})
        letters = wait_for(lambda: _letters(url, token, seq), "a dead letter")
        ident = letters[0]["id"]
        narrow = new_token(system, "n", "--read", "*", "--rules", "greet")
        for path in ("/dead/retry", "/dead/drop"):
            assert answer(url, path, {"ids": [ident]}, narrow)[0] == 403
            assert answer(url, path, {"rule": "breaks"}, narrow)[0] == 403
            assert answer(url, path, {}, token)[0] == 404
            assert answer(url, path, {"ids": ["nothing"]}, token)[0] == 404
        (said,) = answer(url, "/dead/retry", {"ids": [ident]}, token)[1]["return"]
        assert said["id"] == ident
        wait_for(lambda: _letters(url, token, seq), "the letter again")
        assert answer(url, "/dead/drop", {"rule": "breaks"}, token)[0] == 200
        assert _letters(url, token, seq) == []

    def test_replay_dry_and_real(self, system, url, token):
        """Dry, it says what would run and runs nothing."""
        seq = system.fire("api/greet", {"who": "again"})
        effect = system.expect("api/greeted", after=seq, who="again")
        status, said = answer(url, "/replay", {"seq": seq}, token)
        assert status == 200
        assert said["return"][0]["calls"][0]["function"] == "api/greeted"
        status, said = answer(url, "/replay", {"seq": seq, "run": True}, token)
        assert said["return"][0]["begun"] == 1
        assert system.expect("api/greeted", after=effect.seq, who="again")
        assert answer(url, "/replay", {"seq": 1 << 52}, token)[0] == 404
        assert answer(url, "/replay", {"seq": 1 << 52, "run": True}, token)[0] == 404


def _letters(url, token, seq):
    (found,) = answer(url, "/dead", token=token)[1]["return"]
    return [each for each in found["letters"] if each["event"]["seq"] == seq]


class TestWebhooks:
    """Signed ones: no token, but a proof, once."""

    def test_github(self, system, url):
        """The signature of the body; the same again is refused; a wrong one too."""
        body = json.dumps({"n": time.time_ns()}).encode()
        right = hmac.new(b"planted-hook-secret", body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={right}"}
        status, said = answer(url, "/hook/gh/push", body, headers=headers)
        assert status == 200
        event = system.expect("salt/netapi/hook/gh/push", after=said["seq"] - 1)
        assert event.seq == said["seq"]
        assert event.data["post"] == json.loads(body)
        assert right not in str(event.data)
        assert answer(url, "/hook/gh/push", body, headers=headers)[0] == 409
        assert answer(url, "/hook/gh/push", body + b" ", headers=headers)[0] == 401
        assert answer(url, "/hook/gh/push", body)[0] == 401

    def test_gitlab_and_generic(self, system, url):
        """The secret itself does not come into the event; an old signature is refused."""
        headers = {"X-Gitlab-Token": "planted-hook-secret", "X-Gitlab-Event-UUID": "u1"}
        status, said = answer(url, "/hook/gl", {"a": 1}, headers=headers)
        assert status == 200
        event = system.expect("salt/netapi/hook/gl", after=said["seq"] - 1)
        assert "planted-hook-secret" not in str(event.data)
        for age, wanted in ((0, 200), (3600, 409)):
            stamp = str(int(time.time()) - age)
            signed = hmac.new(
                b"planted-hook-secret", stamp.encode() + b".{}", hashlib.sha256
            ).hexdigest()
            headers = {"X-Timestamp": stamp, "X-Signature": f"sha256={signed}"}
            assert answer(url, "/hook/mine", {}, headers=headers)[0] == wanted

    def test_who_cannot_sign_takes_no_room_from_those_who_can(self, url):
        """A flood of wrong signatures is limited, and counts for where it comes from."""
        wrong = {"X-Hub-Signature-256": "sha256=00"}
        statuses = {answer(url, "/hook/gh/flood", {"n": n}, headers=wrong)[0] for n in range(30)}
        assert statuses == {401, 429}
        host = urllib.parse.urlsplit(url).netloc
        with closing(
            http.client.HTTPSConnection(
                host, timeout=20, context=INSECURE, source_address=("127.0.0.2", 0)
            )
        ) as connection:
            body = json.dumps({"n": time.time_ns()}).encode()
            right = hmac.new(b"planted-hook-secret", body, hashlib.sha256).hexdigest()
            headers = {"X-Hub-Signature-256": f"sha256={right}", "Content-Type": "application/json"}
            connection.request("POST", "/hook/gh/flood", body, headers)
            assert connection.getresponse().status == 200

    def test_an_open_path_is_limited_in_rate(self, url):
        """Anybody may, but not without end."""
        statuses = {answer(url, "/hook/open", {"n": n})[0] for n in range(30)}
        assert statuses == {200, 429}


class TestOperations:
    """What programs watch."""

    def test_metrics(self, url, token):
        """In Prometheus' form; no label holds a tag or a minion."""
        status, headers, body = ask(url, "/metrics", token=token)
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = body.decode()
        assert 'reactor_up{part="reactor"} 1.0' in text
        assert "reactor_events_total" in text
        assert "web1" not in text
        assert "api/" not in text
        assert ask(url, "/metrics")[0] == 401

    def test_stats(self, url, token):
        """Each part, and this server."""
        (found,) = answer(url, "/stats", token=token)[1]["return"]
        assert set(found) == {"bus", "link", "reactor", "http"}
        assert found["bus"]["last_seq"] > 0

    def test_no_planted_secret_is_in_any_log_or_trace(self, system, url, token):
        """After all of that."""
        traces = ask(url, "/traces?limit=1000", token=token)[2].decode()
        found = [traces, *(path.read_text() for path in system.config.rglob("*.log"))]
        found.append(system.log.read_text())
        for text in found:
            assert "planted-hook-secret" not in text
            assert token not in text

    def test_curl_with_a_cookie(self, system, url, token, tmp_path):
        """As Salt's documentation logs in, with curl's cookie jar."""
        jar = str(tmp_path / "jar")
        curl = ["curl", "-sSk", "-b", jar, "-c", jar]
        login = subprocess.run(
            [*curl, f"{url}/login", "-d", f"token={token}"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        assert json.loads(login.stdout)["return"][0]["token"] == token
        ran = subprocess.run(
            [*curl, url, "-d", "client=local", "-d", "tgt=*", "-d", "fun=test.ping"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        assert json.loads(ran.stdout) == {"return": [{"web1": True}]}
