"""The routes, a file for each area."""

from __future__ import annotations

from reactor.http.routes import (
    events,
    explain,
    fire,
    health,
    hook,
    jobs,
    login,
    minions,
    page,
    rules,
    run,
    stats,
    ws,
)

ROUTERS = (
    health.router,
    login.router,
    events.router,
    ws.router,
    fire.router,
    hook.router,
    run.router,
    jobs.router,
    minions.router,
    rules.router,
    explain.router,
    stats.router,
    page.router,
)
"""In the order in which the API's description lists them."""
