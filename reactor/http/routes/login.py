"""``/login`` and ``/logout``, in Salt's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from reactor.http import bodies
from reactor.http.answers import Json, returned
from reactor.http.auth import COOKIE, Identity, address_of, is_same_origin
from reactor.http.errors import ForbiddenError, HttpError
from reactor.http.models import Returned
from reactor.http.services import Serves, Services, Who

router = APIRouter(tags=["login"])

_TEXT = {"type": "string", "minLength": 1}
_EAUTH = {
    "type": "string",
    "description": "pam asks PAM only; others ask what the user is kept by.",
}
_LOGIN = {
    "anyOf": [
        {
            "type": "object",
            "required": ["username", "password"],
            "properties": {"username": _TEXT, "password": _TEXT, "eauth": _EAUTH},
        },
        {"type": "object", "required": ["token"], "properties": {"token": _TEXT}},
    ]
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _LOGIN},
            "application/x-www-form-urlencoded": {"schema": _LOGIN},
        },
    }
}


@router.post("/login", response_model=Returned, summary="Log in", openapi_extra=_BODY)
async def login(request: Request, services: Serves) -> Json:
    """Check user and password, or a token, and give a token, in the answer and as a cookie."""
    if not is_same_origin(request):
        raise ForbiddenError("a page of another site made this request")
    low = bodies.read(await request.body(), request.headers.get("content-type", ""))
    low = low[0] if isinstance(low, list) and low else low
    secret, who = await credentials(services, low, address_of(request))
    answer = returned(_described(secret, who, low))
    expires = who.token.expires
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=None if expires is None else max(0, int(expires - who.token.created)),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    answer.headers["X-Auth-Token"] = secret
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def credentials(services: Services, low: Any, address: str) -> tuple[str, Identity]:
    """Return secret and identity of who names a token, or a user and a password.

    Raises:
        HttpError: neither is there.
        UnauthorizedError: they are wrong.
    """
    if not isinstance(low, Mapping):
        raise HttpError("name 'username' and 'password', or 'token'")
    token, user, password = (low.get(name) for name in ("token", "username", "password"))
    if isinstance(token, str) and token:
        return token, services.auth.by_secret(token, address)
    if not (isinstance(user, str) and isinstance(password, str) and user and password):
        raise HttpError("name 'username' and 'password', or 'token'")
    return await services.auth.login(user, password, address, str(low.get("eauth") or "auto"))


def _described(secret: str, who: Identity, low: Any) -> dict[str, Any]:
    return {
        "token": secret,
        "expire": who.token.expires,
        "start": who.token.created,
        "user": who.name,
        "eauth": str(low.get("eauth") or "auto"),
        "perms": who.may.plain(),
    }


@router.get("/login", response_model=Returned, summary="Who this token is")
async def whoami(who: Who) -> Json:
    """Say whose token this is, and what it allows."""
    return returned({"user": who.name, "expire": who.token.expires, "perms": who.may.plain()})


@router.post("/logout", response_model=Returned, summary="Log out")
async def logout(services: Serves, who: Who) -> Json:
    """End the token of a login, and take the cookie away."""
    if who.token.user is not None:
        services.access.revoke(who.token.id)
    answer = returned("Your token has been cleared")
    answer.delete_cookie(COOKIE)
    return answer
