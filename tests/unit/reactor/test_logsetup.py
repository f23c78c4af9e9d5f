"""Where the log goes."""

import json
import logging
import os
import re
import stat

import pytest

from bus.errors import ConfigError
from reactor import logsetup


@pytest.fixture(autouse=True)
def _root_logger():
    """The root logger is as before after each test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_to_standard_error(capsys):
    """A record a line: time in UTC, level, process, logger, text."""
    logsetup.setup({"log_file": "", "log_level": "info"})
    logging.getLogger("a.b").info("text\nof\rmany lines")
    logging.getLogger("a.b").debug("too fine")
    (line,) = capsys.readouterr().err.splitlines()
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    \d+ a\.b: text\\nof\\rmany lines"
    assert re.fullmatch(form, line)


def test_what_a_terminal_would_obey(capsys):
    """It is shown: a stranger's address may stand in a line."""
    logsetup.setup({})
    logging.getLogger("a").info("GET /%s", "\x1b[2J\x9b\t\u2028é")
    assert capsys.readouterr().err.endswith("GET /\\x1b[2J\\x9b\t\\u2028é\n")


def test_in_json(tmp_path):
    """A line a record, whatever is in it; a traceback is a field of it."""
    path = tmp_path / "x.log"
    logsetup.setup({"log_file": str(path), "log_format": "json"})
    try:
        raise ValueError("why\nthat")
    except ValueError:
        logging.getLogger("a").exception("failed %s", "\udc80\n\x1b")
    logging.getLogger("a").info("b")
    first, second = path.read_text().splitlines()
    found = json.loads(first)
    assert (found["level"], found["logger"], found["process"]) == ("error", "a", os.getpid())
    assert found["message"] == "failed \udc80\n\x1b"
    assert found["trace"].endswith("ValueError: why\nthat")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert "trace" not in json.loads(second)


def test_to_a_file(tmp_path):
    """Which only its owner can read."""
    path = tmp_path / "log" / "x.log"
    logsetup.setup({"log_file": str(path)}, "debug")
    logging.getLogger("a").debug("fine")
    assert "DEBUG" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_set_up_twice(capsys):
    """Each record is still written once."""
    logsetup.setup({})
    logsetup.setup({})
    logging.getLogger("a").warning("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_traceback_follows(capsys):
    """On lines of its own."""
    logsetup.setup({})
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("a").exception("failed")
    assert capsys.readouterr().err.rstrip().endswith("ValueError: why")


def test_a_file_that_cannot_be_written(tmp_path):
    """It says which option to change."""
    with pytest.raises(ConfigError, match="set log_file to another"):
        logsetup.setup({"log_file": str(tmp_path)})
