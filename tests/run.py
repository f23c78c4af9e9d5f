"""Runs the test suite: ``python -m tests.run [PYTEST ARGUMENTS]``.

Without arguments everything, in several processes, with branch coverage of both packages and of
the processes that the tests start; with arguments only what they name.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_COVERAGE = 90
"""Percent of the lines and branches that the whole suite has to reach."""


def workers() -> int:
    """Return how many test processes run at once: much of a test is waiting for another process."""
    return min(4, 2 * (os.cpu_count() or 1))


def command(arguments: list[str]) -> list[str]:
    """Return the command line of pytest."""
    # Whoever has nothing left to do takes from the others: the longest tests are the last ones.
    line = [sys.executable, "-m", "pytest", "-n", str(workers()), "--dist", "worksteal", *arguments]
    if not arguments:
        line += ["--cov", "--cov-branch", "--cov-report=term", f"--cov-fail-under={LEAST_COVERAGE}"]
    return line


def main() -> int:
    """Run the tests; pytest's closing line is the last thing that is printed."""
    return subprocess.call(command(sys.argv[1:]), cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
