"""What Salt's users type out of habit, and what to write here. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_EVERYWHERE: Mapping[str, str] = {
    "-c": "write '--config DIR'",
    "--config-dir": "write '--config DIR'",
    "--out": "write '--json', or nothing for Salt's nested form",
    "--output": "write '--json', or nothing for Salt's nested form",
    "-l": "'--debug' shows where an error comes from; daemons have the option log_level",
    "--log-level": "'--debug' shows where an error comes from; daemons have the option log_level",
    "--no-color": "set the environment variable NO_COLOR=1",
    "-d": "'reactor cmd TGT sys.doc FUN' shows what a function is for",
    "--doc": "'reactor cmd TGT sys.doc FUN' shows what a function is for",
}

_KEY: Mapping[str, str] = {
    "-L": "write 'reactor key list'",
    "--list-all": "write 'reactor key list'",
    "-l": "write 'reactor key list pending', or another state",
    "--list": "write 'reactor key list pending', or another state",
    "-a": "write 'reactor key accept ID'",
    "--accept": "write 'reactor key accept ID'",
    "-A": "write 'reactor key accept --all'",
    "--accept-all": "write 'reactor key accept --all'",
    "-r": "write 'reactor key reject ID'",
    "--reject": "write 'reactor key reject ID'",
    "-R": "write 'reactor key reject --all'",
    "--reject-all": "write 'reactor key reject --all'",
    "-d": "write 'reactor key delete ID'",
    "--delete": "write 'reactor key delete ID'",
    "-D": "write 'reactor key delete --all'",
    "--delete-all": "write 'reactor key delete --all'",
    "-f": "write 'reactor key finger ID'",
    "--finger": "write 'reactor key finger ID'",
    "-F": "write 'reactor key finger'",
    "--finger-all": "write 'reactor key finger'",
    "--gen-keys": "write 'reactor key gen ID'",
}

_CMD: Mapping[str, str] = {
    "-v": "'--summary' counts the returns; the job's id is in 'reactor jobs'",
    "--verbose": "'--summary' counts the returns; the job's id is in 'reactor jobs'",
    "--static": "leave it out: '--json' prints all returns at once",
    "-I": "there is no pillar here: target by a grain or a nodegroup",
    "--pillar": "there is no pillar here: target by a grain or a nodegroup",
    "-R": "there are no ranges here: target by a list, a grain or a nodegroup",
    "--return": "there are no returners here: a rule on 'salt/job/*/ret/*' sees each return",
    "--batch-size": "write '--batch N'",
    "--show-jid": "'reactor jobs' lists the ids of jobs",
    "--hide-timeout": "who did not answer is told on standard error: add 2>/dev/null",
}

_RUN: Mapping[str, str] = {
    "-d": "write 'reactor run doc.runner'",
    "--doc": "write 'reactor run doc.runner'",
    "--async": "leave it out, or put it into the background with '&'",
}

_OF_COMMANDS: Mapping[str, Mapping[str, str]] = {"key": _KEY, "cmd": _CMD, "run": _RUN}


def advice(command: str, option: str) -> str:
    """Return what to do in place of an option of Salt's, or an empty text if it is none.

    Args:
        command: a command such as ``key``.
        option: the option as it was typed.
    """
    return _OF_COMMANDS.get(command, {}).get(option) or _EVERYWHERE.get(option, "")
