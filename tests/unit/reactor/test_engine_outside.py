"""Actions that reach outside, with real programs, a real web server and a real mail server."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import logging
import threading
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from reactor.engine.actions import Actions
from reactor.engine.actions.background import Background
from reactor.engine.actions.exec import ExecAction
from reactor.engine.actions.http import HttpAction
from reactor.engine.actions.logline import LogAction
from reactor.engine.actions.notify import NotifyAction
from reactor.engine.firing import Reaction
from reactor.engine.pool import Mailbox, WorkerPool
from reactor.engine.secrets import Secrets
from reactor.errors import ReactorError
from reactor.rules.model import Call
from tests.support import wait_for

REACTION = Reaction("b-7-r-0", "r", "f.yaml:1", "my/tag", 7, "b-7", 2)


@pytest.fixture
def background():
    mailbox = Mailbox()
    made = Background(lambda: WorkerPool(2, 100), mailbox)
    made.mailbox = mailbox
    yield made
    made.close(5)
    mailbox.close()


@pytest.fixture
def perform(background):
    """Do a call, and return its result and its error."""

    def do(action, call, *, meanwhile=lambda cancel: None):
        ends = []
        cancel = Actions({call.kind: action}).start(call, REACTION, lambda *end: ends.append(end))
        meanwhile(cancel)
        wait_for(lambda: background.mailbox.run() or ends, "the end of the call")
        return ends[0]

    return do


def _exec(*argv, timeout=0.0, **options):
    program, *args = argv
    return Call("exec", program, tuple(args), options=options, timeout=timeout)


def _is_gone(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_exec_runs_a_program_with_its_arguments_as_they_are(background, perform, tmp_path):
    """No shell reads them; input, environment and folder are as given."""
    action = ExecAction(background)
    hostile = "$(touch hacked); `touch hacked` && touch hacked"
    result, error = perform(action, _exec("/bin/echo", hostile, cwd=str(tmp_path)))
    assert (result["stdout"], result["status"], error) == (hostile + "\n", 0, None)
    assert list(tmp_path.iterdir()) == []
    script = 'cat; echo "$WHO $REACTOR_REACTION $REACTOR_TAG"; pwd'
    call = _exec("sh", "-c", script, stdin={"n": 1}, env={"WHO": "me"}, cwd=str(tmp_path))
    result, _ = perform(action, call)
    assert result["stdout"] == f'{{"n": 1}}me b-7-r-0 my/tag\n{tmp_path}\n'


def test_exec_with_a_shell_is_one_text(background, perform):
    """Which may use variables."""
    call = _exec('echo "$A" | tr a b', shell=True, env={"A": "aa; false"})
    assert perform(ExecAction(background), call)[0]["stdout"] == "bb; fblse\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (("sh", "-c", "echo oh >&2; exit 3"), "sh: exit status 3: oh"),
        (("sh", "-c", "kill -9 $$"), "sh: ended by signal 9"),
        (("/no/such/program",), "cannot run '/no/such/program': No such file or directory"),
    ],
)
def test_exec_says_how_a_program_failed(background, perform, argv, error):
    """In one line."""
    assert perform(ExecAction(background), _exec(*argv))[1].startswith(error)


def test_exec_keeps_no_more_output_than_it_can(background, perform):
    """And says how much it left out."""
    result, _ = perform(ExecAction(background), _exec("head", "-c", "1000000", "/dev/zero"))
    assert len(result["stdout"]) < 70_000
    assert "bytes more are left out" in result["stdout"]


def test_exec_kills_all_that_a_program_started_when_its_time_is_over(background, perform, tmp_path):
    """The whole group."""
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    _, error = perform(ExecAction(background), _exec("sh", "-c", script, timeout=0.5))
    assert error == "sh: killed after 0.5 s"
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: _is_gone(pid), "the end of the child")


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_exec_can_be_ended_early(background, perform, tmp_path, how):
    """By its reaction's end, or that of the engine."""
    action, file = ExecAction(background), tmp_path / "pid"
    script = f"echo $$ > {file}.new; mv {file}.new {file}; sleep 600"

    def meanwhile(cancel):
        wait_for(file.exists, "the program")
        cancel() if how == "cancel" else action.close()

    _, error = perform(action, _exec("sh", "-c", script), meanwhile=meanwhile)
    assert error == "sh: ended by signal 9"
    assert _is_gone(int(file.read_text()))


def test_exec_that_is_ended_before_a_thread_began_it_never_runs(background, perform, tmp_path):
    """Such as one that waited behind others."""
    action = ExecAction(background)
    gate, ends = threading.Event(), []
    for _ in range(2):
        background.run(lambda: (gate.wait(20), None), lambda *end: ends.append(end))
    touch = _exec("touch", str(tmp_path / "made"))

    def meanwhile(cancel):
        cancel()
        gate.set()

    assert perform(action, touch, meanwhile=meanwhile) == (None, "ended before it began")
    assert not (tmp_path / "made").exists()


def test_exec_hands_on_the_environment_and_an_empty_input_as_they_are(background, perform):
    """Names that no shell knows too; the gate before the program leaves nothing behind."""
    call = _exec("env", env={"a.b": "1 2", "my-name": "$x", "C": "3"})
    said = perform(ExecAction(background), call)[0]["stdout"].splitlines()
    assert {"a.b=1 2", "my-name=$x", "C=3"} <= set(said)
    result, error = perform(ExecAction(background), _exec("cat"))
    assert (result["stdout"], error) == ("", None)


@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [("./there", 0o600, "Permission denied"), ("./gone", None, "No such file or directory")],
)
def test_exec_looks_for_a_program_in_its_folder(background, perform, tmp_path, name, mode, why):
    """And says what is wrong with it."""
    if mode is not None:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    _, error = perform(ExecAction(background), _exec(name, cwd=str(tmp_path)))
    assert error == f"cannot run '{name}': {why}: {name}"
    (tmp_path / "there").write_text("#!/bin/sh\necho yes\n")
    (tmp_path / "there").chmod(0o700)
    result, _ = perform(ExecAction(background), _exec("./there", cwd=str(tmp_path)))
    assert result["stdout"] == "yes\n"


class Server:
    """A web server that keeps what it is asked, and answers as the test says."""

    def __init__(self):
        self.asked, self.answer = [], (200, "application/json", b'{"ok": true}')
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, kind, answer = outer.answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = _any  # noqa: N815 - names of the library

            def log_message(self, *_):
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def secrets(tmp_path):
    for name, text in (("key", "s3cret\n"), ("open", "x"), ("empty", " \n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    names = {name: name for name in ("key", "open", "empty", "gone")}
    return Secrets(names, str(tmp_path))


def test_http_sends_signed_json(background, perform, server, secrets):
    """The receiver can check each byte; the answer is for later actions."""
    options = {"json": {"n": "ü"}, "headers": {"X-A": 1}, "sign": "key", "token": "key"}
    call = Call("http", f"{server.url}/hook?a=1", options=options, ident="do[0]")
    result, error = perform(HttpAction(background, secrets), call)
    assert (result["status"], result["json"], error) == (200, {"ok": True}, None)
    [(method, path, headers, body)] = server.asked
    assert (method, path, json.loads(body)) == ("POST", "/hook?a=1", {"n": "ü"})
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["content-type"] == "application/json"
    assert headers["x-a"] == "1"
    assert headers["idempotency-key"] == "b-7-r-0/do[0]"
    assert headers["authorization"] == "Bearer s3cret"
    digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature-256"] == f"sha256={digest}"
    assert "s3cret" not in repr((result, call))


def test_http_with_another_method_text_and_signature(background, perform, server, secrets):
    """Whatever the server wants."""
    sign = {"secret": "key", "algorithm": "sha512", "header": "X-Sig", "prefix": ""}
    call = Call("http", server.url, options={"method": "PUT", "body": "hello", "sign": sign})
    perform(HttpAction(background, secrets), call)
    [(method, _, headers, body)] = server.asked
    assert (method, body) == ("PUT", b"hello")
    digest = hmac.new(b"s3cret", b"hello", hashlib.sha512).hexdigest()
    assert {k.lower(): v for k, v in headers.items()}["x-sig"] == digest


def test_http_without_a_body(background, perform, server, secrets):
    """A question, with parameters; text stays text."""
    server.answer = (200, "text/plain", b"pong")
    call = Call("http", server.url, options={"method": "GET", "params": {"q": "a b"}})
    result, _ = perform(HttpAction(background, secrets), call)
    assert server.asked[0][:2] == ("GET", "/?q=a+b")
    assert (result["body"], result["json"]) == ("pong", None)


def test_http_says_what_is_wrong(background, perform, server, secrets):
    """A status that is no success, a server that is not there, a header that breaks its line."""
    action = HttpAction(background, secrets)
    server.answer = (503, "text/plain", b"later")
    result, error = perform(action, Call("http", server.url))
    assert (result["status"], result["body"]) == (503, "later")
    assert error.startswith("HTTP 503")
    _, error = perform(action, Call("http", "http://127.0.0.1:9/x?token=s3cret"))
    assert "cannot be asked" in error
    assert "s3cret" not in error
    call = Call("http", server.url, options={"headers": {"X": "a\nHost: b"}})
    assert perform(action, call)[1] == "a header of 'http' has a line break in it"
    assert "no web address" in perform(action, Call("http", "file:///etc/passwd"))[1]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none", "unknown secret 'none': the option reactor_secrets has empty, gone, key, open"),
        ("gone", "cannot be read"),
        ("open", "chmod 600"),
        ("empty", "is empty"),
    ],
)
def test_a_secret_that_cannot_be_used_says_why(secrets, name, error):
    """One that others may read is no secret."""
    with pytest.raises(ReactorError, match=error):
        secrets.get(name)


def test_log_writes_one_line(caplog):
    """Whatever the event put into it."""
    with caplog.at_level(logging.INFO, "reactor.rule"):
        Actions({"log": LogAction()}).start(
            Call("log", "a\nb\x1b[0m", options={"level": "warning"}), REACTION, lambda *_: None
        )
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "r: a b [0m")


class Inbox:
    """Keeps the mail that a server gets."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - the library's
        self.mails.append(envelope)
        return "250 OK"


class FreePort(Controller):
    """On a port that the system chose, which its start-up has to know."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mail_server():
    inbox = Inbox()
    controller = FreePort(inbox, hostname="127.0.0.1", port=0, ready_timeout=20)
    controller.start()
    inbox.port = controller.port
    yield inbox
    controller.stop()


def _notify(name, **options):
    return Call("notify", name, options={"text": "it <broke>", **options})


def test_notify_sends_mail(background, perform, mail_server, secrets):
    """A subject from an event cannot add headers."""
    entry = {"via": "mail", "server": f"127.0.0.1:{mail_server.port}", "from": "r@x.example"}
    entries = {"ops": {**entry, "to": ["a@x.example", "b@x.example"]}}
    action = NotifyAction(background, entries, secrets)
    hostile = "hi\r\nBcc: c@x.example"
    assert perform(action, _notify("ops", subject=hostile)) == ({"via": "mail"}, None)
    [mail] = mail_server.mails
    assert mail.rcpt_tos == ["a@x.example", "b@x.example"]
    text = mail.content.decode()
    assert "Subject: hi Bcc: c@x.example" in text
    assert "it <broke>" in text


def test_notify_tells_a_chat(background, perform, server, tmp_path):
    """As Slack takes it; the address is a secret."""
    (tmp_path / "hook").write_text(f"{server.url}/T0/s3cret")
    (tmp_path / "hook").chmod(0o600)
    secrets = Secrets({"hook": "hook"}, str(tmp_path))
    action = NotifyAction(background, {"chat": {"via": "slack", "url": "hook"}}, secrets)
    assert perform(action, _notify("chat"))[1] is None
    [(_, path, _, body)] = server.asked
    assert path == "/T0/s3cret"
    assert json.loads(body) == {"text": "*reactor: r*\nit &lt;broke&gt;"}
    server.answer = (404, "text/plain", b"no_team s3cret")
    assert perform(action, _notify("chat"))[1] == (
        "the webhook 'hook' answered with the status 404"
    )


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (None, "unknown 'ops': the option reactor_notify has none"),
        ({"via": "pigeon"}, "reactor_notify: ops: via is one of mail, slack"),
        ({"via": "slack"}, "reactor_notify: ops: 'url' is missing"),
        ({"via": "slack", "url": "x", "uri": 1}, "reactor_notify: ops: unknown key 'uri'"),
        (
            {"via": "mail", "server": "127.0.0.1:9", "from": "a@b", "to": "c@d"},
            "the mail server 127.0.0.1:9: ",
        ),
    ],
)
def test_notify_says_what_is_wrong(background, perform, secrets, entry, error):
    """With the option and the entry."""
    action = NotifyAction(background, {} if entry is None else {"ops": entry}, secrets)
    assert error in perform(action, _notify("ops"))[1]


def test_an_action_that_breaks_is_a_failed_call(background, perform, secrets, caplog):
    """An unexpected error ends no thread, and the reaction says what it was."""

    class Broken:
        def start(self, call, reaction, done):
            background.run(lambda: 1 / 0, done)

    assert perform(Broken(), Call("http", "x")) == (None, "ZeroDivisionError: division by zero")
    assert "unexpected" in caplog.text
    assert (background.waiting, background.is_full) == (0, False)
