"""``local``: send a job to minions, by way of the link server."""

from __future__ import annotations

from typing import Any

from bus import cliargs
from bus.errors import BusError
from bus.rpc import Caller
from bus.running import current_user
from reactor.engine.actions import Done
from reactor.engine.firing import Reaction
from reactor.rules.model import Call


class LocalAction:
    """Publishes a job, and is done once the link server has taken it.

    As in Salt nobody waits for the minions: their returns are events, which other rules match.
    While the link server is away the job waits, and the key makes a repeat harmless.
    """

    def __init__(self, link: Caller) -> None:
        self._link = link
        self._user = current_user()

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Ask the link server to publish the job."""

        def replied(answer: Any, error: BusError | None) -> None:
            if error:
                done(None, str(error))
            else:
                done({"jid": answer["jid"], "minions": answer["minions"]}, None)

        params = {
            "tgt": call.target,
            "tgt_type": call.target_type,
            "fun": call.function,
            "arg": cliargs.condense(list(call.args), dict(call.kwargs)),
            "user": self._user,
            "key": f"{reaction.id}/{call.ident}{_again(call)}",
            **{name: call.options[name] for name in ("ret", "timeout") if name in call.options},
        }
        self._link.call("jobs.publish", params, replied)


def _again(call: Call) -> str:
    """Return what tells a further attempt from a first one that is repeated after a crash."""
    return f"#{call.attempt}" if call.attempt > 1 else ""
