"""What Prometheus reads, of what the parts say of themselves. Pure.

Labels are bounded: a part, a counter's name, a status. Never a tag, a minion or a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NAME = re.compile(r"[a-z][a-z_]{0,40}")
_MOST_COUNTERS = 100
"""Of one part: whatever a part may count, what Prometheus has to keep stays small."""

Family = CounterMetricFamily | GaugeMetricFamily


def exposition(statuses: Mapping[str, Any]) -> bytes:
    """Return the statuses of all parts as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Statuses(statuses))
    return generate_latest(registry)


class _Statuses(Collector):
    def __init__(self, statuses: Mapping[str, Any]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterable[Family]:
        """Yield each family."""
        return families(self._statuses)


def families(statuses: Mapping[str, Any]) -> Iterator[Family]:
    """Yield the families of metrics."""
    up = GaugeMetricFamily("reactor_up", "Whether a part answers.", labels=["part"])
    for part, found in statuses.items():
        up.add_metric([part], 0.0 if found is None else 1.0)
    yield up
    bus, link, reactor, http = (
        statuses.get(part) or {} for part in ("bus", "link", "reactor", "http")
    )
    yield _counter("reactor_events", "Events that the bus has journaled.", bus.get("last_seq"))
    yield _gauge("reactor_listeners", "Listeners of the bus.", bus.get("listeners"))
    journal = bus.get("journal") or {}
    yield _gauge("reactor_journal_bytes", "Bytes of the journal.", journal.get("bytes"))
    yield _gauge("reactor_journal_events", "Events in the journal.", journal.get("events"))
    keys = GaugeMetricFamily("reactor_keys", "Keys of minions by state.", labels=["state"])
    for state, count in sorted((link.get("keys") or {}).items()):
        keys.add_metric([str(state)], _number(count))
    yield keys
    yield _gauge("reactor_minions_connected", "Connected minions.", link.get("connected"))
    yield _gauge("reactor_rules", "Rules in force.", reactor.get("rules"))
    yield _gauge(
        "reactor_rules_switched_off", "Rules that are switched off.", reactor.get("switched_off")
    )
    yield _gauge("reactor_rule_problems", "Problems in rule files.", reactor.get("problems"))
    yield _gauge("reactor_events_behind", "Events not yet read.", reactor.get("behind"))
    yield _gauge("reactor_firings_under_way", "Firings under way.", reactor.get("under_way"))
    yield _gauge("reactor_calls_waiting", "Calls that wait for a worker.", reactor.get("waiting"))
    yield _gauge("reactor_dead_letters", "Reactions failed for good.", reactor.get("dead"))
    yield _counter("reactor_events_missed", "Events gone unread.", reactor.get("lost"))
    yield _gauge("reactor_http_streams", "Event streams.", http.get("streams"))
    yield _counter("reactor_http_stream_lost", "Events streams lost.", http.get("dropped"))
    answers = CounterMetricFamily("reactor_http_answers", "Answers of HTTP.", labels=["status"])
    for status, count in sorted((http.get("answers") or {}).items()):
        answers.add_metric([str(status)], count)
    yield answers
    counted = CounterMetricFamily(
        "reactor_counted", "What each part counts.", labels=["part", "what"]
    )
    for part in ("bus", "link", "reactor"):
        counters = (statuses.get(part) or {}).get("counters") or {}
        for what, count in sorted(counters.items())[:_MOST_COUNTERS]:
            if isinstance(count, int | float) and _NAME.fullmatch(str(what)):
                counted.add_metric([part, str(what)], count)
    yield counted


def _gauge(name: str, text: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=_number(value))


def _counter(name: str, text: str, value: Any) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=_number(value))


def _number(value: Any) -> float:
    if isinstance(value, list | tuple | dict):
        return float(len(value))
    return float(value or 0)
