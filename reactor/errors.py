"""The errors of the reactor: each message is one line that says what, where and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from bus.errors import BusError


class ReactorError(BusError):
    """Something that the reactor could not do."""


class DeposedError(ReactorError):
    """Another reactor of this master took over: this one must not write or act any more."""


class RuleError(ReactorError):
    """A rule that is refused when it is read, or that cannot be worked out for an event.

    Attributes:
        problem: what is wrong, without the place.
        file: the rule file, or an empty string.
        line: the line in ``file``, counted from 1, or 0.
        rendered: whether ``line`` counts the lines that a template made, not those of ``file``.
        path: where within the file, such as ``restart.do[0].args[1]``, or an empty string.
    """

    status = 422

    def __init__(
        self, problem: str, file: str = "", line: int = 0, path: str = "", *, rendered: bool = False
    ) -> None:
        problem = " ".join(problem.split())
        if rendered and line:
            where = f"{file}: line {line} of the rendered file"
        else:
            where = f"{file}:{line}" if line else file
        super().__init__(": ".join(part for part in (where, path, problem) if part))
        self.problem = problem
        self.file = file
        self.line = line
        self.path = path
        self.rendered = rendered


def path_text(path: Iterable[str | int]) -> str:
    """Return a path within a file as people read it.

    >>> path_text(("restart", "do", 0, "args", 1))
    'restart.do[0].args[1]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
