"""Test suites of rules in YAML: ``<rules>.test.yaml``, see docs/how-to/test-your-rules.md."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.errors import BusError
from bus.yamlfile import Lines, load
from reactor.cli.telling import call_text
from reactor.errors import ReactorError
from reactor.testing import RuleTest, differences

_FILE_KEYS = ("rules", "on", "functions", "results", "takes", "tests")
_TEST_KEYS = (
    "events",
    "expect",
    "includes",
    "excludes",
    "skipped",
    "fails",
    "wait",
    "results",
    "takes",
)
_MAPPINGS = ("functions", "results", "skipped", "fails")
_CALLS = ("expect", "includes", "excludes")
_KINDS = ("local", "runner", "wheel", "caller", "event", "http", "exec", "log", "notify")


@dataclass(frozen=True, slots=True)
class _Suite:
    file: Path
    value: Mapping[str, Any]
    lines: Lines

    def source(self, *path: str | int) -> str:
        return f"{self.file}:{self.lines.at(path)}"


def run_file(file: Path) -> list[dict[str, Any]]:
    """Run the tests of a file; return of each its name, source and failures.

    A file that cannot be read is one test that failed.
    """
    try:
        suite = _read(file)
    except (BusError, OSError, UnicodeDecodeError) as error:
        return [{"name": file.name, "source": str(file), "failures": [str(error)]}]
    results = []
    for name, test in suite.value["tests"].items():
        try:
            failures = _run(suite, name, test or {})
        except (BusError, ValueError, TypeError) as error:
            failures = [str(error)]
        source = suite.source("tests", name)
        results.append({"name": str(name), "source": source, "failures": failures})
    return results


def _read(file: Path) -> _Suite:
    value, lines = load(file.read_text(encoding="utf-8"), str(file))
    suite = _Suite(file, value, lines)
    if not isinstance(value, dict) or not isinstance(value.get("tests"), dict):
        raise ReactorError(f"{file}: a mapping with 'tests' is wanted, a name for each test")
    _check_keys(suite, value, _FILE_KEYS, ())
    _check_shapes(suite, value, ())
    return suite


def _check_keys(
    suite: _Suite, value: Mapping[str, Any], known: tuple[str, ...], path: tuple[str | int, ...]
) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ReactorError(f"{suite.source(*path, key)}: unknown key {key!r}: {hint}")


def _check_shapes(suite: _Suite, value: Mapping[str, Any], path: tuple[str | int, ...]) -> None:
    for key in _MAPPINGS:
        if not isinstance(value.get(key), dict | None):
            raise ReactorError(f"{suite.source(*path, key)}: {key!r} is a mapping")
    for key in _CALLS:
        for number, call in enumerate(_listed(value.get(key))):
            if not isinstance(call, dict) or not any(kind in call for kind in _KINDS):
                raise ReactorError(
                    f"{suite.source(*path, key, number)}: what {key!r} lists is a call, such as "
                    "{local: test.ping, tgt: web1}"
                )


def _run(suite: _Suite, name: Any, test: Mapping[str, Any]) -> list[str]:
    path = ("tests", name)
    if not isinstance(test, dict):
        raise ReactorError(f"{suite.source(*path)}: a test is a mapping with 'events'")
    _check_keys(suite, test, _TEST_KEYS, path)
    _check_shapes(suite, test, path)
    if not any(key in test for key in ("expect", "includes", "excludes", "skipped", "fails")):
        raise ReactorError(
            f"{suite.source(*path)}: the test expects nothing: say 'expect: []' if nothing is "
            "to run"
        )
    rules = RuleTest(
        *_rule_files(suite),
        on=suite.value.get("on", "*"),
        functions=_functions(suite.value.get("functions")),
        results={**(suite.value.get("results") or {}), **(test.get("results") or {})},
        takes=test.get("takes", suite.value.get("takes")),
    )
    reasons: dict[str, list[str]] = {}
    errors: dict[str, list[str]] = {}
    for number, event in enumerate(_listed(test.get("events"))):
        _check_event(suite, event, (*path, "events", number))
        rules.fire(event["tag"], event.get("data"), at=event.get("at"))
        for found, into in ((rules.reasons, reasons), (rules.errors, errors)):
            for rule, why in found.items():
                into.setdefault(rule, []).append(why)
    if "wait" in test:
        rules.wait(test["wait"])
    rules.finish()
    return _compare(test, rules.calls, reasons, errors)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _check_event(suite: _Suite, event: Any, path: tuple[Any, ...]) -> None:
    if not isinstance(event, dict) or not isinstance(event.get("tag"), str):
        raise ReactorError(f"{suite.source(*path)}: an event is a mapping with tag, data and at")
    _check_keys(suite, event, ("tag", "data", "at"), path)


def _rule_files(suite: _Suite) -> list[Path]:
    given = suite.value.get("rules")
    folder = suite.file.parent
    if given is not None:
        return [folder / str(name) for name in _listed(given)]
    stem = suite.file.name.partition(".test.")[0]
    for suffix in (".yaml", ".yml", ".sls"):
        if (folder / (stem + suffix)).is_file():
            return [folder / (stem + suffix)]
    raise ReactorError(f"{suite.file}: no {stem}.yaml or {stem}.sls is beside it: name 'rules'")


def _functions(given: Any) -> Any:
    """Return functions that give the values that the file says."""
    if not given:
        return None
    return {name: (lambda *_args, value=value, **_kwargs: value) for name, value in given.items()}


def _compare(
    test: Mapping[str, Any],
    calls: list[dict[str, Any]],
    reasons: Mapping[str, list[str]],
    errors: Mapping[str, list[str]],
) -> list[str]:
    failures: list[str] = []
    if "expect" in test:
        failures += _expected(_listed(test["expect"]), calls, reasons)
    for wanted in _listed(test.get("includes")):
        if all(differences(wanted, call) for call in calls):
            failures.append(f"did not run: {said(wanted)}{_and_ran(calls)}")
    for unwanted in _listed(test.get("excludes")):
        failures += [f"ran: {said(call)}" for call in calls if not differences(unwanted, call)]
    failures += _told(test.get("skipped") or {}, reasons, "skipped")
    wanted_errors = test.get("fails") or {}
    failures += _told(wanted_errors, errors, "failed")
    failures += [
        f"rule {rule} failed: {why}"
        for rule, whys in errors.items()
        if rule not in wanted_errors
        for why in whys
    ]
    return failures


def _expected(
    wanted: list[Any], calls: list[dict[str, Any]], reasons: Mapping[str, list[str]]
) -> list[str]:
    failures = []
    for number, (want, call) in enumerate(zip(wanted, calls, strict=False), 1):
        odd = differences(want, call)
        if odd:
            failures.append(f"call {number}: {said(call)}: {'; '.join(odd)}")
    for want in wanted[len(calls) :]:
        failures.append(f"did not run: {said(want)}")
        failures += [f"  {rule}: {why}" for rule, whys in reasons.items() for why in whys]
    failures += [f"ran, and was not expected: {said(call)}" for call in calls[len(wanted) :]]
    return failures


def _told(wanted: Any, found: Mapping[str, list[str]], what: str) -> list[str]:
    if not isinstance(wanted, dict):
        raise ReactorError(f"'{what}' is a mapping: the rule's name, and a part of the reason")
    failures = []
    for rule, part in wanted.items():
        whys = found.get(rule, [])
        if not any(str(part or "") in why for why in whys):
            said_instead = "; ".join(whys) or f"it was not {what}"
            failures.append(f"rule {rule}: {said_instead}, where {part!r} is expected")
    return failures


def _and_ran(calls: list[dict[str, Any]]) -> str:
    return f"; but: {'; '.join(said(call) for call in calls)}" if calls else "; nothing ran"


def said(call: Mapping[str, Any]) -> str:
    """Return a call of a test file as one line."""
    kind = next((kind for kind in _KINDS if kind in call), None)
    if kind is None:
        raise ReactorError(f"a call has one of {', '.join(_KINDS)}: {dict(call)!r}")
    return call_text({"kind": kind, "function": call[kind], "target": call.get("tgt"), **call})
