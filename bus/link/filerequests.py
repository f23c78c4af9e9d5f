"""Files for minions that ask, at a rate that one who does not read cannot make pile up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.complaints import Complaints
from bus.errors import BusError, DataError
from bus.link.budget import Budget
from bus.link.filesync import FileTree
from bus.link.protocol import Reply, Request

FILE_BYTES_AT_ONCE = 64 << 20
FILE_BYTES_PER_SECOND = 8 << 20
"""What one minion is sent of files: one that asks and does not read makes them pile up here."""


class Files:
    """Answers requests for files.

    Args:
        tree: the files.
        complaints: counts and says what is wrong.
        clock: seconds, monotonic.
    """

    def __init__(self, tree: FileTree, complaints: Complaints, clock: Callable[[], float]) -> None:
        self._tree = tree
        self._complaints = complaints
        self._clock = clock
        self._budgets: dict[str, Budget] = {}

    def have_changed(self) -> bool:
        """Say whether minions should ask for the files' digests again."""
        return self._tree.has_changed()

    def answer(self, ident: str, request: Request) -> Reply:
        """Return the answer to what a minion asks for."""
        params = request.params
        try:
            if "files" in params:
                return Reply(request.number, self._tree.hashes(params["files"]), "")
            if "file" in params:
                return Reply(request.number, self._read(ident, params["file"]), "")
        except BusError as error:
            return Reply(request.number, None, str(error))
        except OSError as error:
            return Reply(request.number, None, f"the file cannot be read: {error.strerror}")
        return Reply(request.number, None, "an unknown request: ask for 'files' or 'file'")

    def _read(self, ident: str, name: Any) -> bytes:
        content = self._tree.read(name)
        budget = self._budgets.get(ident) or Budget(
            FILE_BYTES_PER_SECOND, self._clock, FILE_BYTES_AT_ONCE
        )
        self._budgets[ident] = budget
        if not budget.take(len(content)):
            self._complaints.add("files_not_sent", f"{ident} asks for too many files at once")
            raise DataError("too many files at once: ask again in a while")
        return content
