"""Whatever the API's description allows, and what it does not, asked of a running server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.web import answer, ask, new_token, serving, stream, url_of

PLAIN = "http_self_signed: false\nhttp_hook_rate: 0\n"


# Streams of events have no end, so they are asked for by other tests.
LOW = "/|/run|/minions"
"""Routes that take low data: whether a text is a target of its type, no schema can say."""

ROUNDS = {
    "most routes": [
        "--exclude-path-regex", f"^(/events|{LOW})$",
        "--phases", "coverage,fuzzing", "--max-examples", "2",
    ],
    "low data": [
        "--include-path-regex", f"^({LOW})$",
        "--phases", "fuzzing", "--max-examples", "20",
        "--exclude-checks", "positive_data_acceptance",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system that refuses nobody for asking too often."""
    with serving(tmp_path_factory.mktemp("schema"), more=PLAIN) as made:
        yield made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ROUNDS)
def test_the_api_does_as_it_is_described(system, tmp_path, name):
    """No answer of 500, none that is not described; what is wrong is refused, what is right not."""
    url, token = url_of(system), new_token(system, "all", "--all")
    ended = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
            "--header", f"X-Auth-Token: {token}", "--seed", "1", "--no-color", *ROUNDS[name],
        ],
        capture_output=True, text=True, timeout=380, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert "Tested: " in ended.stdout
    # It still serves, and nothing fell over on the way.
    with stream(url, f"/events?token={token}&since=0&limit=1") as opened:
        assert opened.event()["id"] == "1"
    assert answer(url, "/readyz") == (200, {"ok": True})
    assert "Traceback" not in system.log.read_text()


NO_TEXT = "\ud800"
"""Half of a letter: JSON can say it, and no text of ours can."""

LOW = {"client": "local", "tgt": "web1", "fun": "test.echo"}
NO_TEXTS = [
    ("/login", {"username": NO_TEXT, "password": "x"}),
    ("/login", {"username": "x", "password": NO_TEXT}),
    ("/login", {"token": NO_TEXT}),
    ("/fire", {"tag": f"a/{NO_TEXT}", "data": {}}),
    ("/fire", {"tag": "no/text", "data": {NO_TEXT: [NO_TEXT]}}),
    ("/hook/no/text", {NO_TEXT: NO_TEXT}),
    *(("/", {**LOW, name: NO_TEXT}) for name in ("client", "tgt", "tgt_type", "fun", "arg", "jid")),
    *(("/run", {**LOW, name: NO_TEXT, "token": "x"}) for name in ("tgt", "fun")),
    ("/run", {**LOW, "username": NO_TEXT, "password": NO_TEXT}),
    ("/", {"client": "runner", "fun": "event.send", "arg": [f"a/{NO_TEXT}", {}]}),
    ("/", {"client": "wheel", "fun": "key.accept", "kwarg": {"match": NO_TEXT}}),
    ("/minions", {"tgt": "web1", "fun": "test.echo", "arg": [NO_TEXT]}),
    ("/keys/nobody", {"action": NO_TEXT}),
    ("/rules/disable", {"rules": [NO_TEXT]}),
    ("/rules/enable", {"rules": ["\0", "*\0*"]}),
    ("/dead/retry", {"rule": NO_TEXT}),
    ("/dead/drop", {"ids": [NO_TEXT]}),
    ("/replay", {"seq": 1, "rule": NO_TEXT}),
]


@pytest.mark.parametrize(("path", "data"), NO_TEXTS, ids=str)
def test_what_is_no_text(system, path, data):
    """It is refused in one line, or done as far as it makes sense, and nothing falls over."""
    status, said = answer(url_of(system), path, data, new_token(system, "all", "--all"))
    assert status < 500, said
    assert "Traceback" not in system.log.read_text()


def test_a_method_that_a_path_does_not_have(system):
    """The answer names those that it has, in whichever routes."""
    url = url_of(system)
    for path, methods in (("/login", "GET, POST"), ("/keys/x", "GET, POST"), ("/fire", "POST")):
        status, headers, _ = ask(url, path, method="PUT")
        assert (status, headers["Allow"]) == (405, methods)


def test_the_description_says_who_needs_a_token(system):
    """And what comes back, in which form."""
    url = url_of(system)
    said = answer(url, "/openapi.json")[1]
    assert set(said["components"]["securitySchemes"]) == {"header", "bearer", "cookie", "query"}
    paths = said["paths"]
    assert len(paths["/fire"]["post"]["security"]) == 4
    for path, method in (("/livez", "get"), ("/login", "post"), ("/hook/{path}", "post")):
        assert "security" not in paths[path][method]
    assert "security" in paths["/login"]["get"]
    good = paths["/jobs"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert good == {"$ref": "#/components/schemas/Returned"}
    assert said["components"]["schemas"]["Returned"]["required"] == ["return"]
