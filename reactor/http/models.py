"""The shapes of requests and answers, as the schema of the API has them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

HIGHEST = (1 << 53) - 1
"""The highest number of an event that can be asked for: the last one that JSON's readers agree
on."""


class Problem(BaseModel):
    """What went wrong, in Salt's form."""

    model_config = ConfigDict(populate_by_name=True)

    status: int = Field(examples=[401])
    text: str = Field(alias="return", examples=["no token: see 'reactor token create'"])


class Fired(BaseModel):
    """An event is in the journal."""

    success: bool = True
    seq: int = Field(description="Its number in the journal.")


class FireRequest(BaseModel):
    """An event to fire."""

    tag: str = Field(
        min_length=1,
        max_length=4096,
        json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f]+$"},
        examples=["myco/deploy/done"],
    )
    data: dict[str, Any] = Field(default_factory=dict)


class Returned(BaseModel):
    """Salt's form of most answers: a list with what was asked for."""

    model_config = ConfigDict(populate_by_name=True)

    value: list[Any] = Field(validation_alias="return", serialization_alias="return")


class KeysReturned(BaseModel):
    """Keys by their state, as Salt has them: no list."""

    model_config = ConfigDict(populate_by_name=True)

    value: dict[str, Any] = Field(validation_alias="return", serialization_alias="return")
    fingerprints: dict[str, dict[str, str]] = Field(default_factory=dict)


class JobReturned(Returned):
    """A job: what minions returned, and what it was."""

    info: list[dict[str, Any]]


class Sent(Returned):
    """Jobs that were sent, and where their returns will be."""

    links: dict[str, Any] = Field(validation_alias="_links", serialization_alias="_links")


class Health(BaseModel):
    """Whether it works."""

    ok: bool


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The request cannot be understood.",
        401: "No token, or none that holds.",
        403: "The token does not allow this.",
        404: "It is not there.",
        409: "It came before, or is in another state.",
        413: "The request is too large.",
        422: "A value that does not fit.",
        429: "Too many requests, attempts or streams.",
        500: "It failed; the log says how.",
        503: "A part of the master does not run.",
        504: "A part of the master does not answer.",
    }.items()
}
