"""What a person sees of ``reactor up``: events, and under each one what the rules made of it."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus import endpoints, rpc
from bus.calls import spoken
from bus.cliargs import KWARG_MARK
from bus.errors import BusError, NotRunningError
from bus.native import Connection, connect
from bus.record import Event
from bus.stopping import Stop
from reactor import __version__
from reactor.cli.output import compact, failure, safe

LINES_A_SECOND = 50
"""More than this nobody reads; the rest of the second is counted and the count is said."""

QUIET_SECONDS = 0.7
"""How long nothing must happen after the first reaction before the next steps are shown."""

PATIENCE_SECONDS = 5.0
"""When the next steps are shown even if no rule has reacted to anything."""

_REACTION = re.compile(r"reactor/reaction/(?P<rule>.+)/(?P<how>done|failed|dead)\Z", re.DOTALL)
_JOB_RETURN = re.compile(r"salt/job/\d+/ret/[^/]+\Z")
_JOB_NEW = re.compile(r"salt/job/\d+/new\Z")
_RUN_NEW = re.compile(r"salt/(run|wheel)/\d+/new\Z")
_RUN_RETURN = re.compile(r"salt/(run|wheel)/\d+/ret\Z")
_STAMP = " " * len("09:30:01.123")
_NARROWEST = 40
_MOST_NAMES = 5

_STYLES = {
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "green": "\x1b[32m",
    "red": "\x1b[31m",
    "yellow": "\x1b[33m",
    "cyan": "\x1b[36m",
}
_RESET = "\x1b[0m"

Paint = Callable[[str, str], str]
"""Gives a text a style, one of those that a terminal knows here."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the banner says.

    Attributes:
        minion: the local minion's id.
        address: where minions connect.
        directory: the configuration directory.
        rules: where rules come from.
        log_file: where the log is; empty for the terminal.
        is_new: whether the directory was made just now.
        url: where HTTP is served; empty if it is not.
    """

    minion: str
    address: str
    directory: str
    rules: tuple[str, ...]
    log_file: str
    is_new: bool
    url: str = ""


def plain(text: str, _style: str) -> str:
    """Give no style: for files and pipes."""
    return text


def coloured(text: str, style: str) -> str:
    """Give a style by ANSI's escape sequences."""
    return f"{_STYLES[style]}{text}{_RESET}"


# -- the lines, without a clock or a terminal ---------------------------------------------------


class Narrator:
    """Turns events into lines: each event, and under it the reactions that it caused.

    Args:
        paint: gives styles.
        width: how wide a line may be.
    """

    def __init__(self, paint: Paint = plain, width: int = 100) -> None:
        self._paint = paint
        self._width = max(width, _NARROWEST)
        self._last_seq = 0
        self.reactions = 0

    def lines(self, event: Event) -> list[str]:
        """Return the lines that an event is worth."""
        reaction = _REACTION.match(event.tag)
        if reaction:
            self.reactions += 1
            return self._reaction(reaction["how"], event.data)
        if event.tag == "reactor/rules/reloaded":
            remaining = map(_mapping, _items(event.data.get("remaining")))
            return [self._reloaded(event), *map(self._problem, remaining)]
        if event.tag == "reactor/rules/error":
            return [self._problem(event.data)]
        if event.tag == "reactor/rules/warning":
            return [problem_line(event.data, self._paint, "yellow")]
        self._last_seq = event.seq
        return [self._event(event)]

    def more(self, count: int) -> str:
        """Return the line that stands for events that were not shown."""
        return self._paint(f"{_STAMP}  … {count:,} more events", "dim")

    def _event(self, event: Event) -> str:
        head, tag = time_of_day(event.stamp), safe(event.tag)
        left = self._width - len(head) - len(tag) - 4
        about = summary(event)
        text = safe(about) if len(about) <= left else safe(about)[: max(left - 1, 0)] + "…"
        tail = f"  {self._paint(text, 'dim')}" if about and left > 1 else ""
        return f"{self._paint(head, 'dim')}  {self._paint(tag, 'cyan')}{tail}"

    def _reaction(self, how: str, data: Mapping[str, Any]) -> list[str]:
        cause = _mapping(data.get("event"))
        rule = self._paint(safe(str(data.get("rule", "?"))), "bold")
        made = [_mapping(call) for call in _items(data.get("calls"))]
        # Of a sequence that failed, what stands behind the failure was never begun.
        calls = [describe_call(call) for call in made if "result" in call or "error" in call]
        took = self._paint(f"({spoken_seconds(data.get('seconds'))})", "dim")
        what = f" → {safe(', '.join(calls))}" if calls else ""
        text = f"{_STAMP}  └─ {rule}{what}  {took}"
        if cause.get("seq") != self._last_seq:
            text += self._paint(f"  ← {safe(str(cause.get('tag', '')))}", "dim")
        if how == "done":
            return [text]
        error = safe(str(data.get("error", how))).replace("\n", " ")
        return [text, f"{_STAMP}     {self._paint('failed: ' + error, 'red')}"]

    def _reloaded(self, event: Event) -> str:
        data = event.data
        parts = (_named("", data.get("changed")), _named("gone: ", data.get("removed")))
        news = "; ".join(part for part in parts if part) or "nothing new"
        text = f"rules reloaded: {data.get('rules', '?')} in force ({news}{_standing(data)})"
        took = self._paint(f"({spoken_seconds(data.get('seconds'))})", "dim")
        stamp = self._paint(time_of_day(event.stamp), "dim")
        return f"{stamp}  {self._paint(safe(text), 'yellow')}  {took}"

    def _problem(self, data: Mapping[str, Any]) -> str:
        return problem_line(data, self._paint)


def problem_line(data: Mapping[str, Any], paint: Paint = plain, style: str = "red") -> str:
    """Return the line that says what is wrong with a rule file, or may be."""
    kept = " (the last good version stays in force)" if data.get("kept") else ""
    text = safe(f"{data.get('source', '')}: {data.get('message', '')}{kept}")
    return f"{_STAMP}  {paint('! ' + text, style)}"


def summary(event: Event) -> str:
    """Return, in a few words, what an event says beside its tag."""
    data = event.data
    if _JOB_RETURN.match(event.tag):
        return _job_return(data)
    if _JOB_NEW.match(event.tag):
        minions = [str(minion) for minion in _items(data.get("minions"))]
        return f"{spoken(data.get('fun', ''))} on {', '.join(minions) or 'no minion'}"
    if _RUN_NEW.match(event.tag):
        given = [text for text in map(_argument, _items(data.get("fun_args"))) if text]
        return " ".join([str(data.get("fun", "")), *given])
    if _RUN_RETURN.match(event.tag):
        return _job_return(data)
    if event.tag.startswith("salt/minion/") and event.tag.endswith("/start"):
        return ""
    return compact(event.payload) if event.payload else ""


def _job_return(data: Mapping[str, Any]) -> str:
    fun, value, failed = spoken(data.get("fun", "")), data.get("return"), failure(data)
    if not failed:
        return f"{fun} returned {compact(value)}"
    text = " ".join(value.split()) if isinstance(value, str) else compact(value)
    return f"{fun} {failed}: {text}" if text else f"{fun} {failed}"


def _argument(value: Any) -> str:
    """Return an argument of a function; those by name without the mark that says so."""
    if isinstance(value, Mapping) and value.get(KWARG_MARK):
        value = {key: item for key, item in value.items() if key != KWARG_MARK}
        return compact(value) if value else ""
    return compact(value)


def describe_call(call: Mapping[str, Any]) -> str:
    """Return what a reaction did: ``local test.ping on web1``."""
    text = f"{call.get('kind', '?')} {call.get('function', '?')}"
    target = call.get("target")
    if target:
        text += f" on {target if isinstance(target, str) else ','.join(map(str, target))}"
    if target and _mapping(call.get("result")).get("minions") == []:
        text += " (no minion matches)"
    return text


def _standing(reload: Mapping[str, Any]) -> str:
    """Return how many problems a reload left, or that it ended the last one."""
    count = reload.get("problems")
    if count:
        return f"; {count} problem{'s' * (count != 1)}"
    return "; no problems now" if reload.get("solved") else ""


def _named(what: str, names: Any) -> str:
    """Return the first of some names, and how many there are besides."""
    texts = [str(name) for name in _items(names)]
    if len(texts) > _MOST_NAMES:
        texts[_MOST_NAMES:] = [f"and {len(texts) - _MOST_NAMES:,} more"]
    return what + ", ".join(texts) if texts else ""


def spoken_seconds(seconds: Any) -> str:
    """Return a time span as people say it: ``3 ms``, ``1.2 s``."""
    if not isinstance(seconds, int | float):
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def time_of_day(stamp: str) -> str:
    """Return the time of day of an ISO 8601 stamp, here, to the millisecond."""
    try:
        moment = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return _STAMP
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


class Throttle:
    """Lets so many lines a second through, and counts what it holds back. No clock of its own."""

    def __init__(self, limit: int = LINES_A_SECOND) -> None:
        self._limit = limit
        self._second = 0
        self._shown = 0
        self._held = 0

    def takes(self, now: float) -> bool:
        """Say whether an event at ``now`` (seconds) may be shown."""
        if int(now) != self._second:
            self._second, self._shown = int(now), 0
        if self._shown >= self._limit:
            self._held += 1
            return False
        self._shown += 1
        return True

    def held(self, now: float) -> int:
        """Return, once a second is over, how many events it held back; else 0."""
        if int(now) == self._second or not self._held:
            return 0
        held, self._held = self._held, 0
        return held


def banner(facts: Facts, rules: Mapping[str, Any], paint: Paint) -> list[str]:
    """Return the first lines: what runs, where, with which rules."""
    count = len(list(_items(rules.get("rules"))))
    problems = list(_items(rules.get("problems")))
    made = "  (made just now)" if facts.is_new else ""
    rows = {
        "minion": facts.minion,
        "master": facts.address,
        "config": facts.directory + made,
        "rules": f"{count} from {', '.join(facts.rules) or 'no file: see --rules'}",
        "log": facts.log_file or "this terminal",
    }
    head = f"Reactor {__version__} is up; Ctrl-C ends it"
    lines = [paint(head, "bold")]
    lines += [f"  {paint(f'{name:<8}', 'dim')}{safe(text)}" for name, text in rows.items()]
    lines += [problem_line(_mapping(problem), paint) for problem in problems]
    return [*lines, ""]


def next_steps(facts: Facts, paint: Paint) -> list[str]:
    """Return what to try next."""
    edit = facts.rules[0] if facts.rules else f"{facts.directory}/rules"
    steps = [
        "reactor fire my/tag '{a: 1}'",
        f"reactor cmd {facts.minion} test.ping",
        "reactor events",
    ]
    if facts.url:
        steps.append(f'curl -SsNk "{facts.url}/events?token=$(reactor token create)"')
    lines = ["", paint("Next: type in a second terminal, in the same folder", "bold")]
    lines += [f"    {paint(safe(step), 'green')}" for step in steps]
    return [*lines, f"or edit the rules in {safe(edit)}: they are in force as you save them", ""]


# -- the process --------------------------------------------------------------------------------


def run(opts: Mapping[str, Any], facts: Facts, since: float, stop: Stop, *, colour: bool) -> None:
    """Show what happens until ``stop`` is set.

    Args:
        opts: the master's options.
        facts: for the banner.
        since: seconds since 1970: events from then on are shown.
        stop: ends it.
        colour: whether lines are coloured.
    """
    paint = coloured if colour else plain
    with contextlib.suppress(BrokenPipeError):
        _write(banner(facts, _ask_rules(opts), paint))
        _show(opts, Console(_narrator(colour=colour), next_steps(facts, paint)), since, stop)


def run_again(opts: Mapping[str, Any], stop: Stop, *, colour: bool) -> None:
    """Go on from now, without the first lines, in place of a console that was killed.

    Args:
        opts: the master's options.
        stop: ends it.
        colour: whether lines are coloured.
    """
    with contextlib.suppress(BrokenPipeError):
        _show(opts, Console(_narrator(colour=colour), []), time.time(), stop)


def _narrator(*, colour: bool) -> Narrator:
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 160
    return Narrator(coloured if colour else plain, width)


def _show(opts: Mapping[str, Any], console: Console, since: float, stop: Stop) -> None:
    while not stop.is_set():
        with contextlib.suppress(NotRunningError), connect("master", opts) as connection:
            since = console.follow(connection, since, stop)


def _ask_rules(opts: Mapping[str, Any]) -> Mapping[str, Any]:
    with contextlib.suppress(BusError):
        return _mapping(rpc.call(endpoints.master_reactor(opts), "rules", timeout=3.0))
    return {}


class Console:
    """Reads events and writes lines.

    Args:
        narrator: makes the lines.
        steps: the lines that say what to do next, shown once.
        write: writes lines.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        narrator: Narrator,
        steps: list[str],
        write: Callable[[Iterable[str]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._narrator = narrator
        self._steps = steps
        self._write = write or _write
        self._clock = clock
        self._throttle = Throttle()
        self._began = clock()
        self._last_line = self._began

    def follow(self, connection: Connection, since: float, stop: Stop) -> float:
        """Show events until the end is asked for; return from when on to go on."""
        listening = connection.listen(since=since)
        try:
            while not stop.is_set():
                event = listening.next(0.1)
                if event:
                    self.show(event)
                self.tick()
        finally:
            listening.close()
        return time.time()

    def show(self, event: Event) -> None:
        """Write the lines of one event, unless there are too many."""
        now = self._clock()
        if self._throttle.takes(now):
            self._write(self._narrator.lines(event))
            self._last_line = now

    def tick(self) -> None:
        """Say what was held back, and once, when all is quiet, what to do next."""
        now = self._clock()
        held = self._throttle.held(now)
        if held:
            self._write([self._narrator.more(held)])
        if self._steps and self._is_time(now):
            self._write(self._steps)
            self._steps = []

    def _is_time(self, now: float) -> bool:
        reacted = self._narrator.reactions > 0 and now - self._last_line > QUIET_SECONDS
        return reacted or now - self._began > PATIENCE_SECONDS


def _write(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
