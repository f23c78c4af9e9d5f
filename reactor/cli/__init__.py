"""The program ``reactor``: one file a command, each loaded only when it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program and exit with its status."""
    try:
        from reactor.cli.program import program

        program.main(prog_name="reactor")
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says of a program that SIGINT ended
