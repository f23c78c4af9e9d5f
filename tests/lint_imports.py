"""Checks who imports whom: two packages, their layers, and a pure core. Part of ``make lint``.

The table below is the same that docs/explanation/architecture.md tells in words.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bus", "reactor")

PURE = (
    "bus.cliargs",
    "bus.durations",
    "bus.errors",
    "bus.frames",
    "bus.jid",
    "bus.jsontext",
    "bus.link.absence",
    "bus.link.autosign",
    "bus.link.backoff",
    "bus.link.budget",
    "bus.link.dropreport",
    "bus.link.dues",
    "bus.link.hellos",
    "bus.link.held",
    "bus.link.items",
    "bus.link.mayfire",
    "bus.link.owing",
    "bus.link.peers",
    "bus.link.presence",
    "bus.link.protocol",
    "bus.link.replies",
    "bus.link.roster",
    "bus.link.rotation",
    "bus.link.standing",
    "bus.link.streams",
    "bus.link.turns",
    "bus.link.vigil",
    "bus.record",
    "bus.regexes",
    "bus.store",
    "bus.tags",
    "bus.targets",
    "bus.wire",
    "bus.yamlfile",
    "reactor.engine.firing",
    "reactor.engine.statistics",
    "reactor.errors",
    "reactor.rules",
)
"""Modules, and packages with all that is in them, without files, sockets, clocks and threads."""

READERS = ("reactor.rules.loading", "reactor.rules.sources")
"""The two in the pure package that read files, so that none of the others has to."""

WORLD = (
    "asyncio",
    "ctypes",
    "fcntl",
    "glob",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "watchdog",
    "zmq",
)
"""What a pure module does without."""

ALLOWED = {
    ("bus.jid", "threading"): "job ids are unique in a process, whoever asks",
    ("bus.jid", "time"): "the clock that JidMaker takes unless it is given another",
    ("reactor.rules.sandbox", "threading"): "steps are counted for each thread",
}
"""Exceptions, each with its reason."""


@dataclass(frozen=True)
class Layer:
    """A part of the tree and what it may not import.

    Attributes:
        part: a module, or a package with all that is in it.
        never: modules or packages.
        why: the reason, for whoever meets the error.
    """

    part: str
    never: tuple[str, ...]
    why: str


LAYERS = (
    Layer("bus", ("reactor",), "the bus is a library of its own"),
    Layer("reactor.rules", ("reactor.engine", "reactor.cli"), "rules do not know who runs them"),
    Layer("reactor.engine", ("reactor.cli",), "the engine does not know who started it"),
    Layer("reactor.supervisor", ("reactor.cli", "reactor.engine"), "it runs any role"),
)

ONLY_IN = {"msgpack": "bus.wire"}
"""Libraries that one module keeps to itself."""


def main(root: Path) -> int:
    """Print what is wrong in the packages below ``root`` and return the exit status."""
    problems = [problem for path in sources(root) for problem in check(path, root)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def sources(root: Path) -> list[Path]:
    """Return the source files of both packages."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def check(path: Path, root: Path) -> Iterator[str]:
    """Yield a line for each import in ``path`` that is not allowed."""
    module = module_of(path.relative_to(root))
    for line, imported in imports(path, module):
        for why in wrong(module, imported):
            yield f"{path.relative_to(root)}:{line}: {module} imports {imported}: {why}"


def module_of(path: Path) -> str:
    """Return the name of the module in the file ``path``.

    >>> module_of(Path("bus/config/__init__.py"))
    'bus.config'
    """
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package=path.name == "__init__.py")
            # `from bus import wire` may mean a module or a name in one: look at both.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    up = node.level - 1 if is_package else node.level
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def wrong(module: str, imported: str) -> Iterator[str]:
    """Yield why ``module`` may not import ``imported``; nothing if it may."""
    for layer in LAYERS:
        if _within(module, layer.part) and any(_within(imported, name) for name in layer.never):
            yield layer.why
    top = imported.partition(".")[0]
    if is_pure(module) and top in WORLD and (module, top) not in ALLOWED:
        yield "it is pure: pass in what it needs"
    if top in ONLY_IN and module != ONLY_IN[top]:
        yield f"only {ONLY_IN[top]} knows it"


def is_pure(module: str) -> bool:
    """Say whether ``module`` belongs to the pure core."""
    return module not in READERS and any(_within(module, part) for part in PURE)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
