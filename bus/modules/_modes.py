"""Reads permissions that a person wrote in octal. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

from bus.modules._errors import InvocationError

# fmt: off
USUAL_MODES = frozenset({
    0o400, 0o440, 0o444, 0o500, 0o550, 0o555, 0o600, 0o640, 0o644, 0o660, 0o664, 0o666,
    0o700, 0o710, 0o711, 0o750, 0o755, 0o770, 0o775, 0o777,
    0o1777, 0o2750, 0o2755, 0o2770, 0o2775, 0o4755,
})
# fmt: on
USUAL_UMASKS = frozenset({0, 0o2, 0o7, 0o22, 0o27, 0o37, 0o77})

_ALL_BITS = 0o7777


def read(value: str | int, usual: Collection[int], name: str = "mode") -> int:
    """Return the permission bits that ``value`` means.

    Text is octal. A number may be either: YAML reads ``0640`` as octal, which makes it 416, but
    ``640`` as decimal. No two usual permissions collide in that, so a number means the usual one
    that it can mean, and any other has to be written in quotes.

    >>> oct(read(416, USUAL_MODES)), oct(read(640, USUAL_MODES)), oct(read("0640", USUAL_MODES))
    ('0o640', '0o640', '0o640')

    Raises:
        InvocationError: it is not octal, out of range, or a number that could be two things.
    """
    if isinstance(value, str):
        return _octal(value, name)
    readings = {bits for bits in (*_digits(value), value) if bits in usual}
    if len(readings) != 1:
        raise InvocationError(f"the {name} {value!r} is not clear: write it in quotes, as '0644'")
    return readings.pop()


def _octal(text: str, name: str) -> int:
    try:
        bits = int(text, 8)
    except ValueError as error:
        raise InvocationError(f"the {name} {text!r} is not octal: write one as '0644'") from error
    if not 0 <= bits <= _ALL_BITS:
        raise InvocationError(f"the {name} {text!r} is out of range: 0000 to 7777")
    return bits


def _digits(value: int) -> list[int]:
    try:
        return [int(str(value), 8)]
    except ValueError:
        return []
