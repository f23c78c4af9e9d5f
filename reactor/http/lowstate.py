"""Salt's low data: which client runs which function, checked against what somebody may."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bus.aclient import AsyncLocalClient
from bus.client import RunnerClient, WheelClient
from bus.jid import JidMaker
from bus.tags import tagify
from bus.wire import stamp
from reactor.http.auth import Identity
from reactor.http.errors import HttpError, NoSuchThingError
from reactor.http.permissions import need

_CREDENTIALS = frozenset({"client", "eauth", "token", "username", "password"})
_LOCAL_KEYS = _CREDENTIALS | {
    "tgt", "tgt_type", "expr_form", "fun", "arg", "kwarg", "timeout", "full_return", "batch", "ret",
}  # fmt: skip
_WORKERS = 8
MOST_CHUNKS = 100
_LONGEST_WAIT = 3_600.0
_PREFIX = {"runner": "run", "wheel": "wheel"}


@dataclass(frozen=True, slots=True)
class Low:
    """One chunk of low data, checked."""

    client: str
    fun: str
    args: list[Any]
    kwargs: dict[str, Any]
    tgt: Any = "*"
    tgt_type: str = "glob"
    timeout: float | None = None
    full_return: bool = False
    batch: Any = None
    beside: Mapping[str, Any] = field(default_factory=dict)


def parse(body: Any) -> list[Low]:
    """Return the chunks of a request's body, one or a list of them.

    Raises:
        HttpError: there is none, or one of them is wrong.
    """
    chunks = body if isinstance(body, list) else [body]
    if not chunks or len(chunks) > MOST_CHUNKS:
        raise HttpError(f"send 1 to {MOST_CHUNKS} mappings with 'client' and 'fun'")
    return [_low(chunk) for chunk in chunks]


def _low(chunk: Any) -> Low:
    if not isinstance(chunk, Mapping):
        raise HttpError("low data is a mapping with 'client' and 'fun'")
    client, fun = chunk.get("client"), chunk.get("fun")
    if not isinstance(client, str) or client not in CLIENTS:
        raise HttpError(f"the client is one of {', '.join(CLIENTS)}")
    if not isinstance(fun, str) or not fun:
        raise HttpError("'fun' names one function, such as test.ping: send one mapping for each")
    args = chunk.get("arg")
    kwargs = chunk.get("kwarg")
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise HttpError("'kwarg' is a mapping")
    known = _LOCAL_KEYS if client.startswith("local") else _CREDENTIALS | {"fun", "arg", "kwarg"}
    beside = {key: value for key, value in chunk.items() if key not in known}
    if client.startswith("local") and "tgt" not in chunk:
        raise HttpError("'tgt' says which minions")
    return Low(
        client=client,
        fun=fun,
        args=args if isinstance(args, list) else [] if args is None else [args],
        kwargs={**kwargs, **beside},
        tgt=_target(chunk.get("tgt", "*")),
        tgt_type=_target_type(chunk.get("tgt_type", chunk.get("expr_form", "glob"))),
        timeout=_seconds(chunk.get("timeout")),
        full_return=_truth(chunk.get("full_return", False)),
        batch=chunk.get("batch"),
    )


def _target(value: Any) -> Any:
    if isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ):
        return value
    raise HttpError("'tgt' is text, or a list of ids")


def _target_type(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise HttpError("'tgt_type' is text, such as glob")


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError) as error:
        raise HttpError("'timeout' is a number of seconds") from error
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise HttpError(f"'timeout' is between 0 and {_LONGEST_WAIT:g} seconds")
    return seconds


def _truth(value: Any) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "True": True, "False": False}
    if isinstance(value, bool | str) and value in known:
        return known[value]
    raise HttpError("'full_return' is true or false")


class Clients:
    """Runs low data.

    Args:
        opts: the master's options.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._opts = opts
        self._local = AsyncLocalClient(mopts=opts)
        self._pool = ThreadPoolExecutor(_WORKERS, "function")
        self._jids = JidMaker()
        self._under_way: set[asyncio.Future[Any]] = set()

    async def run(self, low: Low, who: Identity) -> Any:
        """Run one chunk and return what Salt returns for it.

        Raises:
            ForbiddenError: it is not allowed.
            BusError: it cannot be run.
        """
        return await CLIENTS[low.client](self, low, who)

    def close(self) -> None:
        """Wait for nothing that still runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self, low: Low, who: Identity) -> None:
        """Refuse what is not allowed, before anything of a request runs.

        Which minions a target means is only known, and looked at, when its chunk runs.

        Raises:
            ForbiddenError: it is not allowed.
        """
        kind = low.client.removesuffix("_async")
        if kind != "local":
            need(who.may.may_call(kind, low.fun), f"run {kind}.{low.fun}")
        else:
            need(who.may.may_run_somewhere(low.fun), f"run {low.fun}")

    # -- minions --------------------------------------------------------------------------------

    async def local(self, low: Low, who: Identity) -> Any:
        """Run on minions and wait for their returns."""
        tgt, tgt_type = await self._allowed(low, who)
        named = {"kwarg": low.kwargs, "timeout": low.timeout, "user": who.name}
        if low.batch:
            found: dict[str, Any] = {}
            async for answer in self._local.cmd_batch(
                tgt, low.fun, low.args, tgt_type=tgt_type, batch=low.batch, **named
            ):
                found |= answer
            return found
        return await self._local.cmd(
            tgt, low.fun, low.args, tgt_type=tgt_type, full_return=low.full_return, **named
        )

    async def local_async(self, low: Low, who: Identity) -> Any:
        """Send a job; its id and the minions that it is meant for."""
        tgt, tgt_type = await self._allowed(low, who)
        pub = await self._local.run_job(
            tgt, low.fun, low.args, tgt_type, kwarg=low.kwargs, user=who.name
        )
        return {"jid": pub["jid"], "minions": pub["minions"]} if pub["minions"] else {}

    async def _allowed(self, low: Low, who: Identity) -> tuple[Any, str]:
        """Return the target, which is a list of ids unless any minion is allowed.

        So a minion that comes between this look and the job is not in it by mistake.
        """
        if low.tgt_type == "nodegroup" and low.tgt not in self._opts["nodegroups"]:
            raise NoSuchThingError(f"there is no nodegroup {str(low.tgt)[:80]!r}")
        if who.may.may_run("*", low.fun):
            return low.tgt, low.tgt_type
        minions = await self._local.match(low.tgt, low.tgt_type)
        refused = [minion for minion in minions if not who.may.may_run(minion, low.fun)]
        # Who names nobody is told the same as who names somebody else's: nothing is given away.
        need(bool(minions) and not refused, f"run {low.fun} on {str(low.tgt)[:80]}")
        return minions, "list"

    # -- functions of the master ------------------------------------------------------------------

    async def runner(self, low: Low, who: Identity) -> Any:
        """Run a runner function and wait."""
        return await self._call("runner", low, who, self._jids.next())

    async def wheel(self, low: Low, who: Identity) -> Any:
        """Run a wheel function and wait; Salt gives the whole event of its return."""
        jid = self._jids.next()
        value = await self._call("wheel", low, who, jid)
        tag = tagify([jid], "wheel")
        data = {
            "fun": f"wheel.{low.fun}",
            "jid": jid,
            "tag": tag,
            "user": who.name,
            "_stamp": stamp(),
            "return": value,
            "success": True,
        }
        return {"tag": tag, "data": data}

    async def runner_async(self, low: Low, who: Identity) -> Any:
        """Begin a runner function; where its events will be."""
        return self._begin("runner", low, who)

    async def wheel_async(self, low: Low, who: Identity) -> Any:
        """Begin a wheel function; where its events will be."""
        return self._begin("wheel", low, who)

    def _begin(self, kind: str, low: Low, who: Identity) -> dict[str, str]:
        need(who.may.may_call(kind, low.fun), f"run {kind}.{low.fun}")
        jid = self._jids.next()
        running = asyncio.ensure_future(self._call(kind, low, who, jid))
        self._under_way.add(running)
        running.add_done_callback(self._ended)
        return {"tag": tagify([jid], _PREFIX[kind]), "jid": jid}

    def _ended(self, running: asyncio.Future[Any]) -> None:
        self._under_way.discard(running)
        if not running.cancelled():
            running.exception()  # its event has said it; nobody waits for it here

    async def _call(self, kind: str, low: Low, who: Identity, jid: str) -> Any:
        need(who.may.may_call(kind, low.fun), f"run {kind}.{low.fun}")
        call = functools.partial(self._in_thread, kind, low, who.name, jid)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def _in_thread(self, kind: str, low: Low, user: str, jid: str) -> Any:
        client = (RunnerClient if kind == "runner" else WheelClient)(self._opts)
        try:
            outcome = client._run(low.fun, low.args, low.kwargs, jid, {"user": user})  # noqa: SLF001
        finally:
            client.close()
        if outcome.error:
            raise outcome.error
        return outcome.value


CLIENTS: Mapping[str, Callable[[Clients, Low, Identity], Coroutine[Any, Any, Any]]] = {
    "local": Clients.local,
    "local_async": Clients.local_async,
    "runner": Clients.runner,
    "runner_async": Clients.runner_async,
    "wheel": Clients.wheel,
    "wheel_async": Clients.wheel_async,
}
"""What low data may name as its client."""
