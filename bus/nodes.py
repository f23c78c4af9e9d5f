"""The two kinds of bus, a master's and a minion's: what configures each, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bus import endpoints
from bus.config import Opts, master_config, minion_config
from bus.errors import DataError


class Node(NamedTuple):
    """Whose bus it is.

    Attributes:
        name: ``"master"`` or ``"minion"``.
        config: reads its configuration.
        pull: says where the bus takes events and questions.
        fires: says where events come out together.
        direct: says where the file of its direct line is.
    """

    name: str
    config: Callable[[str | Path | None], Opts]
    pull: Callable[[Mapping[str, Any]], str]
    fires: Callable[[Mapping[str, Any]], str]
    direct: Callable[[Mapping[str, Any]], Path | None]

    def options(self, opts: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the options given, or else those that are found.

        Raises:
            DataError: they are no mapping.
            ConfigError: what is found cannot be read.
        """
        if opts is None:
            return self.config(None)
        if not isinstance(opts, Mapping):
            raise DataError(
                f"opts are a mapping, as bus.config.{self.name}_config(PATH) returns, "
                f"not {type(opts).__name__}"
            )
        return opts


MASTER = Node(
    "master",
    master_config,
    endpoints.master_pull,
    endpoints.master_fires,
    endpoints.master_direct,
)
MINION = Node(
    "minion",
    minion_config,
    endpoints.minion_pull,
    endpoints.minion_fires,
    endpoints.minion_direct,
)


def find(name: str) -> Node:
    """Return the node of this name.

    Raises:
        DataError: there is none.
    """
    for node in (MASTER, MINION):
        if name == node.name:
            return node
    raise DataError(f"the node of an event bus is 'master' or 'minion', not {name!r}")
