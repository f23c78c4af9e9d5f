"""What accepted minions bring, on its way to the master's bus."""

from __future__ import annotations

from bus.complaints import Complaints
from bus.errors import BusError, DataError
from bus.link import admission
from bus.link.admission import Pack
from bus.link.delivery import Delivery
from bus.link.jobs import JobStore
from bus.link.mayfire import MayFire
from bus.link.peers import Peer
from bus.link.protocol import RETURN, Batch, Item
from bus.link.streams import Streams


class Intake:
    """Takes the batches of minions: what they may not bring is refused, the rest goes on.

    Args:
        streams: the way to the bus.
        store: the record of jobs.
        delivery: knows which returns are owed.
        may_fire: which tags minions may fire.
        pack: packs an event.
        complaints: counts and says what is wrong.
    """

    def __init__(
        self,
        streams: Streams,
        store: JobStore,
        delivery: Delivery,
        may_fire: MayFire,
        *,
        pack: Pack,
        complaints: Complaints,
    ) -> None:
        self._streams = streams
        self._store = store
        self._delivery = delivery
        self._may_fire = may_fire
        self._pack = pack
        self._complaints = complaints

    def take(self, peer: Peer, batch: Batch) -> None:
        """Take a batch; its sender is told what became of it, now or later."""
        producer = admission.producer(peer.id, batch.lineage)
        if self._streams.is_repeat(producer, batch, peer.routing):
            return
        wires: list[bytes] = []
        refused: dict[int, str] = {}
        for index, item in enumerate(batch.items):
            try:
                wires.append(self._admit(peer.id, item))
            except BusError as error:
                refused[index] = str(error)[: admission.MAX_ERROR]
        if refused:
            why = f"refused from minion {peer.id}: {next(iter(refused.values()))}"
            self._complaints.add("refused", why, len(refused))
        self._streams.forward(producer, batch, peer.routing, wires, refused)

    def _admit(self, ident: str, item: Item) -> bytes:
        if item.kind != RETURN:
            self._may_fire.check(item.name, ident)
            return admission.event_wire(ident, item.name, item.data, self._pack)
        job = self._store.sent_to(item.name, ident)
        if job is None:
            raise DataError(f"a return for job {item.name[:40]!r}, which was not sent to {ident!r}")
        self._delivery.returned(item.name, ident)
        data = admission.shape_return(ident, job, item.data)
        if data.get(admission.UNFINISHED) and self._store.has_returned(item.name, ident):
            raise DataError(f"job {item.name} has a return of {ident!r} already")
        self._store.returned(data)
        return admission.return_wire(data, self._pack)
