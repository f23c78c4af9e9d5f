"""Whether the parts of a master are ready: only what answers is."""

import asyncio

import pytest
from starlette.responses import Response

from bus.errors import AnswerTimeoutError, NotRunningError
from reactor.http.routes.health import PARTS, readyz


class _Services:
    """Parts that answer as the test says."""

    def __init__(self, answers):
        self.answers = answers

    async def ask(self, part, method, *, seconds):
        assert method == "ping"
        assert seconds <= 2.0
        found = self.answers.get(part, True)
        if isinstance(found, Exception):
            raise found
        return found


def _ready(**answers):
    response = Response()
    found = asyncio.run(readyz(_Services(answers), response))
    return response.status_code, found.ok


def test_all_answer():
    """Then it is ready."""
    assert _ready() == (200, True)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "problem",
    [
        NotRunningError("gone"),
        AnswerTimeoutError("hangs"),
        OSError(24, "Too many open files"),
        RuntimeError("no thread to be had"),
        None,
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_one_does_not(part, problem):
    """Whatever keeps it from answering, or us from hearing it."""
    assert _ready(**{part: problem}) == (503, False)
