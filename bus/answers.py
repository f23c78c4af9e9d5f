"""The shapes in which Salt's clients give what minions answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bus.returns import Answer, Following


def collected(answers: Iterable[Answer], *, full_return: bool) -> dict[str, Any]:
    """Return what `LocalClient.cmd` returns of answers."""
    return {
        minion: _full(data) if full_return else data.get("return")
        for answer in answers
        for minion, data in answer.items()
    }


def full_answer(answer: Answer) -> Answer:
    """Return an answer as `LocalClient.cmd_iter` yields it."""
    return {minion: _full(data) for minion, data in answer.items()}


def with_silent(answers: Following) -> Iterator[Answer]:
    """Yield the full returns, then those that did not answer in the same form."""
    for answer in answers:
        yield full_answer(answer)
    yield from silent_answers(answers)


def silent_answers(answers: Following) -> Iterator[Answer]:
    """Yield those that did not answer as `LocalClient.get_cli_returns` does."""
    for minion, reason in sorted(answers.silent.items()):
        yield {minion: _silent(reason, answers.jids[-1])}


def _silent(reason: str, jid: str) -> dict[str, Any]:
    return {"ret": f"no return: the minion {reason}", "out": "no_return", "retcode": 1, "jid": jid}


def _full(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ret": data.get("return"),
        "retcode": data.get("retcode", 0),
        "jid": data.get("jid", ""),
    }
