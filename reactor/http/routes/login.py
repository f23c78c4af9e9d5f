"""``POST /login`` and ``POST /logout``: a password for a token, in Salt's form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from reactor.http.auth import COOKIE, HEADER, address_of
from reactor.http.models import Returned
from reactor.http.services import Serves, Who

router = APIRouter(tags=["access"])


class Login(BaseModel):
    """Who logs in."""

    username: str = Field(min_length=1, max_length=100)
    password: str = Field(max_length=1_000)
    eauth: str = Field("auto", max_length=20)


@router.post("/login", summary="Log in")
async def login(services: Serves, login: Login, request: Request, response: Response) -> Returned:
    """Return a token, also as the header ``X-Auth-Token`` and the cookie ``session_id``."""
    secret, identity = await services.auth.login(
        login.username, login.password, address_of(request), login.eauth
    )
    token = identity.token
    response.headers[HEADER] = secret
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int((token.expires or token.created) - token.created),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    about: dict[str, Any] = {
        "token": secret,
        "start": token.created,
        "expire": token.expires,
        "user": login.username,
        "eauth": login.eauth,
        "perms": identity.may.plain(),
    }
    return Returned(value=[about])


@router.post("/logout", summary="Log out")
async def logout(services: Serves, who: Who, response: Response) -> Returned:
    """End the token of this request; its event streams end with it."""
    services.access.revoke(who.token.id)
    response.delete_cookie(COOKIE)
    return Returned(value=["the token has ended"])
