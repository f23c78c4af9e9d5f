"""``notify``: tell people, by mail or in a chat that takes webhooks as Slack does."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from bus.modules import _http
from reactor.engine.actions import Done
from reactor.engine.actions.background import Background
from reactor.engine.firing import Reaction
from reactor.engine.secrets import Secrets
from reactor.errors import ReactorError
from reactor.rules.model import Call

DEFAULT_SECONDS = 30.0
_PORT = 25

_KEYS = {
    "mail": {"via", "server", "from", "to", "starttls", "user", "password"},
    "slack": {"via", "url"},
}
_NEEDED = {"mail": ("server", "from", "to"), "slack": ("url",)}


class NotifyAction:
    """Tells whom an entry of the option ``reactor_notify`` names.

    Args:
        background: the threads that wait for servers.
        entries: name -> how they are told.
        secrets: where passwords and addresses of webhooks are.
    """

    def __init__(
        self, background: Background, entries: Mapping[str, Any], secrets: Secrets
    ) -> None:
        self._background = background
        self._entries = entries
        self._secrets = secrets
        self._ways: Mapping[str, Callable[[Mapping[str, Any], Call, str], None]] = {
            "mail": self._mail,
            "slack": self._slack,
        }

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Have a thread tell them."""
        entry = self._entry(call.function)
        way = self._ways[entry["via"]]
        subject = _one_line(call.options.get("subject") or f"reactor: {reaction.rule}")

        def tell() -> tuple[Any, str | None]:
            way(entry, call, subject)
            return {"via": entry["via"]}, None

        self._background.run(tell, done)

    def _entry(self, name: str) -> Mapping[str, Any]:
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(sorted(self._entries)) or "none"
            raise ReactorError(f"unknown {name!r}: the option reactor_notify has {known}")
        via = entry.get("via") if isinstance(entry, Mapping) else None
        if via not in _KEYS:
            raise ReactorError(f"reactor_notify: {name}: via is one of {', '.join(_KEYS)}")
        unknown = sorted(set(entry) - _KEYS[via])
        missing = [key for key in _NEEDED[via] if not entry.get(key)]
        if unknown or missing:
            what = f"unknown key {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
            raise ReactorError(f"reactor_notify: {name}: {what}")
        return entry  # type: ignore[no-any-return]  # a mapping, as was just seen

    def _mail(self, entry: Mapping[str, Any], call: Call, subject: str) -> None:
        to = [entry["to"]] if isinstance(entry["to"], str) else list(entry["to"])
        message = EmailMessage()
        message["From"], message["To"] = entry["from"], ", ".join(to)
        message["Subject"] = subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid()
        message.set_content(str(call.options["text"]))
        host, _, port = str(entry["server"]).partition(":")
        seconds = call.timeout or DEFAULT_SECONDS
        try:
            with smtplib.SMTP(host, int(port or _PORT), timeout=seconds) as server:
                if entry.get("starttls", False):
                    server.starttls(context=ssl.create_default_context())
                if "user" in entry:
                    server.login(str(entry["user"]), self._secrets.text(entry["password"]))
                server.send_message(message)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ReactorError(f"the mail server {entry['server']}: {reason}") from error

    def _slack(self, entry: Mapping[str, Any], call: Call, subject: str) -> None:
        text = f"*{_escaped(subject)}*\n{_escaped(str(call.options['text']))}"
        answer = _http.query(
            self._secrets.text(entry["url"]),
            method="POST",
            data={"text": text},
            header_dict={"Content-Type": "application/json"},
            status=True,
            timeout=call.timeout or DEFAULT_SECONDS,
            raise_error=False,
        )
        if answer.get("error"):
            # The address is a secret, so nothing but the status may be said.
            status = answer.get("status")
            said = f"answered with the status {status}" if status else "cannot be asked"
            raise ReactorError(f"the webhook {entry['url']!r} {said}")


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())[:500]


def _escaped(text: str) -> str:
    """Return text that Slack shows as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
