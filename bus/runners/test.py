"""Functions that prove that runners run, and what with."""

from __future__ import annotations

import time
from typing import Any


def ping() -> bool:
    """Return true.

    CLI example: ``reactor run test.ping``
    """
    return True


def arg(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments as they arrived.

    CLI example: ``reactor run test.arg 1 two name=three``
    """
    return {"args": list(args), "kwargs": kwargs}


def sleep(s_time: float = 10) -> bool:
    """Wait so many seconds, then return true.

    CLI example: ``reactor run test.sleep 2``
    """
    time.sleep(float(s_time))
    return True
