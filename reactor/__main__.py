"""``python -m reactor`` is the program ``reactor``."""

from reactor.cli import main

main()
