"""Shows the master's options, and writes them into its configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bus import yamlfile
from bus.config import settings
from bus.config.options import MASTER, options_of
from bus.config.opts import thaw
from bus.errors import ConfigError
from bus.modules import _atomic
from bus.modules._errors import ExecutionError, InvocationError

__opts__: Mapping[str, Any]

_SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|_key$", re.IGNORECASE)
_HIDDEN = "(hidden)"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_APPLIED = "zz-applied"
"""The file that `apply` writes: by its name it is read after others, and so beats them."""
_PRIVATE = 0o600  # options may be secrets
_PRIVATE_DIR = 0o700


def values() -> dict[str, Any]:
    """Return all options of the master and what they are set to; secrets are hidden.

    CLI example: in a reaction ``wheel.config.values``
    """
    found: dict[str, Any] = _without_secrets(thaw(dict(__opts__)))
    return found


def update_config(file_name: str, yaml_contents: Mapping[str, Any]) -> str:
    """Write options into a file of ``master.d``, checked first; a file of that name is replaced.

    They hold when the master is started again.

    CLI example: in a reaction ``wheel.config.update_config``

    Args:
        file_name: of the file, without ``.conf``.
        yaml_contents: the options.

    Returns:
        Which file was written.

    Raises:
        InvocationError: that is no name for a file, or the options are no mapping.
        ConfigError: an unknown option, or a value that it does not take.
        ExecutionError: the file cannot be written.
    """
    path = _file(file_name)
    _write(path, yaml_contents)
    return f"Wrote {path}"


def apply(key: str, value: Any) -> str:
    """Set one option of the master for good; it holds when the master is started again.

    It stands in ``master.d/zz-applied.conf``: the master's other files stay as they are.

    CLI example: in a reaction ``wheel.config.apply``

    Args:
        key: the option.
        value: what it is set to; None takes it out again.

    Returns:
        Which file was written.

    Raises:
        InvocationError: the option is a list that is joined over the files.
        ConfigError: an unknown option, or a value that it does not take.
        ExecutionError: the file cannot be read or written.
    """
    option = options_of(MASTER).get(str(key))
    if option is not None and option.joined:
        raise InvocationError(
            f"{key} is joined over all files: write one with config.update_config"
        )
    path = _file(_APPLIED)
    kept = {name: given for name, given in _read(path).items() if name != key}
    _write(path, {**kept, str(key): value} if value is not None else kept)
    return f"Wrote {path}"


def _file(name: str) -> Path:
    stem = str(name).removesuffix(".conf")
    if not _NAME.fullmatch(stem):
        raise InvocationError(
            f"{name!r} is no name for a file of master.d: write one such as 'site'"
        )
    return Path(str(__opts__["config_dir"]), "master.d", f"{stem}.conf")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found, _lines = yamlfile.load(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ExecutionError(f"{path}: it cannot be read: {error}") from error
    except yamlfile.YamlError as error:
        raise ConfigError(error.problem, str(path), error.line) from error
    return found if isinstance(found, Mapping) else {}


def _write(path: Path, options: Any) -> None:
    if not isinstance(options, Mapping):
        raise InvocationError("the options are a mapping, such as {timeout: 10}")
    checked = settings.check(MASTER, options, str(__opts__["config_dir"]))
    settings.check_together(MASTER, {**__opts__, **checked})
    try:
        text = yaml.safe_dump(thaw(dict(options)), default_flow_style=False, allow_unicode=True)
        path.parent.mkdir(mode=_PRIVATE_DIR, exist_ok=True)
        _atomic.write(path, text.encode(), _PRIVATE)
    except yaml.YAMLError as error:
        raise InvocationError(f"the options must be plain data: {error}") from error
    except OSError as error:
        raise ExecutionError(f"{path}: it cannot be written: {error.strerror}") from error


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if item and _SECRET.search(str(key)) else _without_secrets(item)
            for key, item in value.items()
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
