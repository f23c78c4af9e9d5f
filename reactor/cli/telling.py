"""The words of `reactor why` and `reactor trace`: lines for people. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from reactor.cli.output import safe

Line = tuple[str, str]
"""A text and its colour, or an empty one."""

_WIDEST = 160

_MARKS = {
    "done": ("ok", "green"),
    "failed": ("failed", "red"),
    "skipped": ("skipped", "yellow"),
    "stopped": ("stopped", "yellow"),
    "under way": ("under way", "cyan"),
    "no record": ("unknown", ""),
    "would match": ("would match", "green"),
    "disabled": ("disabled", "yellow"),
}


def explanation(found: Mapping[str, Any]) -> list[Line]:
    """Return the lines of what `reactor.engine.explaining` found out about an event or a tag."""
    lines = _event_lines(found) if found.get("event") else _no_event_lines(found)
    rules = found["rules"]
    if not rules:
        count = found["rules_in_force"]
        lines.append((f"no rule matches this tag ({count} in force)", "yellow"))
    for verdict in rules:
        lines += _verdict_lines(verdict)
    for off in found["disabled"]:
        lines.append((_off_text(off), "yellow"))
    if found["near"] and not rules:
        lines.append(("nearly:", ""))
        for near in found["near"]:
            text = f"  {near['rule']}: on {near['pattern']}: {near['why']}  ({near['source']})"
            lines.append((text, ""))
    lines += [_problem_line(problem) for problem in found["problems"]]
    if not rules:
        lines += [(f"{one['file']}: {one['message']}", "yellow") for one in found["warnings"]]
    lines += [(f"not known: {text}", "") for text in found["unknown"]]
    return [(safe(text), colour) for text, colour in lines]


def _off_text(off: Mapping[str, Any]) -> str:
    if off["state"] == "disabled":
        return f"  {off['rule']}: disabled  ({off['source']} says enabled: false)"
    return f"  {off['rule']}: {off['why']}  ({off['source']}); 'reactor rules enable' ends it"


def _event_lines(found: Mapping[str, Any]) -> list[Line]:
    event = found["event"]
    when = moment(event["stamp"])
    lines = [(f"event {event['seq']}  {event['tag']}  {when}  {compact(event['payload'])}", "bold")]
    cause = found.get("cause")
    if cause:
        text = f"fired by rule {cause.get('rule')}, because of event {cause.get('seq')} "
        lines.append((f"  {text}{cause.get('tag')} (chain of {cause.get('hops')})", ""))
    if found.get("stopped") and not found["rules"]:
        lines.append((f"  {found['stopped']}", "yellow"))
    return lines


def _no_event_lines(found: Mapping[str, Any]) -> list[Line]:
    return [(f"no event {found['tag']} is in the journal; if one came:", "bold")]


def _verdict_lines(verdict: Mapping[str, Any]) -> list[Line]:
    mark, colour = _MARKS.get(verdict["state"], (verdict["state"], ""))
    head = f"  {verdict['rule']}: {mark}"
    if verdict["state"] == "done" and verdict.get("seconds") is not None:
        head += f" in {spoken(verdict['seconds'])}"
    if verdict["state"] == "failed" and not any("error" in c for c in verdict.get("calls", ())):
        head += f": {_without(verdict.get('error', ''), verdict['source'])}"
    elif verdict.get("why"):
        head += f": {verdict['why']}"
    lines: list[Line] = [(f"{head}  ({verdict['source']})", colour)]
    lines += [(f"      {text}", "") for text in _steps(verdict)]
    lines += [(f"      {line}", tone) for line, tone in call_lines(verdict.get("calls") or ())]
    if "now" in verdict:
        lines.append((f"      by the rule as it is now: {verdict['now']}", ""))
        would = call_lines(verdict.get("would") or ())
        lines += [(f"        {line}", tone) for line, tone in would]
    if verdict["state"] == "failed" and verdict.get("id"):
        lines.append((f"      try it again: reactor dead retry {verdict['id']}", ""))
    if verdict.get("note"):
        lines.append((f"      {verdict['note']}", ""))
    return lines


def _steps(verdict: Mapping[str, Any]) -> list[str]:
    """Return what each part of a rule said that was asked before the one that stopped it."""
    texts = []
    for step in verdict.get("steps") or ():
        said = step["why"] or ("passed" if step["passed"] else "stopped it")
        text = said if said.startswith(step["policy"]) else f"{step['policy']}: {said}"
        if said != verdict.get("why"):
            texts.append(text)
    return list(dict.fromkeys(texts))


def _without(text: str, source: str) -> str:
    """Leave out the file where the line ends with it anyway."""
    return text.removeprefix(f"{source}: ")


def _problem_line(problem: Mapping[str, Any]) -> Line:
    line = f":{problem['line']}" if problem["line"] else ""
    kept = "; its last good version is in force" if problem["kept"] else ""
    text = f"failed to load: {problem['file']}{line}: {problem['message']}{kept}"
    return text, "red"


def trace_lines(traces: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return the lines of traces, each under its event."""
    lines: list[Line] = []
    for trace in traces:
        event = trace["event"]
        mark, colour = _MARKS.get(trace["state"], (trace["state"], ""))
        took = f" in {spoken(trace['seconds'])}" if trace.get("seconds") is not None else ""
        why = f": {trace['why']}" if trace.get("why") else ""
        when = moment(event.get("stamp", ""))
        head = f"{when}  {trace['rule']}: {mark}{took}{why}  (event {event['seq']} {event['tag']})"
        lines.append((head, colour))
        cause = trace.get("cause")
        if cause:
            lines.append((f"      because of rule {cause.get('rule')}, event {cause['seq']}", ""))
        if trace.get("error") and not any("error" in call for call in trace.get("calls", ())):
            lines.append((f"      {trace['error']}", "red"))
        lines += [(f"      {text}", "") for text in _steps(trace)]
        lines += [(f"      {line}", tone) for line, tone in call_lines(trace.get("calls") or ())]
    return [(safe(text), colour) for text, colour in lines]


def call_lines(calls: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return a line for each call: what, with what, and what came of it."""
    lines: list[Line] = []
    for call in calls:
        text, colour = call_text(call), ""
        if "error" in call:
            text, colour = f"{text}  → {call['error']}", "red"
        elif "result" in call:
            text = f"{text}  → {compact(call['result'])}"
        lines.append((text, colour))
    return lines


def call_text(call: Mapping[str, Any]) -> str:
    """Return a call as people write it: ``local service.restart(nginx, full=true) on web1``."""
    args = [compact(arg, 60) for arg in call.get("args") or ()]
    args += [f"{key}={compact(value, 60)}" for key, value in (call.get("kwargs") or {}).items()]
    text = f"{call['kind']} {call['function']}"
    if call["kind"] == "event":
        return f"{text} {compact(call['data'])}" if call.get("data") else text
    text += f"({', '.join(args)})"
    target = call.get("target")
    if target:
        text += f" on {target if isinstance(target, str) else ','.join(map(str, target))}"
        kind = call.get("target_type", "glob")
        text += "" if kind == "glob" else f" ({kind})"
    return text


def compact(value: Any, widest: int = _WIDEST) -> str:
    """Return a value on one line, cut."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= widest else text[: widest - 1] + "…"


def spoken(seconds: float) -> str:
    """Return a time span: ``3 ms``, ``1.2 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def moment(stamp: str) -> str:
    """Return a stamp as a local time, or dashes."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return "-"
