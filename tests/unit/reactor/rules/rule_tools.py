"""Rules of a text, run by the pure core on a clock of the test's own."""

from __future__ import annotations

import datetime as dt

from bus.record import Event
from bus.yamlfile import load
from reactor.rules.deciding import Announcement, Decider
from reactor.rules.loading import RuleSet
from reactor.rules.memory import Memory
from reactor.rules.native import Builder
from reactor.rules.snapshot import Snapshot
from reactor.rules.validation import Validator

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
_BUILDER, _VALIDATOR = Builder(), Validator()


def built(text):
    """Return the rules of a text, and the errors."""
    value, lines = load(text, "r.yaml")
    wrong = _VALIDATOR.check(value, "r.yaml", lines)
    if wrong:
        return [], wrong
    return _BUILDER.build(value, "r.yaml", lines)


def errors_of(text):
    return [str(error) for error in built(text)[1]]


def iso(at):
    return dt.datetime.fromtimestamp(START + at, dt.UTC).isoformat()


class Core:
    """A decider, and what it said."""

    def __init__(self, text, memory=None, max_keys=10_000):
        self.events = {}
        self.memory = memory or Memory(max_keys)
        self.decider = Decider({}, self.memory, self.events.get)
        self.use(text)

    def use(self, text, at=0):
        rules, errors = built(text)
        assert errors == []
        self.decider.use(Snapshot(rules), START + at)

    def feed(self, at, tag, /, **data):
        """Decide on one event; return what became of it."""
        seq = len(self.events) + 1
        event = Event(tag, {"_stamp": iso(at), **data}, seq, "b")
        self.events[seq] = event
        return self.decider.decide(event, START + at)

    def acts(self, at, tag, /, **data):
        """Say whether the one rule acts."""
        return any(found.acts for found in self.feed(at, tag, **data))

    def why(self, at, tag, /, **data):
        """Return the reason of the one rule."""
        [found] = self.feed(at, tag, **data)
        return found.reason or found.error

    def advance(self, at):
        return self.decider.advance(START + at)

    def announced(self, at):
        """Pass the time, and feed in what the rules announce; return what acts."""
        acting = []
        for found in self.advance(at):
            if isinstance(found, Announcement):
                acting += [o for o in self.feed(at, found.tag, **found.data) if o.acts]
            elif found.acts:
                acting.append(found)
        return acting


def salt_file(folder, text):
    """Return the reactor file of a text."""
    (folder / "f.sls").write_text(text)
    [rule] = RuleSet(reactor_map=[{"x": str(folder / "f.sls")}], conf_dir=str(folder)).load().rules
    return rule.file
