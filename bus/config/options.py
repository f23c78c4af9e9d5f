"""The table of options: the one place that names them, for checking, defaults and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bus.tags import MATCH_TYPES
from bus.wire import DEFAULT_MAX_EVENT_SIZE

MASTER, MINION = "master", "minion"
ROLES = (MASTER, MINION)

KINDS = (
    "bool",
    "int",
    "float",
    "text",
    "texts",
    "duration",
    "id",
    "finger",
    "path",
    "paths",
    "roots",
    "mapping",
    "list",
    "reactor",
)

_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a configuration file.

    Attributes:
        name: as it is written in the file.
        kind: one of `KINDS`.
        default: what holds where the file says nothing; ``None`` if it depends on the
            directory or the host, which ``help`` then says.
        roles: whose files may have it.
        help: what it does, one sentence.
        minimum: the least number, or ``None``.
        maximum: the greatest number, or ``None``.
        choices: the texts allowed, or ``None`` for any.
        joined: the lists of several files are joined, instead of the last file's winning.
    """

    name: str
    kind: str
    default: Any
    roles: tuple[str, ...]
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    joined: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the option {self.name} has the unknown kind {self.kind!r}")
        if not self.roles or not set(self.roles) <= set(ROLES):
            raise ValueError(f"the option {self.name} has the unknown roles {self.roles!r}")


def _port(name: str, default: int, roles: tuple[str, ...], text: str) -> Option:
    return Option(name, "int", default, roles, text, minimum=1, maximum=65_535)


_BOTH = ROLES
_MASTER = (MASTER,)
_MINION = (MINION,)

OPTIONS: tuple[Option, ...] = (
    # Where things are
    Option("sock_dir", "path", None, _BOTH, "Directory of the sockets; by default `run/<role>`."),
    Option("pki_dir", "path", None, _BOTH, "Directory of the keys; by default `pki/<role>`."),
    Option("cachedir", "path", None, _BOTH, "What can be made again; by default `cache/<role>`."),
    Option(
        "state_dir",
        "path",
        None,
        _BOTH,
        "What must be kept: journal, spool, the reactor's database; by default `state/<role>`.",
    ),
    Option(
        "log_level",
        "text",
        "info",
        _BOTH,
        "The least important messages that are logged.",
        choices=("debug", "info", "warning", "error", "critical"),
    ),
    Option("log_file", "path", "", _BOTH, "Log file; empty for standard error."),
    Option(
        "hang_after",
        "duration",
        "2m",
        _BOTH,
        "How long a process of this daemon may not come round before it is killed and started "
        "again; a reactor five times as long, since templates may call functions; 0 for any time.",
    ),
    Option(
        "log_format",
        "text",
        "text",
        _BOTH,
        "What a line of the log is: `text` for people, `json` for programs.",
        choices=("text", "json"),
    ),
    Option(
        "file_roots",
        "roots",
        None,
        _BOTH,
        "Environment to directories that `salt://` is looked up in; by default `base` in `files`.",
    ),
    Option("module_dirs", "paths", (), _BOTH, "Directories of your own execution modules."),
    Option("runner_dirs", "paths", (), _MASTER, "Directories of your own runners."),
    # Network
    Option("interface", "text", "0.0.0.0", _MASTER, "Address that minions connect to."),  # noqa: S104 - Salt's default: minions come from other hosts
    _port("ret_port", 4506, _MASTER, "Port that minions connect to, TCP and UDP."),
    Option(
        "transport",
        "text",
        "zeromq",
        _BOTH,
        "What carries the events. `nats` is not available yet.",
        choices=("zeromq",),
    ),
    Option(
        "ipc_mode",
        "text",
        "ipc",
        _BOTH,
        "Local sockets: `ipc` for files in `sock_dir`, `tcp` for ports on loopback.",
        choices=("ipc", "tcp"),
    ),
    _port("tcp_pub_port", 4512, _MASTER, "With `ipc_mode: tcp`, events go out, one by one."),
    _port("tcp_fires_port", 4516, _MASTER, "With `ipc_mode: tcp`, events go out, many together."),
    _port("tcp_pull_port", 4513, _MASTER, "With `ipc_mode: tcp`, events come in."),
    _port("tcp_link_port", 4514, _MASTER, "With `ipc_mode: tcp`, jobs and keys."),
    _port("tcp_reactor_port", 4515, _MASTER, "With `ipc_mode: tcp`, the reactor."),
    _port("tcp_http_port", 4517, _MASTER, "With `ipc_mode: tcp`, the state of the HTTP server."),
    _port("tcp_pub_port", 4510, _MINION, "With `ipc_mode: tcp`, events go out, one by one."),
    _port("tcp_fires_port", 4509, _MINION, "With `ipc_mode: tcp`, events go out, many together."),
    _port("tcp_pull_port", 4511, _MINION, "With `ipc_mode: tcp`, events come in."),
    _port("tcp_reactor_port", 4508, _MINION, "With `ipc_mode: tcp`, the minion's reactor."),
    # Events
    Option(
        "event_match_type",
        "text",
        "startswith",
        _BOTH,
        "How a listener's tag is matched if it does not say.",
        choices=MATCH_TYPES,
    ),
    Option(
        "max_event_size",
        "int",
        DEFAULT_MAX_EVENT_SIZE,
        _BOTH,
        "Bytes of the largest event, tag included.",
        minimum=256,
        maximum=1_073_741_824,
    ),
    Option(
        "fire_rate",
        "int",
        0,
        _BOTH,
        "Events a second that one sender may fire; who fires faster has to wait. 0 for no limit.",
        minimum=0,
        maximum=100_000_000,
    ),
    Option(
        "max_listeners",
        "int",
        10_000,
        _BOTH,
        "Most listeners of the bus at the same time.",
        minimum=1,
        maximum=1_000_000,
    ),
    Option(
        "listener_queue",
        "int",
        2_000,
        _BOTH,
        "Events that wait in the bus for one slow subscriber that is not of this library.",
        minimum=100,
        maximum=10_000_000,
    ),
    Option(
        "listener_queue_size",
        "int",
        134_217_728,
        _BOTH,
        "Bytes of events that wait in the bus for one slow listener before it loses some.",
        minimum=1_048_576,
    ),
    Option(
        "presence_events",
        "bool",
        False,
        _MASTER,
        "Fire `salt/presence/...` events about the connected minions.",
    ),
    Option(
        "journal_sync",
        "text",
        "normal",
        _MASTER,
        "What an acknowledgement survives: `normal` a killed process, `always` also lost power.",
        choices=("normal", "always"),
    ),
    Option(
        "journal_keep",
        "duration",
        "7d",
        _MASTER,
        "How long events stay in the journal; `0` keeps them for ever.",
    ),
    Option(
        "journal_max_size",
        "int",
        0,
        _MASTER,
        "Bytes of the journal after which the oldest events go, whoever has read them; 0 for no "
        "limit: when the disk is full, firing is refused and nothing is lost.",
        minimum=0,
    ),
    Option(
        "journal_segment_size",
        "int",
        67_108_864,
        _MASTER,
        "Bytes of one file of the journal; only whole files are removed.",
        minimum=65_536,
    ),
    # Reactor
    Option(
        "reactor",
        "reactor",
        (),
        _BOTH,
        "Salt's reactor map: a list of `tag glob: path or paths`; joined over the files.",
        joined=True,
    ),
    Option(
        "rules",
        "paths",
        (),
        _BOTH,
        "Native rule files, folders of them, or globs; joined over the files.",
        joined=True,
    ),
    Option(
        "reactor_worker_threads",
        "int",
        10,
        _BOTH,
        "Runner and wheel reactions that run at the same time.",
        minimum=1,
        maximum=1_000,
    ),
    Option(
        "reactor_worker_hwm",
        "int",
        10_000,
        _BOTH,
        "Reactions that wait for a worker before the reactor stops reading events.",
        minimum=1,
        maximum=10_000_000,
    ),
    Option(
        "reactor_secrets",
        "mapping",
        _NOTHING,
        _BOTH,
        "Name to file, for what rules sign and prove with; only its owner may read a file.",
    ),
    Option(
        "reactor_notify",
        "mapping",
        _NOTHING,
        _BOTH,
        "Name to mail or chat, for the rule action `notify`.",
    ),
    Option(
        "reactor_standbys",
        "int",
        0,
        _MASTER,
        "Further reactors that `reactor master` runs: they stand by until the active one dies or "
        "hangs.",
        minimum=0,
        maximum=8,
    ),
    Option(
        "reactor_take_over_after",
        "float",
        3.0,
        _MASTER,
        "Seconds without a sign of life after which a reactor that stands by ends the active one "
        "and takes over; one that died is followed at once.",
        minimum=1.0,
        maximum=3_600.0,
    ),
    Option(
        "reactor_max_chain",
        "int",
        32,
        _BOTH,
        "Reactions in one chain, each to an event of the one before, until it is stopped as a "
        "loop.",
        minimum=1,
        maximum=10_000,
    ),
    Option(
        "reactor_max_self_fed",
        "int",
        1_000,
        _BOTH,
        "Reactions of a rule to events that it fired itself, within ten seconds, until it is "
        "stopped as a loop; 0 for no limit.",
        minimum=0,
        maximum=10_000_000,
    ),
    Option(
        "reactor_trace_keep",
        "int",
        20,
        _BOTH,
        "Traces of each rule that `reactor trace` shows, of each kind: reactions, failed ones, "
        "events that the rule turned away; 0 keeps none.",
        minimum=0,
        maximum=10_000,
    ),
    Option(
        "reactor_dead_keep",
        "int",
        10_000,
        _BOTH,
        "Failed reactions that `reactor dead` can retry; of more the oldest go, with a word in "
        "the log.",
        minimum=1,
        maximum=10_000_000,
    ),
    # HTTP, see docs/reference/http.md
    Option("http_interface", "text", "127.0.0.1", _MASTER, "Address that serves HTTP."),
    Option(
        "http_port",
        "int",
        8_000,
        _MASTER,
        "Port of HTTP in `reactor up` and `reactor http`; 0 for none.",
        minimum=0,
        maximum=65_535,
    ),
    Option("http_tls_cert", "path", "", _MASTER, "Certificate (PEM, chain included) of HTTP."),
    Option("http_tls_key", "path", "", _MASTER, "Its private key (PEM)."),
    Option(
        "http_self_signed",
        "bool",
        True,
        _MASTER,
        "Without `http_tls_cert`, make a certificate; `false` serves HTTP without encryption.",
    ),
    Option(
        "http_token_lifetime",
        "duration",
        "12h",
        _MASTER,
        "How long the token of a login lasts.",
    ),
    Option(
        "http_pam_service", "text", "login", _MASTER, "PAM service that checks the users of PAM."
    ),
    Option(
        "http_max_body",
        "int",
        1_048_576,
        _MASTER,
        "Bytes of the largest request.",
        minimum=1_024,
        maximum=1_073_741_824,
    ),
    Option(
        "http_max_streams",
        "int",
        2_000,
        _MASTER,
        "Most event streams at the same time.",
        minimum=1,
        maximum=1_000_000,
    ),
    Option(
        "http_stream_lag",
        "int",
        100_000,
        _MASTER,
        "Events that a slow client of live events may be behind before it is told of a gap.",
        minimum=1_000,
    ),
    Option(
        "http_heartbeat",
        "float",
        15,
        _MASTER,
        "Seconds of silence after which an event stream gets a comment.",
        minimum=0.1,
        maximum=3_600,
    ),
    Option(
        "http_open_metrics", "bool", False, _MASTER, "Serve `/metrics` to those without a token."
    ),
    Option("http_hooks", "mapping", _NOTHING, _MASTER, "Webhooks that sign instead of a token."),
    Option(
        "http_hook_window",
        "duration",
        "5m",
        _MASTER,
        "How old a signed webhook may be, and for how long the same one is refused.",
    ),
    Option(
        "http_hook_rate",
        "int",
        100,
        _MASTER,
        "Webhooks a second that one path takes; 0 for no limit.",
        minimum=0,
        maximum=1_000_000,
    ),
    # Keys, targets and jobs
    Option("auto_accept", "bool", False, _MASTER, "Accept the key of every minion unseen."),
    Option(
        "autosign_file",
        "path",
        None,
        _MASTER,
        "Whose keys are accepted unseen, one a line; by default `autosign.conf` beside the file.",
    ),
    Option(
        "autoreject_file",
        "path",
        None,
        _MASTER,
        "Whose keys are rejected unseen, one a line; by default `autoreject.conf` beside the file.",
    ),
    Option(
        "minion_may_fire",
        "texts",
        ("*",),
        _MASTER,
        "Globs of the tags that minions may fire, `{id}` being the minion's own; the tags by which "
        "only the master speaks are never among them.",
    ),
    Option("nodegroups", "mapping", _NOTHING, _MASTER, "Name to compound target, for `-N`."),
    Option(
        "timeout",
        "float",
        5,
        _MASTER,
        "Seconds that a client waits for a job's returns.",
        minimum=0,
        maximum=86_400,
    ),
    Option(
        "keep_jobs_seconds",
        "int",
        86_400,
        _MASTER,
        "Seconds that jobs and their returns are kept.",
        minimum=0,
    ),
    Option(
        "master_key_grace_seconds",
        "int",
        2_592_000,
        _MASTER,
        "Seconds during which a key of the master that was replaced still vouches for the new one "
        "to minions that were away; 0 keeps no old key.",
        minimum=0,
    ),
    # Minion
    Option("id", "id", None, _MINION, "The minion's name; by default the name of the host."),
    Option("master", "texts", "127.0.0.1", _MINION, "Address of the master, or a list of them."),
    _port("master_port", 4506, _MINION, "The `ret_port` of the master."),
    Option(
        "master_finger",
        "finger",
        "",
        _MINION,
        "Fingerprint of the master's key; empty to pin the key that is seen first.",
    ),
    Option(
        "master_type",
        "text",
        "str",
        _MINION,
        "`str` for one master, `failover` for the first of a list, `disable` for none.",
        choices=("str", "failover", "disable"),
    ),
    Option(
        "file_client",
        "text",
        "remote",
        _MINION,
        "`remote`: custom modules come from the master. `local`: from this host's `file_roots` as "
        "well, and what modules send to the master stays on the minion's own bus.",
        choices=("remote", "local"),
    ),
    Option(
        "master_failback",
        "bool",
        False,
        _MINION,
        "Whether to go back to the first of several masters once it answers again, by UDP.",
    ),
    Option(
        "master_failback_interval",
        "float",
        30,
        _MINION,
        "Seconds between two looks whether it does.",
        minimum=0.05,
        maximum=86_400,
    ),
    Option("grains", "mapping", _NOTHING, _MINION, "Grains of your own."),
    Option(
        "acceptance_wait_time",
        "float",
        10,
        _MINION,
        "Seconds between two attempts while the key is not accepted.",
        minimum=0.05,
        maximum=86_400,
    ),
    Option(
        "spool_max_size",
        "int",
        104_857_600,
        _MINION,
        "Bytes of events kept on disk while the master is away.",
        minimum=1_024,
    ),
    Option(
        "spool_policy",
        "text",
        "refuse",
        _MINION,
        "What a full spool does: `refuse` new events, whose sender is told, or `drop_oldest` to "
        "make room, and the master is told how many.",
        choices=("refuse", "drop_oldest"),
    ),
    Option(
        "job_workers",
        "int",
        2,
        _MINION,
        "Worker processes that are kept warm.",
        minimum=1,
        maximum=1_000,
    ),
    Option(
        "job_workers_max",
        "int",
        8,
        _MINION,
        "Most jobs that run at the same time.",
        minimum=1,
        maximum=1_000,
    ),
    Option(
        "job_timeout",
        "float",
        0,
        _MINION,
        "Seconds after which a job is killed; 0 for never.",
        minimum=0,
    ),
    Option(
        "job_memory_max",
        "int",
        0,
        _MINION,
        "Bytes of memory that a job, and each process that it starts, may take; 0 for no limit.",
        minimum=0,
    ),
)


def options_of(role: str) -> dict[str, Option]:
    """Return the options that the files of ``role`` may have, by name."""
    return {option.name: option for option in OPTIONS if role in option.roles}


def describe() -> list[dict[str, str]]:
    """Return a row of texts for each option: ``option roles type default help``, for the docs."""
    return [_row(option) for option in OPTIONS]


def expectation(option: Option) -> str:
    """Say what values ``option`` takes, as errors and the docs do."""
    if option.choices:
        return "one of " + ", ".join(option.choices)
    return _NOUNS[option.kind] + _limits(option)


_NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "text": "text (in quotes if it looks like a number)",
    "texts": "text or a list of texts",
    "duration": "a duration such as '90s', '1h30m' or '7d'",
    "id": "a name without spaces or any of '/*?[],', at most 200 bytes (in quotes if it looks like "
    "a number)",
    "finger": "a fingerprint: 32 bytes in hex with colons, as 'reactor key finger' prints it, in "
    "quotes",
    "path": "a path",
    "paths": "a path or a list of paths",
    "roots": "a mapping of environments to lists of directories",
    "mapping": "a mapping (name: value)",
    "list": "a list",
    "reactor": "a list of one-key mappings (- 'tag glob': path or list of paths)",
}


def _limits(option: Option) -> str:
    low, high = option.minimum, option.maximum
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""


def _row(option: Option) -> dict[str, str]:
    return {
        "option": option.name,
        "roles": ", ".join(option.roles),
        "type": expectation(option),
        "default": _spoken(option.default),
        "help": option.help,
    }


def _spoken(default: Any) -> str:
    if default is None:
        return "see help"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[]"
    return "{}" if default == _NOTHING else str(default) or '""'
