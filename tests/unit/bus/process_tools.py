"""Processes for tests to look for and to signal."""

import subprocess
import sys
import uuid
from contextlib import contextmanager

PROGRAM = "import sys; print('ready', flush=True); sys.stdin.read()"


@contextmanager
def sleeper(*arguments, program=PROGRAM):
    """Run a process that waits until it is ended; yields it and a mark in its command line."""
    mark = f"mark-{uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, mark, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process, mark
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
