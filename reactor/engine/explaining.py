"""Why rules did, or did not, react to an event: puts together what is known of it. No I/O."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bus.record import CAUSE, Event
from reactor.engine.actions.functions import USER
from reactor.engine.firing import hops_of, rule_key
from reactor.errors import RuleError
from reactor.rules.matching import Index
from reactor.rules.model import Rule
from reactor.rules.native import NativeRule
from reactor.rules.nearness import nearest
from reactor.rules.redaction import redact, redact_text
from reactor.rules.rehearsing import describe_call
from reactor.rules.snapshot import Snapshot
from reactor.rules.switches import Switch


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the event and the rules.

    Attributes:
        traces: the engine's traces of this event.
        reports: data of the events ``reactor/reaction/...`` about it.
        read_upto: the number of the last event that the reactor has read; None if not known.
        is_running: whether the reactor answers.
        max_chain: the option ``reactor_max_chain``.
        unknown: what could not be found out, in sentences.
    """

    traces: Sequence[Mapping[str, Any]] = ()
    reports: Sequence[Mapping[str, Any]] = ()
    read_upto: int | None = None
    is_running: bool = False
    max_chain: int = 32
    unknown: tuple[str, ...] = field(default_factory=tuple)


def explain(event: Event, snapshot: Snapshot, known: Known) -> dict[str, Any]:
    """Return all that is to be said about an event that is in the journal."""
    stopped = _stopped(event, known)
    reacted = [_of_rule(rule, event, known, stopped) for rule in snapshot.match(event.tag)]
    seen = {verdict["key"] for verdict in reacted}
    switched = {rule_key(rule): switch for rule, switch in snapshot.switched_off}
    broken = {problem.source.path for problem in snapshot.problems}
    rest_of_traces = [trace for trace in known.traces if trace.get("key") not in seen]
    gone = [_of_gone(trace, switched, broken) for trace in rest_of_traces]
    cause = event.data.get(CAUSE)
    told = {verdict["key"] for verdict in (*reacted, *gone)}
    rest = others(event.tag, snapshot)
    rest["disabled"] = [off for off in rest["disabled"] if off["key"] not in told]
    return {
        "event": {
            "tag": event.tag,
            "seq": event.seq,
            "id": event.id,
            "stamp": event.stamp,
            "payload": redact(event.payload),
        },
        "cause": redact(cause) if isinstance(cause, dict) else None,
        "stopped": stopped,
        "rules": [*reacted, *gone],
        **rest,
        "running": known.is_running,
        "unknown": list(known.unknown),
    }


def would(tag: str, snapshot: Snapshot, unknown: Iterable[str] = ()) -> dict[str, Any]:
    """Return what is to be said about a tag of which there is no event."""
    matched = [
        {**_head(rule), "state": "would match", "why": _if_holds(rule)}
        for rule in snapshot.match(tag)
    ]
    return {
        "event": None,
        "tag": tag,
        "rules": matched,
        **others(tag, snapshot),
        "unknown": list(unknown),
    }


def others(tag: str, snapshot: Snapshot) -> dict[str, Any]:
    """Return the rules that are off, nearly match, or could not be loaded."""
    off = Index(
        (rule.patterns, (rule, state, why))
        for rule, state, why in (
            *((rule, "disabled", "enabled: false") for rule in snapshot.disabled),
            *((rule, "switched off", switch.why) for rule, switch in snapshot.switched_off),
        )
    ).match(tag)
    matched = {id(rule) for rule in snapshot.match(tag)}
    rest = [rule for rule in snapshot.rules if id(rule) not in matched]
    return {
        "disabled": [{**_head(rule), "state": state, "why": why} for rule, state, why in off],
        "near": [
            {**_head(near.rule), "pattern": near.pattern, "why": near.why}
            for near in nearest(tag, rest)
        ],
        "problems": [
            {
                "file": problem.source.path,
                "line": problem.source.line,
                "message": problem.message,
                "kept": problem.kept,
            }
            for problem in snapshot.problems
        ],
        "warnings": [
            {"file": warning.source.path, "message": warning.message}
            for warning in snapshot.warnings
        ],
        "rules_in_force": len(snapshot.rules),
    }


def _if_holds(rule: Rule) -> str:
    conditions = getattr(rule, "conditions", ())
    return "if its conditions hold" if conditions else ""


def _head(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "source": str(rule.source),
        "key": rule_key(rule),
        "patterns": list(rule.patterns),
    }


def _stopped(event: Event, known: Known) -> str:
    """Return what keeps all rules from an event, or an empty text."""
    if known.read_upto is not None and event.seq > known.read_upto:
        behind = event.seq - known.read_upto
        if not known.is_running:
            return "not read yet: the reactor is not running, and reads it when it is started"
        return f"not read yet: {behind} events before it wait in the journal (reactor status)"
    if event.data.get("user") == USER:
        return "its data says 'user: Reactor': no rule reacts to what a reaction's function fires"
    if hops_of(event) >= known.max_chain:
        rule = (event.data.get(CAUSE) or {}).get("rule")
        return (
            f"loop limit: it stands at the end of a chain of {hops_of(event)} reactions, the last "
            f"of rule {rule}, and reactor_max_chain is {known.max_chain}"
        )
    return ""


def _of_rule(rule: Rule, event: Event, known: Known, stopped: str) -> dict[str, Any]:
    head = _head(rule)
    if stopped:
        return {**head, "state": "stopped", "why": stopped}
    head["conditions"] = _accounts(rule, event)
    for trace in known.traces:
        if trace.get("key") == head["key"]:
            return {**head, **_from_trace(trace)}
    for report in known.reports:
        if report.get("rule") == rule.name and _file(report.get("source")) == rule.source.path:
            return {**head, **_from_report(report)}
    return {**head, **_guess(rule, event)}


def _accounts(rule: Rule, event: Event) -> list[dict[str, Any]]:
    """Return what each condition of a native rule makes of the event, by the rule as it is now.

    A trace keeps why a rule did nothing; a firing's conditions all held, and are worked out
    again when somebody asks, so that no reaction pays for it.
    """
    if not isinstance(rule, NativeRule):
        return []
    try:
        return rule.accounts(event)
    except Exception as error:  # the boundary of a rule: whoever asks gets an answer
        return [{"text": "its values", "state": redact_text(f"error: {error}"), "values": []}]


def _file(source: Any) -> str:
    return str(source).rpartition(":")[0] or str(source)


def _from_trace(trace: Mapping[str, Any]) -> dict[str, Any]:
    names = ("state", "why", "policy", "steps", "id", "calls", "error", "seconds", "began")
    return {name: trace[name] for name in names if name in trace}


def _from_report(report: Mapping[str, Any]) -> dict[str, Any]:
    failed = {"error": redact_text(str(report["error"]))} if "error" in report else {}
    return {
        "state": "failed" if failed else "done",
        "id": report.get("id"),
        "calls": redact(report.get("calls", [])),
        "seconds": report.get("seconds"),
        **failed,
    }


def _of_gone(
    trace: Mapping[str, Any], switched: Mapping[str, Switch], broken: Container[str]
) -> dict[str, Any]:
    """Return what a rule did that is not in force any more, or not in this form."""
    switch = switched.get(str(trace.get("key")))
    if switch:
        note = f"it was {switch.why}"
    elif _file(trace.get("source")) in broken:
        note = "its file cannot be loaded now"
    else:
        note = "no rule file of the configuration has this rule now"
    return {
        "rule": trace.get("rule"),
        "source": trace.get("source"),
        "key": trace.get("key"),
        "patterns": [],
        **_from_trace(trace),
        "note": note,
    }


def _guess(rule: Rule, event: Event) -> dict[str, Any]:
    """Say what a rule would make of the event now: nothing is recorded of what it made of it."""
    state = {"state": "no record"}
    if rule.style == "salt":
        return {**state, "why": "nothing is recorded of it", "now": "not known: it calls functions"}
    try:
        plan = rule.plan(event, {})
    except RuleError as error:
        return {**state, "why": "nothing is recorded of it", "now": f"fails: {error}"}
    except Exception as error:  # the boundary of a rule: whoever asks gets an answer
        return {**state, "why": "nothing is recorded of it", "now": f"fails: {error}"}
    if not plan.acts:
        return {**state, "why": "nothing is recorded of it", "now": str(plan.skipped)}
    return {
        **state,
        "why": "nothing is recorded of it",
        "now": "it would act",
        "would": [describe_call(call) for call in plan.calls],
    }
