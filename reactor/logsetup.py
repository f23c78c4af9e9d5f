"""Where a daemon's log goes, and what a line of it looks like."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus.errors import ConfigError

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(process)d %(name)s: %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"

LEVELS = ("debug", "info", "warning", "error", "critical")
"""The levels that ``--log-level`` and the option ``log_level`` take."""


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What is no text in a line; a tab is."""


class OneLine(logging.Formatter):
    """A record a line, in UTC; a line break in a message (it may come from outside) is shown."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATE_FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Return the record's time in UTC."""
        return time.strftime(datefmt or DATE_FORMAT, time.gmtime(record.created))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the message without line breaks; a traceback still follows on lines of its own."""
        record.message = _CONTROL.sub(_shown, record.message)
        return super().formatMessage(record)


class Json(logging.Formatter):
    """A record a line, as JSON, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object."""
        line = {
            "time": f"{time.strftime(DATE_FORMAT, time.gmtime(record.created))}"
            f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _shown(found: re.Match[str]) -> str:
    """Return a control character as text: a terminal that shows the log must not obey it."""
    return found[0].encode("unicode_escape").decode()


def setup(opts: Mapping[str, Any], level: str | None = None) -> None:
    """Send this process's log to the option ``log_file``, or to standard error.

    Args:
        opts: the options ``log_file``, ``log_level`` and ``log_format``.
        level: one of `LEVELS`, instead of ``log_level``.

    Raises:
        ConfigError: the log file cannot be written.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    handler = _handler(str(opts.get("log_file") or ""))
    handler.setFormatter(Json() if opts.get("log_format") == "json" else OneLine())
    root.addHandler(handler)
    root.setLevel((level or str(opts.get("log_level") or "info")).upper())


def _handler(path: str) -> logging.Handler:
    if not path:
        return logging.StreamHandler()
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What events and jobs are about is nobody else's business, so neither is the log.
        Path(path).touch(mode=0o600)
        return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"the log file cannot be written ({error.strerror}): set log_file to another", path
        ) from error
