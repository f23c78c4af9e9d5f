"""The reactor of a minion: the same engine on the minion's own bus, which keeps no events.

It has no journal to go back to. What happens on the bus while it is not there, it does not see,
and reactions that were under way when it ended are not begun again; throttles, counts and
schedules survive.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from bus import endpoints, loader, rpc
from bus.config import minion_config, private_dir
from bus.errors import BusError
from bus.feed import Feed, LiveFeed
from bus.listener import Listener, open_listener
from bus.loader import custom
from bus.record import Event
from bus.stopping import Stop
from reactor.engine.actions import Action
from reactor.engine.actions.functions import FunctionAction
from reactor.engine.process import PATIENCE, ReactorRole, pause
from reactor.engine.sources import ConfiguredRules
from reactor.engine.state import State

log = logging.getLogger(__name__)

MAX_RECENT = 10_000
"""Events that are kept for rules which wait upon them."""


def run(opts: Mapping[str, Any], stop: Stop) -> None:
    """Serve as a minion's reactor until ``stop`` is set.

    Raises:
        NotRunningError: the minion's bus is not there.
        BusError: the state or a socket cannot be opened.
    """
    private_dir(opts["state_dir"])
    with contextlib.ExitStack() as stack:
        role = MinionReactorRole(opts, stop, stack)
        role.begin()
        role.serve()


class RecentFeed(LiveFeed):
    """A live feed that remembers its newest events, as no journal does."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener, hears_all=True)
        self._recent: OrderedDict[int, bytes] = OrderedDict()

    def take(self, limit: int = MAX_RECENT, *, drain: bool = True) -> Any:
        """Return the next events, and remember them."""
        bus_id = self.bus_id
        batch = super().take(limit, drain=drain)
        if self.bus_id != bus_id:
            self._recent.clear()
        for seq, raw in batch:
            self._recent[seq] = raw
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        return batch

    def recall(self, seq: int) -> Event | None:
        """Return an event that is still remembered."""
        raw = self._recent.get(seq)
        return None if raw is None else Event.from_wire(raw, seq, self.bus_id)


class MinionReactorRole(ReactorRole):
    """What a reactor has on a minion."""

    def _pull_address(self) -> str:
        return endpoints.minion_pull(self._opts)

    def _address(self) -> str:
        return endpoints.minion_reactor(self._opts)

    def _open_link(self, stack: contextlib.ExitStack) -> rpc.Caller | None:  # noqa: ARG002
        return None

    def _open_feed(self, state: State) -> Feed:
        left = state.unfinished()
        if left:
            log.warning("%d reactions that were under way are not begun again", len(left))
        state.forget_events()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return RecentFeed(open_listener(endpoints.minion_fires(self._opts)))
            except BusError:
                if self._stop.is_set() or time.monotonic() > deadline:
                    raise
                pause(self._stop, 0.05)

    def _configured_rules(self) -> ConfiguredRules:
        return ConfiguredRules(self._opts, minion_config)

    def _resume(self) -> None:
        """Nothing is known of events of before."""

    def _recall(self, seq: int) -> Event | None:
        return self._feed.recall(seq) if isinstance(self._feed, RecentFeed) else None

    def _own_actions(self, functions: Callable[..., FunctionAction]) -> dict[str, Action]:
        return {"caller": functions("caller", self._load_caller, files=self._custom_files)}

    def _load_caller(self) -> loader.Functions:
        grains = loader.grains(self._opts, custom.custom_dirs(self._opts, "grains"))
        dirs = custom.custom_dirs(self._opts, "modules")
        return loader.execution_modules(self._opts, grains=grains, dirs=dirs)

    def _custom_files(self) -> object:
        """What the master brings while the reactor runs counts, too."""
        return custom.signature(
            directory for kind in custom.KINDS for directory in custom.custom_dirs(self._opts, kind)
        )
