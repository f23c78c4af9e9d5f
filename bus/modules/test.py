"""Functions that prove that jobs arrive, and what with."""

from __future__ import annotations

import secrets
import string
import time
from typing import Any

import bus
from bus.modules._errors import ExecutionError, InvocationError

_HASH_CHARACTERS = string.ascii_letters + string.digits
_MAX_RANDOM = 4096


def ping() -> bool:
    """Return true: the minion is there and answers.

    CLI example: ``reactor cmd '*' test.ping``
    """
    return True


def echo(text: Any) -> Any:
    """Return what was given.

    CLI example: ``reactor cmd web1 test.echo 'hello'``
    """
    return text


def arg(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments as they arrived.

    CLI example: ``reactor cmd web1 test.arg 1 two name=three``
    """
    return {"args": list(args), "kwargs": kwargs}


def kwarg(**kwargs: Any) -> dict[str, Any]:
    """Return the keyword arguments as they arrived.

    CLI example: ``reactor cmd web1 test.kwarg num=1 text=two``
    """
    return kwargs


def sleep(length: float) -> bool:
    """Wait so many seconds, then return true.

    CLI example: ``reactor cmd web1 test.sleep 2``
    """
    time.sleep(float(length))
    return True


def version() -> str:
    """Return the version of the software that answers.

    CLI example: ``reactor cmd '*' test.version``
    """
    return bus.__version__


def true() -> bool:
    """Return true.

    CLI example: ``reactor cmd web1 test.true``
    """
    return True


def false() -> bool:
    """Return false.

    CLI example: ``reactor cmd web1 test.false``
    """
    return False


def exception(message: str = "Test Exception") -> None:
    """Raise an error, to see what becomes of it.

    CLI example: ``reactor cmd web1 test.exception 'Oh no!'``

    Raises:
        ExecutionError: always, with this text.
    """
    raise ExecutionError(str(message))


def rand_str(size: int = 32) -> str:
    """Return so many random letters and digits, at most 4096.

    CLI example: ``reactor cmd web1 test.rand_str 16``
    """
    if not 0 < int(size) <= _MAX_RANDOM:
        raise InvocationError(f"size is {size}: give a number from 1 to {_MAX_RANDOM}")
    return "".join(secrets.choice(_HASH_CHARACTERS) for _ in range(int(size)))
