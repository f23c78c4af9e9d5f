"""The Jinja filters and tests that Salt's users know, beside those that come with Jinja."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from jinja2 import Undefined
from jinja2.exceptions import FilterArgumentError
from yaml.representer import RepresenterError

from bus import jsontext, yamlfile
from reactor.rules.bounds import check_size
from reactor.rules.regexes import Regex

if TYPE_CHECKING:
    import regex

_UUID_NAMESPACE = uuid.UUID("91633ebf-1c86-5e33-935a-28061f4b480e")
"""Salt's namespace, so that the same text gives the same UUID."""

_TRUE_WORDS = frozenset({"yes", "1", "true"})
_NOT_FOR_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_ONE_LINE = 2**31 - 1
_FLAGS = {"ignorecase": re.IGNORECASE, "multiline": re.MULTILINE}


def _refuse(value: Any) -> NoReturn:
    """Say in the words of a rule's author why a value can be neither JSON nor YAML."""
    _check_defined(value)
    raise FilterArgumentError(f"a {type(value).__name__} is no data: add '| list'?")


def _check_defined(value: Any) -> None:
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()  # noqa: SLF001 - Jinja has no public way to ask


class _Dumper(yaml.CSafeDumper):
    """PyYAML's safe dumper, which refuses in other words."""

    def represent_data(self, data: Any) -> yaml.Node:
        """Make a node of a value, unless it is no data."""
        try:
            return super().represent_data(data)
        except RepresenterError:
            _refuse(data)


def to_json(value: Any, sort_keys: bool = True, indent: int | None = None) -> str:
    """Return ``value`` in JSON that is also YAML, whatever letters are in it."""
    if indent is not None and not 0 <= indent <= 16:
        raise FilterArgumentError("json: indent is a number from 0 to 16")
    # YAML knows no surrogate pairs, so letters stand for themselves except where it refuses them.
    text = jsontext.shown(
        value, sort_keys=sort_keys, indent=indent, ensure_ascii=False, default=_refuse
    )
    return _NOT_FOR_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def to_yaml(value: Any, flow_style: bool = True) -> str:
    """Return ``value`` in YAML, in one line unless ``flow_style`` is false."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow_style,
        allow_unicode=True,
        width=_ONE_LINE,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def yaml_dquote(value: Any) -> str:
    """Return the text in double quotes, so that nothing in it is YAML."""
    return to_json(str(value))


def yaml_squote(value: Any) -> str:
    """Return the text in single quotes; in double ones if it has letters that need them."""
    text = str(value)
    if not text.isprintable():
        return yaml_dquote(text)
    return "'" + text.replace("'", "''") + "'"


def yaml_encode(value: Any) -> str:
    """Return a number, text, truth value or nothing as a YAML scalar that reads back the same."""
    if isinstance(value, str):
        return yaml_dquote(value)
    if value is None or isinstance(value, int | float):
        return to_yaml(value)
    _check_defined(value)
    raise FilterArgumentError(f"yaml_encode takes a single value, not {type(value).__name__}")


def load_json(value: Any) -> Any:
    """Return what a text of JSON says, such as the ``body`` of a webhook."""
    try:
        return json.loads(_readable(value, "load_json"))
    except ValueError as error:
        raise FilterArgumentError(f"load_json: no JSON: {error}") from error
    except RecursionError as error:
        raise FilterArgumentError("load_json: the JSON nests too deeply") from error


def load_yaml(value: Any) -> Any:
    """Return what a text of YAML says; a key twice is refused, and dates stay text."""
    try:
        return yamlfile.load(_readable(value, "load_yaml"), "load_yaml")[0]
    except yamlfile.YamlError as error:
        where = f"line {error.line}, column {error.column}"
        raise FilterArgumentError(f"load_yaml: {error.problem} ({where} of the text)") from error


def _readable(value: Any, name: str) -> str:
    _check_defined(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        raise FilterArgumentError(f"{name} takes text, not {type(value).__name__}")
    return value


def traverse(value: Any, path: Any, default: Any = None, delimiter: str = ":") -> Any:
    """Return what ``path`` leads to, such as ``repository:owner:0:name``, else ``default``."""
    _check_defined(value)
    for part in str(path).split(delimiter):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return default
    return value


def to_bool(value: Any) -> bool:
    """Say whether ``value`` is true, or a word or number that means so."""
    if isinstance(value, str):
        return value.strip().lower() in _TRUE_WORDS
    if isinstance(value, int | float):
        return value > 0
    return bool(value)


def _compile(pattern: str, ignorecase: bool, multiline: bool) -> Regex:
    chosen = {"ignorecase": ignorecase, "multiline": multiline}
    flags = sum((_FLAGS[name] for name, wanted in chosen.items() if wanted), re.RegexFlag(0))
    return Regex(str(pattern), int(flags))


def regex_match(
    text: str, pattern: str, ignorecase: bool = False, multiline: bool = False
) -> tuple[str, ...] | None:
    """Return the groups if ``pattern`` matches at the start of ``text``, else None."""
    found = _compile(pattern, ignorecase, multiline).match(text)
    return found.groups() if found else None


def regex_search(
    text: str, pattern: str, ignorecase: bool = False, multiline: bool = False
) -> tuple[str, ...] | None:
    """Return the groups if ``pattern`` matches anywhere in ``text``, else None."""
    found = _compile(pattern, ignorecase, multiline).search(text)
    return found.groups() if found else None


def regex_replace(
    text: str, pattern: str, new: str, ignorecase: bool = False, multiline: bool = False
) -> str:
    """Return ``text`` with each match of ``pattern`` replaced by ``new``."""
    size = len(text)

    def replaced(found: regex.Match[str]) -> str:
        nonlocal size
        piece: str = found.expand(new)
        size += len(piece)
        check_size(size)
        return piece

    return _compile(pattern, ignorecase, multiline).replace(text, replaced)


def quote(value: Any) -> str:
    """Return the text quoted for a POSIX shell."""
    return shlex.quote(str(value))


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return datetime.fromisoformat(str(value))


def strftime(value: Any, form: str = "%Y-%m-%d") -> str:
    """Return a time (ISO text such as ``_stamp``, or seconds since 1970) in the form ``form``."""
    try:
        return _moment(value).strftime(form)
    except (ValueError, OverflowError, OSError) as error:
        raise FilterArgumentError(f"strftime: {value!r} is no time: {error}") from error


def _uuid(value: Any) -> str:
    return str(uuid.uuid5(_UUID_NAMESPACE, str(value)))


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _md5(value: Any) -> str:
    return hashlib.md5(_bytes(value), usedforsecurity=False).hexdigest()


def _sha256(value: Any) -> str:
    return hashlib.sha256(_bytes(value)).hexdigest()


def _sha512(value: Any) -> str:
    return hashlib.sha512(_bytes(value)).hexdigest()


def _base64_encode(value: Any) -> str:
    return base64.b64encode(_bytes(value)).decode()


def _base64_decode(value: Any) -> str:
    return base64.b64decode(_bytes(value)).decode()


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def filters() -> Mapping[str, Callable[..., Any]]:
    """Return the filters by name."""
    return {
        "base64_decode": _base64_decode,
        "base64_encode": _base64_encode,
        "is_list": _is_list,
        "json": to_json,
        "load_json": load_json,
        "load_yaml": load_yaml,
        "md5": _md5,
        "quote": quote,
        "regex_escape": re.escape,
        "regex_match": regex_match,
        "regex_replace": regex_replace,
        "regex_search": regex_search,
        "sha256": _sha256,
        "sha512": _sha512,
        "strftime": strftime,
        "to_bool": to_bool,
        "tojson": to_json,
        "traverse": traverse,
        "uuid": _uuid,
        "yaml": to_yaml,
        "yaml_dquote": yaml_dquote,
        "yaml_encode": yaml_encode,
        "yaml_squote": yaml_squote,
    }


def tests() -> Mapping[str, Callable[..., Any]]:
    """Return the tests by name (``x is list``)."""
    return {"is_list": _is_list, "list": _is_list}
