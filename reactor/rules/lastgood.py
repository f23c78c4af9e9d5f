"""Last good versions of broken files, told by the process that has them to one that has not.

A file on disk no longer holds what is in force of it, so whoever only reads files would take
other rules for those in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reactor.rules.loading import Makers
from reactor.rules.loadstate import LoadState, Reaction, Text
from reactor.rules.saltfile import ReactorFile
from reactor.rules.snapshot import Snapshot
from reactor.rules.templates import Sources


def kept(state: LoadState) -> dict[str, Any]:
    """Return the last good versions that are in force, as plain values; see `restored`."""
    return {
        "rule_files": {
            path: file.text for path, file in state.rule_files.items() if file.errors and file.good
        },
        "reactions": {
            path: _told(reaction.file.sources)
            for path, reaction in state.reactions.items()
            if reaction.error is not None and reaction.file is not None
        },
    }


def restored(told: Mapping[str, Any]) -> Snapshot:
    """Return what a load is to begin with, so that it keeps what `kept` told of another process."""
    makers = Makers()
    # No text has these digests, so the load reads what the files hold now.
    rule_files = {
        path: makers.rule_file(Text(path, b"", text, None))
        for path, text in told["rule_files"].items()
    }
    reactions = {
        path: Reaction((), ReactorFile(makers.templates.template(_sources(path, one))))
        for path, one in told["reactions"].items()
    }
    return Snapshot(state=LoadState(rule_files=rule_files, reactions=reactions))


def _told(sources: Sources) -> dict[str, Any]:
    links = [[parent, name, path] for (parent, name), path in sources.links.items()]
    return {"texts": dict(sources.texts), "links": links}


def _sources(root: str, told: Mapping[str, Any]) -> Sources:
    links = {(parent, name): path for parent, name, path in told["links"]}
    return Sources(root, told["texts"], links)
