"""The application: routes, errors in one form, and what wraps them."""

from __future__ import annotations

import functools
import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from bus.errors import BusError
from reactor import __version__
from reactor.http.answers import Json, problem
from reactor.http.description import describe, methods_of
from reactor.http.errors import HttpError
from reactor.http.guard import Guard
from reactor.http.models import PROBLEMS
from reactor.http.routes import ROUTERS
from reactor.http.services import Services

log = logging.getLogger(__name__)


def create_app(services: Services) -> ASGIApp:
    """Return the application that serves with ``services``."""
    app = FastAPI(
        title="Reactor",
        version=__version__,
        description="Events, jobs and rules over HTTP. docs/reference/http.md tells the rest.",
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        responses=PROBLEMS,
    )
    app.state.services = services
    app.openapi = functools.partial(describe, app)  # type: ignore[method-assign]
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(BusError, _on_bus_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_failure)
    return Guard(app, int(services.opts["http_max_body"]), services.count)


async def _on_bus_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BusError)
    headers = {}
    if isinstance(error, HttpError) and error.retry_after:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(error.status, str(error), headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        routes = (route for router in ROUTERS for route in router.routes)
        # Starlette names those of the first route of this path only.
        headers["Allow"] = ", ".join(methods_of(routes, request.scope))
    return problem(error.status_code, str(error.detail), headers)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and what, but not the value: it may be a secret.
    texts = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return problem(422, "; ".join(texts))


async def _on_failure(_request: Request, error: Exception) -> Response:
    log.error("a request failed: %s", type(error).__name__)
    return problem(500, "it failed; the log says how")
