"""Which roles a master and a minion have, and where each one can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus import durations, endpoints
from bus.stopping import Stop
from reactor.supervisor import Role

_REACTORS = 5
"""Times as long as others a reactor may not come round: a template calls what functions it likes,
and whoever is killed for it would begin with the same event again."""


def master_roles(opts: Mapping[str, Any]) -> list[Role]:
    """Return the master's roles in the order in which they start.

    What they need is imported here, before any of them is forked, so that they share it.
    """
    from bus.broker import process as bus_process
    from bus.config import private_dir
    from bus.descriptors import raise_limit, warn_if_few
    from bus.keys import KeyStore
    from bus.link.server import LinkServer
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

    return [
        Role("bus", bus_role, endpoints.master_pull(opts), patience=_patience(opts)),
        Role("link", link_role, endpoints.master_link(opts), patience=_patience(opts)),
        reactor_role(opts),
        *(
            reactor_role(opts, f"standby-{number}")
            for number in range(1, int(opts["reactor_standbys"]) + 1)
        ),
    ]


def reactor_role(opts: Mapping[str, Any], name: str = "", *, waits: bool = False) -> Role:
    """Return one of the master's reactors.

    Args:
        opts: the master's options.
        name: its name, if it is not the one that every master has.
        waits: whether it waits for a bus that is not there.
    """
    from reactor.engine import process as engine_process
    from reactor.engine.seat import MAIN

    name = name or MAIN

    def run(stop: Stop) -> None:
        engine_process.run(opts, stop, name, waits=waits)

    if opts["ipc_mode"] == "tcp":
        address = endpoints.master_reactor(opts)
    else:
        # Its own socket: whether it is the active one is for the reactors to say.
        address = endpoints.master_reactor_named(opts, name)
    return Role(name, run, address, patience=_REACTORS * _patience(opts))


def minion_roles(opts: Mapping[str, Any]) -> list[Role]:
    """Return the minion's roles: it has a reactor if its file names rules or a reactor map."""
    roles = [minion_role(opts)]
    if opts["reactor"] or opts["rules"]:
        from reactor.engine import minion as engine_minion

        def run(stop: Stop) -> None:
            engine_minion.run(opts, stop)

        patience = _REACTORS * _patience(opts)
        roles.append(Role("minion-reactor", run, endpoints.minion_reactor(opts), patience=patience))
    return roles


def minion_role(opts: Mapping[str, Any]) -> Role:
    """Return the minion's role."""
    from bus.minion.daemon import Minion

    def run(stop: Stop) -> None:
        Minion(opts).run(stop)

    return Role("minion", run, endpoints.minion_pull(opts), patience=_patience(opts))


def http_role(opts: Mapping[str, Any]) -> Role:
    """Return the role that serves HTTP. The rest goes on without it.

    What it needs is imported in its own process: nobody else has a use for it.
    """

    def run(stop: Stop) -> None:
        from reactor.http.answering import Answering

        with Answering(opts) as answering:
            from reactor.http import process

            process.run(opts, stop, answering)

    patience = _patience(opts)
    return Role("http", run, endpoints.master_http(opts), keep=False, patience=patience)


def _patience(opts: Mapping[str, Any]) -> float:
    return durations.seconds(opts["hang_after"])
