"""The documentation is true: its links, its commands, its rules, and what its pages promise."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from reactor.cli.program import program
from reactor.cli.settings import ListingGroup
from reactor.rules.loading import RuleSet
from tests.system import ROOT, System, running, wait_until

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")]
    if "_build" not in path.parts
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)")
_HEREDOC = re.compile(r"cat > (\S+) <<'END'\n(.*?)^END\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}"


def blocks(language: str) -> list[Block]:
    """Return the blocks of one language, of all pages."""
    return [
        Block(page, number, found[1], found[2])
        for page in PAGES
        for number, found in enumerate(_BLOCK.finditer(page.read_text()), 1)
        if found[1] == language
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each line that calls the program."""
    for line in _HEREDOC.sub("", text).splitlines():
        if re.match(r"(/\S*/)?reactor ", line):
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Each link to a file leads to one."""
    text = _CODE.sub("", _BLOCK.sub("", page.read_text()))
    for target in _LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_commands(block: Block) -> None:
    """Each command line names a command, and only options that it has."""
    for words in commands(block.text):
        command, context = _command(words[1:])
        named = [word for word in words if word.startswith("--") and word != "--"]
        known = {option for param in command.get_params(context) for option in param.opts}
        assert set(named) <= known, " ".join(words)


def _command(words: list[str]) -> tuple[click.Command, click.Context]:
    command: click.Command | None = program
    context = click.Context(program)
    while isinstance(command, click.Group):
        lists = isinstance(command, ListingGroup) and (not words or words[0].startswith("-"))
        command = command.get_command(context, "list" if lists else words.pop(0))
    assert command is not None
    return command, context


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python(block: Block) -> None:
    """Each piece of Python compiles, and imports only what there is."""
    compile(block.text, str(block), "exec")
    for name in re.findall(r"^import ([\w.]+)", block.text, re.MULTILINE):
        assert importlib.util.find_spec(name), name


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_rules(block: Block, tmp_path: Path) -> None:
    """Each native rule would be loaded without a problem."""
    value = yaml.load(block.text, yaml.BaseLoader)
    assert isinstance(value, dict)
    if not any(isinstance(rule, dict) and "do" in rule for rule in value.values()):
        return
    (tmp_path / "rule.yaml").write_text(block.text)
    snapshot = RuleSet(rules=["rule.yaml"], conf_dir=str(tmp_path)).load()
    assert [str(problem) for problem in snapshot.problems] == []
    assert len(snapshot.rules) == len(value)


def test_generated_pages() -> None:
    """The pages that follow from the code are those that it would write now."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, make in generate.PAGES.items():
        page = ROOT / "docs" / "reference" / name
        assert page.read_text() == make(), f"run: python docs/generate.py ({name} is old)"


def test_pages_build(tmp_path: Path) -> None:
    """Sphinx builds all pages without a warning."""
    pytest.importorskip("sphinx")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").is_file()


def test_readme(tmp_path: Path) -> None:
    """The README's rule does what it says, when written, edited, broken and mended."""
    name, rule = _HEREDOC.search((ROOT / "README.md").read_text()).groups()
    thing, mended = tmp_path / "thing", tmp_path / "mended"
    rule = rule.replace("/tmp/thing", str(thing))
    with running(tmp_path) as system:
        file = tmp_path / name
        assert file.parent.is_dir()
        _save(system, file, rule)
        look = ("cmd", "*", "file.contains", str(thing), "up")
        system.run(*look, code=1)
        wait_until(thing.exists)
        assert "True" in system.run(*look).stdout
        shown = system.run("events", "myco/*", "--since", "10m", "--timeout", "1").stdout
        assert "myco/thing/restarted" in shown

        thing.unlink()
        _save(system, file, rule.replace("  on:", "  onn:"), "reactor/rules/error")
        assert f"{file}:" in system.run("check", code=1).stdout
        assert "did you mean 'on'?" in system.run("rules").stderr
        system.run(*look, code=1)
        wait_until(thing.exists)

        _save(system, file, rule.replace(str(thing) + ",", str(mended) + ","))
        thing.unlink()
        system.run(*look, code=1)
        wait_until(mended.exists)
        assert not thing.exists()


def _save(system: System, file: Path, text: str, expected: str = "reactor/rules/reloaded") -> None:
    """Write a rule file and wait until the reactor has said what it thinks of it."""
    events = system.events()
    file.write_text(text)
    system.expect(expected, after=events[-1].seq if events else 0)
