"""``http``: ask a web server, such as one that takes webhooks; signed where that is wanted."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from bus.modules import _http
from reactor.engine.actions import Done
from reactor.engine.actions.background import Background
from reactor.engine.firing import Reaction
from reactor.engine.secrets import Secrets
from reactor.errors import ReactorError
from reactor.rules.model import Call

DEFAULT_SECONDS = 30.0
"""How long a request may take whose action has no ``timeout``."""

_HEADER, _ALGORITHM = "X-Hub-Signature-256", "sha256"


class HttpAction:
    """Sends requests from threads."""

    def __init__(self, background: Background, secrets: Secrets) -> None:
        self._background = background
        self._secrets = secrets

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Have a thread ask."""
        self._background.run(lambda: self._ask(call, reaction), done)

    def _ask(self, call: Call, reaction: Reaction) -> tuple[Any, str | None]:
        options = call.options
        body, kind = _body(options)
        headers = {
            # The same when it is tried again, so that the server can tell.
            "Idempotency-Key": f"{reaction.id}/{call.ident}",
            **({"Content-Type": kind} if kind else {}),
            **{name: str(value) for name, value in options.get("headers", {}).items()},
            **self._proofs(options, body or b""),
        }
        if any("\n" in value or "\r" in value for value in headers.values()):
            raise ReactorError("a header of 'http' has a line break in it")
        answer = _http.query(
            call.function,
            method=options.get("method", "POST"),
            params=options.get("params"),
            data=body,
            header_dict=headers,
            decode=True,
            text=True,
            status=True,
            headers=True,
            timeout=call.timeout or DEFAULT_SECONDS,
            verify_ssl=options.get("verify", True),
        )
        decoded = answer.get("dict")
        result = {
            "status": answer["status"],
            "headers": answer["headers"],
            "body": answer.get("text", answer.get("body", "")),
            "json": None if isinstance(decoded, str) else decoded,
        }
        return result, answer.get("error")

    def _proofs(self, options: Mapping[str, Any], body: bytes) -> dict[str, str]:
        """Return the headers that show who asks."""
        found = {}
        if "token" in options:
            found["Authorization"] = f"Bearer {self._secrets.text(options['token'])}"
        if "sign" in options:
            given = options["sign"]
            sign = {"secret": given} if isinstance(given, str) else given
            algorithm = sign.get("algorithm", _ALGORITHM)
            digest = hmac.new(
                self._secrets.get(sign["secret"]), body, getattr(hashlib, algorithm)
            ).hexdigest()
            found[sign.get("header", _HEADER)] = sign.get("prefix", f"{algorithm}=") + digest
        return found


def _body(options: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """Return what is sent, and what it is."""
    if "body" in options:
        return str(options["body"]).encode(), "text/plain; charset=utf-8"
    if "json" in options:
        text = json.dumps(options["json"], ensure_ascii=False, default=str)
        return text.encode(errors="replace"), "application/json"
    return None, ""
