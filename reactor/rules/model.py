"""The values that rules are made of and make: where they stand, and what is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bus.record import Event
from reactor.rules.wording import Words

if TYPE_CHECKING:
    from reactor.rules.policies import Policy
    from reactor.rules.policies.mode import Mode
    from reactor.rules.program import Program

KINDS = frozenset({"local", "runner", "wheel", "caller", "event", "http", "exec", "log", "notify"})
"""What a call can be: Salt's four reaction types, the firing of an event, and what else a
native rule can do."""

Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a file; ``str()`` gives ``path:line``.

    Attributes:
        path: the file.
        line: the line counted from 1, or 0 where only the file is known.
    """

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(slots=True)  # frozen takes four times as long to make
class Call:
    """One thing to do, with every value worked out. Treat the values as read-only.

    Attributes:
        kind: one of `KINDS`.
        function: the function's name, such as ``service.restart``; for an event its tag, for
            ``http`` the address, for ``exec`` the program, for ``log`` the text, for ``notify``
            whom.
        args: positional arguments.
        kwargs: keyword arguments.
        target: who is meant (``local`` only).
        target_type: how ``target`` is read (``local`` only).
        data: the event's data (``event`` only).
        options: what else belongs to this kind of call, such as the ``timeout`` of a job.
        timeout: seconds that it may take, or 0 for no limit.
        attempt: the how manieth time it is tried.
        ident: Salt's ID of the reaction, or ``do[0]``.
        source: where it is written.

    Raises:
        ValueError: the kind is unknown, or the function has no name.
    """

    kind: str
    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: Any = ""
    target_type: str = "glob"
    data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 0.0
    attempt: int = 1
    ident: str = ""
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of call {self.kind!r}: use one of {sorted(KINDS)}")
        if not self.function:
            raise ValueError(f"a {self.kind} call without a name")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rule does about one event.

    Attributes:
        calls: what is to be done, in order.
        skipped: why nothing is done, such as ``when: data.fun == 'x' is false``.
        program: where the actions are more than a row of calls, what runs them; ``calls`` are
            then those that do not depend on how others end.
    """

    calls: tuple[Call, ...] = ()
    skipped: Words = ""
    program: Program | None = None

    @property
    def acts(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.calls) or self.program is not None


class Rule(Protocol):
    """A rule of either form, ready to be matched and planned."""

    @property
    def name(self) -> str:
        """Its own name, unique in its file."""
        ...

    @property
    def description(self) -> str:
        """A sentence for people, or an empty string."""
        ...

    @property
    def style(self) -> Literal["native", "salt"]:
        """Which form of file it comes from."""
        ...

    @property
    def source(self) -> Source:
        """Where it is written."""
        ...

    @property
    def patterns(self) -> tuple[str, ...]:
        """The globs, one of which a tag must match."""
        ...

    @property
    def priority(self) -> int:
        """Rules with a higher number are planned first."""
        ...

    @property
    def enabled(self) -> bool:
        """Whether it is matched at all."""
        ...

    @property
    def policies(self) -> tuple[Policy, ...]:
        """What is asked before it acts, in order; see `reactor.rules.policies`."""
        ...

    @property
    def mode(self) -> Mode | None:
        """What happens when it is to act while it still acts; None: it acts at once."""
        ...

    def values(self, event: Event) -> dict[str, Any]:
        """Return what its expressions see of ``event``."""
        ...

    def plan(
        self, event: Event, functions: Functions, window: Mapping[str, Any] | None = None
    ) -> Plan:
        """Work out what to do about ``event``, whose tag matches and whose policies passed it.

        Args:
            event: the event.
            functions: the functions that a Jinja template may call as ``salt['mod.fun']()``.
            window: what policies found out.

        Raises:
            RuleError: a value or template cannot be worked out for this event.
        """
        ...
