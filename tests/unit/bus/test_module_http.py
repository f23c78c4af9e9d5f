"""The module and the runner http, against a real server."""

import base64
import http.server
import json
import ssl
import threading

import pytest

from bus.errors import BusError
from bus.modules import _http
from tests.unit.bus.loader_tools import execution, runner


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path, and shows what it was asked."""

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        path = self.path.partition("?")[0]
        answer = getattr(self, "on_" + path.strip("/").replace("-", "_"), self.on_show)
        answer(body)

    do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the names that http.server calls

    def log_message(self, *_args):
        pass

    def reply(self, body, status=200, kind="text/plain", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def on_show(self, body):
        shown = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body,
        }
        self.reply(json.dumps(shown).encode(), kind="application/json")

    def on_yaml(self, _body):
        self.reply(b"a: 1\n", kind="application/yaml")

    def on_text(self, _body):
        self.reply(b"plain \xff")

    def on_broken(self, _body):
        self.reply(b"{", kind="application/json")

    def on_big(self, _body):
        self.reply(b"x" * (_http.MAX_BODY_BYTES + 1))

    def on_refuse(self, _body):
        self.reply(b"go away", status=403)

    def on_to_file(self, _body):
        self.reply(b"", status=302, Location="file:///etc/passwd")

    def on_to_ftp(self, _body):
        self.reply(b"", status=302, Location="ftp://me:hidden@host/x?hidden")

    def on_to_other(self, _body):
        port = self.server.other.server_address[1]
        self.reply(b"", status=302, Location=f"http://127.0.0.1:{port}/show")

    def on_to_self(self, _body):
        self.reply(b"", status=302, Location="/show")

    def on_garbage(self, _body):
        self.wfile.write(b"this is no HTTP\r\n\r\n")
        self.close_connection = True

    def on_hang(self, _body):
        self.server.release.wait(10)

    def on_later(self, body):
        self.server.count += 1
        if self.server.count < 3:
            self.reply(b"not yet", status=503)
        else:
            self.on_show(body)


def _start():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.count, server.release, server.other = 0, threading.Event(), None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    return server, thread


def _stop(server, thread):
    server.release.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def server():
    """A server on a free port."""
    made, thread = _start()
    yield made
    _stop(made, thread)


@pytest.fixture
def url(server):
    """Its address."""
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def http_():
    """The module."""
    return execution("http")


def shown(answer):
    """What the server says that it was asked."""
    return json.loads(answer["body"])


def test_a_plain_question(http_, url):
    """The body comes back."""
    assert http_.query(f"{url}/text") == {"body": "plain \N{REPLACEMENT CHARACTER}"}
    assert http_.query(f"{url}/text", text=True)["text"].startswith("plain")
    found = shown(http_.query(f"{url}/a?x=1", params={"y": [2, "ä b"]}))
    assert found["method"] == "GET"
    assert found["path"] == "/a?x=1&y=2&y=%C3%A4+b"
    assert found["headers"]["user-agent"].startswith("reactor-bus/")


def test_status_and_headers(http_, url):
    """They are added when asked for."""
    found = http_.query(f"{url}/text", status=True, headers=True)
    assert found["status"] == 200
    assert found["headers"]["Content-Type"] == "text/plain"


def test_decoding(http_, url):
    """By the content type, or as told."""
    assert http_.query(f"{url}/show", decode=True)["dict"]["method"] == "GET"
    assert http_.query(f"{url}/yaml", decode=True, text=True) == {
        "dict": {"a": 1},
        "text": "a: 1\n",
    }
    assert http_.query(f"{url}/yaml", decode=True, decode_type="plain") == {"dict": "a: 1\n"}
    assert http_.query(f"{url}/text", decode=True)["dict"].startswith("plain")
    broken = http_.query(f"{url}/broken", decode=True)
    assert broken["body"] == "{"
    assert broken["error"].startswith("the answer is no json")
    with pytest.raises(ValueError, match="unknown decode_type 'xml': use one of auto, json"):
        http_.query(f"{url}/text", decode=True, decode_type="xml")


def test_sending(http_, url, tmp_path):
    """Text, bytes, forms, JSON and files."""

    def sent(**options):
        found = shown(http_.query(url, method="post", **options))
        return found["method"], found["body"]

    assert sent(data="text") == ("POST", "text")
    assert sent(data=b"raw") == ("POST", "raw")
    assert sent(data={"a": "b c"}) == ("POST", "a=b+c")
    assert sent(data=[1, 2]) == ("POST", "[1, 2]")
    header = {"content-type": "application/json"}
    assert sent(data={"a": 1}, header_dict=header) == ("POST", '{"a": 1}')
    (tmp_path / "f").write_text("from a file")
    assert sent(data_file=str(tmp_path / "f")) == ("POST", "from a file")


def test_headers_and_passwords(http_, url):
    """Headers as a dict and as lines; user and password as arguments or in the address."""
    found = shown(http_.query(url, header_dict={"X-A": 1}, header_list=["x-b: two", "X-a: 0"]))[
        "headers"
    ]
    assert (found["x-a"], found["x-b"]) == ("1", "two")
    basic = "Basic " + base64.b64encode(b"me:se cret").decode()
    found = shown(http_.query(url, username="me", password="se cret"))
    assert found["headers"]["authorization"] == basic
    with_user = url.replace("http://", "http://me:se%20cret@")
    found = shown(http_.query(f"{with_user}/x"))
    assert found["headers"]["authorization"] == basic
    with pytest.raises(ValueError, match="no colon"):
        http_.query(url, header_list=["X"])


def test_refused(http_, url):
    """A status that is no success is an error in the return, with its body."""
    assert http_.query(f"{url}/refuse") == {
        "error": "HTTP 403: Forbidden",
        "status": 403,
        "body": "go away",
    }


def test_redirects(http_, url):
    """Only within the web."""
    found = shown(http_.query(f"{url}/to-self", username="me", password="x"))
    assert "authorization" in found["headers"]
    assert "not allowed" in http_.query(f"{url}/to-file")["error"]
    with pytest.raises(BusError, match="ftp://host/x, which is no web address"):
        http_.query(f"{url}/to-ftp")


def test_redirects_to_another_server(http_, server, url):
    """Another server does not get the password."""
    server.other, thread = _start()
    try:
        found = shown(http_.query(f"{url}/to-other", username="me", password="x"))
        assert "authorization" not in found["headers"]
    finally:
        _stop(server.other, thread)


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://host/x", "data:text/plain,x", "http://", "/etc/passwd", ""],
)
def test_only_the_web(http_, address):
    """Files and other schemes are refused."""
    with pytest.raises(ValueError, match="no web address"):
        http_.query(address)
    with pytest.raises(ValueError, match="cannot be read"):
        http_.query("http://[bad/")


@pytest.mark.parametrize(
    "address",
    [
        "hooks.slack.com/services/T0/hidden",
        "discord.com:443/api/webhooks/1/hidden",
        "me:hidden@h/x",
    ],
)
def test_an_error_does_not_repeat_an_address_that_lets_in(http_, address):
    """Whoever knows such an address may post: errors are logged, and kept with dead letters."""
    with pytest.raises(ValueError, match="no web address") as caught:
        http_.query(f"ftp://{address}")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("path", ["big", "garbage", "hang"])
def test_bad_servers(http_, url, path):
    """Too much, no HTTP, no answer in time: errors that show no secrets."""
    address = url.replace("http://", "http://me:hidden@") + f"/{path}?token=hidden"
    with pytest.raises(BusError) as caught:
        http_.query(address, timeout=0.5)
    assert "hidden" not in str(caught.value)
    found = http_.query(address, timeout=0.5, raise_error=False)
    assert found["body"] is None
    assert found["error"]


def test_nobody_there(http_, server, url):
    """A refused connection names the server."""
    server.shutdown()
    server.server_close()
    with pytest.raises(BusError, match=r"http://127\.0\.0\.1:\d+/x cannot be asked: .*refused"):
        http_.query(f"{url}/x?password=1", timeout=5)


def test_unknown_options(http_, url):
    """A misspelt option is named; a publisher's own are passed over."""
    with pytest.raises(ValueError, match="unknown option 'verify': there are method,"):
        http_.query(url, verify=False)
    assert http_.query(f"{url}/yaml", __pub_jid="1") == {"body": "a: 1\n"}


def test_certificates(tmp_path):
    """Certificates are checked unless told otherwise."""
    checked = _http._ssl_context(verify_ssl=True, ca_bundle=None)
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert _http._ssl_context(verify_ssl=False, ca_bundle=None).verify_mode == ssl.CERT_NONE
    with pytest.raises(ValueError, match="ca_bundle"):
        _http._ssl_context(verify_ssl=True, ca_bundle=str(tmp_path / "none"))


def test_waiting(http_, url):
    """It is asked until it answers well."""
    found = http_.wait_for_successful_query(
        f"{url}/later", wait_for=30, request_interval=0.01, decode=True
    )
    assert found["status"] == 200
    assert found["dict"]["path"] == "/later"


def test_waiting_in_vain(http_, url):
    """The error tells the last answer."""
    with pytest.raises(BusError, match="within 0 seconds: HTTP 403: Forbidden"):
        http_.wait_for_successful_query(f"{url}/refuse", wait_for=0)
    with pytest.raises(BusError, match="cannot be asked"):
        http_.wait_for_successful_query("http://127.0.0.1:1/", wait_for=0, timeout=1)


def test_the_runner(url):
    """The runner asks in the same way."""
    assert runner("http", {}).query(f"{url}/yaml", decode=True) == {"dict": {"a": 1}}
