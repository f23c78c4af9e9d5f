"""The policies of native rules: from the keys that stand in a file to the chain of a rule."""

from __future__ import annotations

import hashlib
import json
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

from bus.errors import TagError
from bus.tags import Matcher, matcher
from reactor.rules.actions import seconds
from reactor.rules.patterns import globs_of
from reactor.rules.policies import ORDER, Key, Policy, no_key
from reactor.rules.policies.correlate import ALL, ANY, NONE, Correlate, Item
from reactor.rules.policies.count import Count
from reactor.rules.policies.dedupe import Dedupe
from reactor.rules.policies.expires import Ends, TooOld
from reactor.rules.policies.match import Match
from reactor.rules.policies.mode import Mode
from reactor.rules.policies.schedule import ABSENCE, SCHEDULE, Absence, Next, Schedule, every
from reactor.rules.policies.throttle import OnceAfter, OnceWithin, Rate
from reactor.rules.policies.when import When
from reactor.rules.regexes import Regex, RegexError
from reactor.rules.values import Condition, Place, ValueCompiler

_ROLES = (ALL, ANY, NONE)
_REGEX = "regex"
_FIELDS = 5


def _regex_matcher(text: str) -> Matcher:
    match = Regex(text).match
    return lambda tag: match(tag) is not None


@dataclass(frozen=True, slots=True)
class Chain:
    """What decides whether a rule acts.

    Attributes:
        patterns: the globs of the tags that it looks at.
        policies: its policies in order; none where tags and ``when`` are all there is.
        conditions: what the plan itself checks.
        mode: its mode, if it says one.
        names: what all of it uses of an event.
    """

    patterns: tuple[str, ...]
    policies: tuple[Policy, ...]
    conditions: tuple[Condition, ...]
    mode: Mode | None
    names: frozenset[str]


class ChainBuilder:
    """Makes the chain of a rule whose form the schema allows."""

    def __init__(self, values: ValueCompiler) -> None:
        self._values = values

    def chain(self, rule: Mapping[str, Any], place: Place) -> Chain:
        """Return the chain of a rule.

        Raises:
            RuleError: something in it is wrong.
        """
        return _One(self._values, rule, place).chain()


class _One:
    """The making of one chain."""

    def __init__(self, values: ValueCompiler, rule: Mapping[str, Any], place: Place) -> None:
        self._values = values
        self._rule = rule
        self._place = place
        self._names: set[str] = set()
        self._patterns: list[str] = []
        self._policies: list[Policy] = []
        self._match = rule.get("match", "fnmatch")
        self._own_by = rule.get("by")

    def chain(self) -> Chain:
        rule, place = self._rule, self._place
        self._check_combinations()
        conditions = self._values.when(rule.get("when", []), place.below("when"))
        self._note(*(condition.names for condition in conditions))
        self._on()
        kept = conditions
        if self._correlates:
            kept = self._correlate(conditions)
        self._schedule()
        for name in ("expires", "dedupe", "count", "throttle"):
            if name in rule:
                getattr(self, f"_{name}")(rule[name], place.below(name))
        if kept and (self._policies or "else" in rule):
            self._policies.append(When(kept, otherwise="else" in rule))
        return Chain(
            patterns=tuple(dict.fromkeys(self._patterns)),
            policies=self._ordered(),
            conditions=kept,
            mode=self._mode(),
            names=frozenset(self._names),
        )

    @property
    def _correlates(self) -> bool:
        return any(role in self._rule for role in _ROLES)

    def _check_combinations(self) -> None:
        rule, place = self._rule, self._place
        starts = ("on", *_ROLES, "every", "cron")
        if not any(key in rule for key in starts):
            raise place.error(f"the key 'on' is missing: or one of {', '.join(starts[1:])}")
        if self._correlates and "within" not in rule:
            raise place.error("the key 'within' is missing: how long all_of and the others wait")
        if "within" in rule and not self._correlates:
            raise place.below("within").error(
                "'within' belongs to all_of, any_of and none_of; a count has its own in it"
            )
        if self._correlates and ("every" in rule or "cron" in rule):
            raise place.error("a schedule cannot stand beside all_of, any_of and none_of")
        if "every" in rule and "cron" in rule:
            raise place.error("one of 'every' and 'cron', not both")
        if "timezone" in rule and "cron" not in rule:
            raise place.below("timezone").error("'timezone' belongs to 'cron'")
        if "else" in rule and "when" not in rule:
            raise place.below("else").error("'else' is for when 'when' is false, and there is none")
        if "else" in rule and self._correlates and "on" in rule:
            raise place.below("else").error(
                "'else' cannot stand beside 'on' with all_of and the others"
            )
        if "max" in rule and rule.get("mode") not in ("parallel", "queued"):
            raise place.below("max").error("'max' belongs to the modes parallel and queued")

    def _ordered(self) -> tuple[Policy, ...]:
        order = {name: place for place, name in enumerate(ORDER)}
        if self._correlates:
            # What several events say together is known only once they have come.
            order["when"] = order["correlate"] + 0.5  # type: ignore[assignment]
        return tuple(sorted(self._policies, key=lambda policy: order[policy.name]))

    def _note(self, *names: Iterable[str]) -> None:
        for some in names:
            self._names.update(some)

    def _mark(self, name: str, *settings: Any) -> str:
        """Return name and digest of settings: what was remembered under others is forgotten."""
        text = json.dumps([*settings, self._own_by], default=str, sort_keys=True)
        return f"{name}-{hashlib.blake2s(text.encode(), digest_size=6).hexdigest()}"

    def _key(self, settings: Mapping[str, Any], place: Place) -> Key:
        """Compile the ``by`` of a policy, or that of the rule."""
        by, at = settings.get("by"), place.below("by")
        if by is None:
            by, at = self._own_by, self._place.below("by")
        if by is None:
            return no_key
        key, names = self._values.key(by, at)
        self._note(names)
        return key

    # -- tags -----------------------------------------------------------------------------

    def _on(self) -> None:
        if "on" not in self._rule:
            return
        texts = self._listed("on")
        self._patterns += globs_of(texts, self._match)
        if self._match == _REGEX and not self._correlates:
            matchers = tuple(self._matcher(text, self._place.below("on")) for text in texts)
            self._policies.append(Match(tuple(texts), matchers))

    def _listed(self, name: str) -> list[str]:
        value = self._rule[name]
        return [value] if isinstance(value, str) else list(value)

    def _matcher(self, text: str, place: Place) -> Matcher:
        try:
            if self._match == _REGEX:
                return _regex_matcher(text)
            return matcher(text, self._match)
        except (TagError, RegexError) as error:
            raise place.error(str(error)) from error

    # -- several events -------------------------------------------------------------------

    def _correlate(self, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        """Make the policy, and return the conditions that are left for after it."""
        rule, place = self._rule, self._place
        within = seconds(rule["within"])
        items = [
            self._item(role, number, item, place.below(role, number))
            for role in _ROLES
            for number, item in enumerate(_items(rule.get(role, ())))
        ]
        settings = [{key: rule.get(key) for key in ("on", "when", "within", "match", *_ROLES)}]
        mark = self._mark("correlate", *settings)
        if "on" in rule:
            matchers = [self._matcher(text, place.below("on")) for text in self._listed("on")]
            first = Item("on", ALL, _any(matchers), conditions, self._key({}, place))
            self._policies.append(Correlate((first, *items), within, mark))
            return ()
        if all(item.role == NONE for item in items):
            if self._own_by is not None:
                raise place.below("by").error(
                    "none_of alone has no key to wait for: say with 'on' what opens the wait"
                )
            self._absence(items, within, mark)
        else:
            self._policies.append(Correlate(tuple(items), within, mark))
        return conditions

    def _absence(self, items: list[Item], within: float, mark: str) -> None:
        tag = self._own_tag(ABSENCE)
        if any(item.conditions for item in items):
            raise self._place.below(NONE).error(
                "a 'when' in none_of needs an 'on' or all_of beside it"
            )
        matchers = tuple(item.matches for item in items)
        mark = f"absence-{mark}"
        self._policies.append(Absence(tag, self._place.file, matchers, within, mark))

    def _item(self, role: str, number: int, item: Any, place: Place) -> Item:
        given = {"on": item} if isinstance(item, str | list) else item
        texts = [given["on"]] if isinstance(given["on"], str) else list(given["on"])
        self._patterns += globs_of(texts, self._match)
        conditions = self._values.when(given.get("when", []), place.below("when"))
        self._note(*(condition.names for condition in conditions))
        matchers = [self._matcher(text, place) for text in texts]
        name = str(given.get("name", texts[0] if len(texts) == 1 else f"{role}[{number}]"))
        return Item(name, role, _any(matchers), conditions, self._key(given, place))

    # -- the others -----------------------------------------------------------------------

    def _own_tag(self, prefix: str) -> str:
        tag = prefix + str(self._place.path[0])
        self._patterns.append(tag)
        return tag

    def _schedule(self) -> None:
        rule, place = self._rule, self._place
        if "every" in rule:
            following: Next = every(seconds(rule["every"]))
        elif "cron" in rule:
            zone = _zone(rule.get("timezone", "UTC"), place.below("timezone"))
            following = cron(rule["cron"], zone, place.below("cron"))
        else:
            return
        mark = self._mark("schedule", *(rule.get(key) for key in ("every", "cron", "timezone")))
        tag = self._own_tag(SCHEDULE)
        self._policies.append(Schedule(tag, place.file, following, mark))

    def _expires(self, value: Any, place: Place) -> None:
        moment = _moment(value) if isinstance(value, str) else None
        if moment is not None:
            self._policies.append(Ends(moment.timestamp()))
            return
        try:
            self._policies.append(TooOld(seconds(value)))
        except ValueError as error:
            problem = "an age such as 10m, or a moment such as 2026-12-31T18:00:00+01:00"
            raise place.error(f"{problem}, is wanted here, not {value!r}") from error

    def _dedupe(self, value: Any, place: Place) -> None:
        given = value if isinstance(value, dict) else {"within": value}
        if "by" in given or self._own_by is not None:
            key = self._key(given, place)
        else:
            key, names = self._values.key(["tag", "payload"], place)
            self._note(names)
        self._policies.append(Dedupe(seconds(given["within"]), key, self._mark("dedupe", given)))

    def _count(self, value: Any, place: Place) -> None:
        self._policies.append(
            Count(
                at_least=value["at_least"],
                within=seconds(value["within"]),
                by=self._key(value, place),
                reset=value.get("reset", False),
                mark=self._mark("count", value),
            )
        )

    def _throttle(self, value: Any, place: Place) -> None:
        key, mark = self._key(value, place), self._mark("throttle", value)
        if "once_within" in value:
            self._policies.append(OnceWithin(seconds(value["once_within"]), key, mark))
        elif "once_after" in value:
            mark = f"gather-{mark}"
            self._policies.append(OnceAfter(seconds(value["once_after"]), key, mark))
        else:
            times, _, per = str(value["rate"]).partition("/")
            per = per if per[0].isdigit() else f"1{per}"
            self._policies.append(Rate(int(times), seconds(per), key, mark))

    def _mode(self) -> Mode | None:
        kind = self._rule.get("mode")
        if kind is None:
            return None
        return Mode(kind, self._rule.get("max", 0), self._key({}, self._place))


def cron(text: str, zone: tzinfo, place: Place) -> Next:
    """Return the times of a cron expression.

    Raises:
        RuleError: it is none.
    """
    # Costs a tenth of a second, and few rules have one.
    from croniter import CroniterError, croniter

    try:
        croniter(text, datetime(2026, 1, 1, tzinfo=zone)).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise place.error(f"{text!r} is no cron expression: {error}") from error
    return partial(_next_cron, croniter, text, zone)


def _next_cron(
    croniter: Callable[..., Any], text: str, zone: tzinfo, _before: float, after: float
) -> float:
    times = croniter(text, datetime.fromtimestamp(after, zone))
    found = float(times.get_next(datetime).timestamp())
    if _is_fixed(text):
        # At the end of summer time an hour comes twice; what is due once a day is due once.
        while datetime.fromtimestamp(found, zone).fold:
            found = float(times.get_next(datetime).timestamp())
    return found


def _is_fixed(text: str) -> bool:
    """Say whether minute and hour are named, as those of cron decide it too."""
    fields = text.split()
    if len(fields) < _FIELDS:
        return text.strip() != "@hourly"
    return not (fields[0].startswith("*") or fields[1].startswith("*"))


def _zone(name: str, place: Place) -> tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        problem = f"unknown time zone {name!r}: write one such as Europe/Berlin"
        raise place.error(problem) from error


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _any(matchers: list[Matcher]) -> Matcher:
    if len(matchers) == 1:
        return matchers[0]
    return lambda tag: any(matches(tag) for matches in matchers)
