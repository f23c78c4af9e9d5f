"""Which roles a master and a minion have, and where each one can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import endpoints
from bus.stopping import Stop
from reactor.supervisor import Role


def master_roles(opts: Mapping[str, Any]) -> list[Role]:
    """Return the master's roles in the order in which they start.

    What they need is imported here, before any of them is forked, so that they share it.
    """
    from bus.broker import process as bus_process
    from bus.config import private_dir
    from bus.descriptors import raise_limit, warn_if_few
    from bus.keys import KeyStore
    from bus.link.server import LinkServer
    from reactor.engine import process as engine_process
    from reactor.engine.state import prepare

    def bus_role(stop: Stop) -> None:
        # Before the first event: a reactor that is new reads from here on.
        prepare(private_dir(opts["state_dir"]))
        raise_limit()
        bus_process.run(opts, stop)

    def link_role(stop: Stop) -> None:
        limit = raise_limit()
        accepted = KeyStore(opts["pki_dir"]).counts()["minions"]
        warn_if_few(limit, accepted, "accepted minions")
        LinkServer(opts).run(stop)

    def reactor_role(stop: Stop) -> None:
        engine_process.run(opts, stop)

    return [
        Role("bus", bus_role, endpoints.master_pull(opts)),
        Role("link", link_role, endpoints.master_link(opts)),
        Role("reactor", reactor_role, endpoints.master_reactor(opts)),
    ]


def minion_role(opts: Mapping[str, Any]) -> Role:
    """Return the minion's role."""
    from bus.minion.daemon import Minion

    def run(stop: Stop) -> None:
        Minion(opts).run(stop)

    return Role("minion", run, endpoints.minion_pull(opts))


def http_role(opts: Mapping[str, Any]) -> Role:
    """Return the role that serves HTTP. The rest goes on without it.

    What it needs is imported in its own process: nobody else has a use for it.
    """

    def run(stop: Stop) -> None:
        from reactor.http.answering import Answering

        with Answering(opts) as answering:
            from reactor.http import process

            process.run(opts, stop, answering)

    return Role("http", run, endpoints.master_http(opts), keep=False)
