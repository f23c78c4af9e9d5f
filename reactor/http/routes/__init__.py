"""The routes, a file for each area."""

from __future__ import annotations

from reactor.http.routes import events, fire, health, login

ROUTERS = (health.router, events.router, fire.router, login.router)
"""In the order in which the API's description lists them."""
