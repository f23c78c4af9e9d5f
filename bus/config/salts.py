"""Options of Salt's that are none here: why, and what is in their place. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

_NOTHING = "it is Salt's, and there is nothing of the kind here: remove it"
_PERMISSIONS = "permissions are of users and tokens here: see 'reactor user' and 'reactor token'"

ADVICE: Mapping[str, str] = {
    "publish_port": "one port, ret_port, serves for both here: remove it",
    "rest_cherrypy": "HTTP is built in: see the options http_port, http_hooks and the like",
    "rest_tornado": "HTTP is built in: see the options http_port, http_hooks and the like",
    "external_auth": _PERMISSIONS,
    "publisher_acl": _PERMISSIONS,
    "client_acl": _PERMISSIONS,
    "user": "each part runs as the user who starts it: remove it",
    "schedule": "rules have schedules, 'every' and 'cron': remove it",
    "open_mode": "there is no mode that takes every key: see autosign_file and auto_accept",
    **dict.fromkeys(
        (
            *("worker_threads", "file_recv", "hash_type", "keysize", "renderer", "saltenv"),
            *("pillar_roots", "pillar_opts", "ext_pillar", "mine_functions", "mine_interval"),
            *("fileserver_backend", "gitfs_remotes", "gitfs_provider", "git_pillar_provider"),
            *("state_output", "state_verbose", "state_top", "startup_states", "highstate"),
            *("log_level_logfile", "log_fmt_console", "log_fmt_logfile", "log_datefmt"),
            *("syndic_master", "order_masters", "returner", "return", "master_job_cache"),
            *("job_cache", "peer", "peer_run", "beacons", "engines", "root_dir", "environment"),
            *("extension_modules", "zmq_filtering", "pub_hwm", "jinja_trim_blocks"),
            *("cython_enable", "multiprocessing", "ping_interval", "permissive_pki_access"),
        ),
        _NOTHING,
    ),
}
"""What to say of an option, by its name."""
