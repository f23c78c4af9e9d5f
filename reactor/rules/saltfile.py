"""Salt's reactor files as rules: rendered for each event, parsed, and read as calls."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bus.record import Event
from bus.yamlfile import Lines, YamlError, load
from reactor.errors import RuleError
from reactor.rules.model import Call, Functions, Plan, Source
from reactor.rules.policies import Policy
from reactor.rules.policies.mode import Mode
from reactor.rules.reactions import Warn, read_calls
from reactor.rules.shapes import Shapes
from reactor.rules.templates import SaltFunctions, Sources, Template

_log = logging.getLogger(__name__)

_CACHED = 128
_CACHED_LETTERS = 4_096
"""Only short texts are remembered: 128 long ones, made of hostile data, would fill the memory."""

_ID = re.compile(r"^(['\"]?)([^\s'\"#{][^:'\"{]*)\1:", re.MULTILINE)
EMPTY = "the file renders to nothing"


class ReactorFile:
    """One version of a reactor file: its template, and what its texts were read as."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._path = template.sources.root
        self._ids = _find_ids(template.sources.texts[self._path])
        self._warned: set[str] = set()
        self._remembered: dict[str, tuple[Call, ...]] = {}
        self._shapes = Shapes(self._read_quietly, self._ids)

    @property
    def sources(self) -> Sources:
        """The texts that it was made of."""
        return self._template.sources

    def calls(self, values: Mapping[str, Any]) -> tuple[Call, ...]:
        """Return what the file says is to be done about an event.

        Raises:
            RuleError: it cannot be rendered, parsed or read.
        """
        pieces = self._template.pieces(values)
        text = "".join(pieces)
        if not text or text.isspace():
            return ()
        if len(text) > _CACHED_LETTERS:
            return self._read(text)[0]
        calls = self._remembered.get(text)
        if calls is None:
            calls = self._shapes.calls(pieces)
            if calls is None:
                calls = self._read(text)[0]
            self._remembered[text] = calls
            if len(self._remembered) > _CACHED:
                del self._remembered[next(iter(self._remembered))]
        return calls

    def check(self) -> None:
        """Read a file without any template as an event would have it read.

        Raises:
            RuleError: it cannot be parsed or read; its line is that of the file.
        """
        if self._template.is_fixed:
            try:
                self.calls({})
            except RuleError as error:
                raise RuleError(error.problem, error.file, error.line, error.path) from error

    def _read(self, text: str, warn: Warn | None = None) -> tuple[tuple[Call, ...], Lines]:
        try:
            value, lines = load(text, self._path)
        except YamlError as error:
            raise RuleError(error.problem, self._path, error.line, rendered=True) from error
        if value is None:
            return (), lines
        return read_calls(value, lines, self._path, self._ids, warn or self._warn), lines

    def _read_quietly(self, text: str) -> tuple[tuple[Call, ...], Lines]:
        """Read a text with placeholders in it, of which nobody should be told."""
        return self._read(text, self._refuse)

    @staticmethod
    def _refuse(warning: RuleError) -> None:
        raise warning

    def _warn(self, warning: RuleError) -> None:
        text = f"{warning.file}: {warning.path}: {warning.problem}"
        # Once for each version of the file: events come by the thousand.
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text, extra={"action": "rule_warning"})


def _find_ids(text: str) -> dict[str, int]:
    """Return the line of each ID that stands in the file as it is."""
    return {
        found[2].strip(): text.count("\n", 0, found.start()) + 1 for found in _ID.finditer(text)
    }


@dataclass(frozen=True, slots=True)
class SaltRule:
    """One file of one entry of a ``reactor:`` map. See `reactor.rules.model.Rule`.

    Attributes:
        file: the reactor file's present version.
    """

    name: str
    source: Source
    patterns: tuple[str, ...]
    file: ReactorFile
    description: str = ""
    priority: int = 0
    enabled: bool = True
    style: Literal["salt"] = "salt"
    policies: tuple[Policy, ...] = ()
    mode: Mode | None = None

    def values(self, event: Event) -> dict[str, Any]:
        """Return what the file sees of ``event``, but for its functions."""
        return {"tag": event.tag, "data": event.data, "payload": event.payload}

    def plan(
        self,
        event: Event,
        functions: Functions,
        window: Mapping[str, Any] | None = None,  # noqa: ARG002 - the protocol's
    ) -> Plan:
        """Render the file for ``event`` and return its calls.

        Raises:
            RuleError: the file cannot be rendered, parsed or read.
        """
        calls = self.file.calls({**self.values(event), "salt": SaltFunctions(functions)})
        return Plan(calls) if calls else Plan((), EMPTY)
