"""Who is not accepted gets nothing, who is gets only what is his, and a wrong master gets nobody.

A master's bus and link in processes of their own, and clients that hear everything they are sent.
"""

from __future__ import annotations

import contextlib
import re

import pytest

from bus import wire
from bus.keys import Keypair
from bus.link.protocol import EVENT, RETURN, Ack, Batch, Hello, Item, Job, Ping, Reply, Request
from bus.link.trust import PINNED
from tests.links import LinkedMaster, LinkedMinion, World, started
from tests.proxy import Proxy
from tests.rawlink import RawLink, stranger
from tests.support import wait_for

WORLD = World(quick=True)
SECRET = "the-secret-of-this-job"
IN_FILE = "the-secret-in-this-file"
FILE = "_modules/private.py"
LINE = b"l" * 16
OUTSIDERS = ("pending", "rejected", "denied", "deleted", "revoked", "unknown", "accepted")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def master(place):
    """A master's bus and link, where a key has to be accepted, with a file for minions."""
    modules = place / "m" / "files" / "_modules"
    modules.mkdir(parents=True)
    (modules / "private.py").write_text(f"# {IN_FILE}\n")
    made = LinkedMaster(place / "m", WORLD, auto_accept=False)
    with started(made):
        yield made


@pytest.fixture
def link(master):
    """Make raw connections: ``link(id, accepted=True, pair=...)``."""
    with contextlib.ExitStack() as stack:

        def make(ident, pair=None, *, accepted=True, hello=True):
            pair = pair or stranger()
            if accepted:
                master.keys.add(ident, pair.public)
                wait_for(lambda: master.link.call("minions.match", tgt=ident), "the key")
            peer = stack.enter_context(RawLink(master.port, master.pair.public, pair))
            if hello:
                peer.ask(Hello(ident, "1", {}))
            return peer

        yield make


def _outsider(master, link, kind):
    """Return a connection of somebody who is to get nothing, under the id web1."""
    if kind == "unknown":
        return link("web1", accepted=False, hello=False)
    if kind == "denied":
        master.keys.add("web1", stranger().public)
        return link("web1", accepted=False)
    if kind in ("pending", "rejected"):
        peer = link("web1", accepted=False)
        if kind == "rejected":
            master.keys.reject("web1")
        return peer
    peer = link("web1" if kind != "accepted" else "web2")
    if kind == "deleted":
        master.keys.delete("web1")
    if kind == "revoked":
        master.keys.reject("web1", include_accepted=True)
    if kind != "accepted":
        wait_for(lambda: "web1" not in master.connected(), "the key to be out")
    return peer


@pytest.mark.parametrize("kind", OUTSIDERS)
def test_no_byte_of_a_job_or_file(master, link, kind):
    """Whatever it asks for and whatever is sent meanwhile; one who may, gets both.

    The last kind is accepted, and none of those whom the job is for; files it may have.
    """
    friend = link("friend1")
    peer = _outsider(master, link, kind)
    for tgt in ("web1", "friend1", "*1", "web1 or friend1"):
        kind_of = "compound" if " or " in tgt else "glob"
        master.link.call(
            "jobs.publish", tgt=tgt, tgt_type=kind_of, fun="test.echo", arg=[SECRET], key=tgt
        )
    for number in range(1, 6):
        for message in (
            Ping(),
            Request(number, {"file": FILE}) if kind != "accepted" else Ping(),
            Request(number, {"files": "_modules"}),
            Request(number, {"rotate": stranger().public}) if kind != "accepted" else Ping(),
            Batch(LINE, number, [Item(EVENT, "evil", wire.pack({}))]),
            Hello("friend1", "1", {}),
            Hello("web1", "1", {}) if kind != "accepted" else Ping(),
        ):
            peer.say(message)
            peer.listen(0.01)
    friend.say(Request(1, {"file": FILE}))
    wait_for(lambda: any(isinstance(one, Reply) for one in friend.listen()), "the friend's file")
    wait_for(lambda: sum(isinstance(one, Job) for one in friend.listen()) == 3, "its jobs")
    peer.listen(0.3)
    assert peer.heard
    assert len(peer.messages) == len(peer.heard)
    raw = b"".join(peer.heard)
    assert SECRET.encode() not in raw
    assert IN_FILE.encode() not in raw
    assert not [one for one in peer.messages if isinstance(one, Job)]
    if kind != "accepted":
        assert {type(one).__name__ for one in peer.messages} <= {"State", "Welcome", "Pong"}
        assert "evil" not in master.tags()
    # What the tests look for is in what a friend hears.
    assert SECRET.encode() in b"".join(friend.heard)
    assert IN_FILE.encode() in b"".join(friend.heard)


def test_nothing_is_readable_on_the_way(place, master):
    """Neither job, nor file, nor event, nor id: all of it is encrypted."""
    passed = []

    def note(data, _up):
        passed.append(data)
        return data

    with Proxy(master.port) as proxy:
        proxy.alter = note
        minion = LinkedMinion(place / "n", "web1", master, WORLD, master_port=proxy.port)
        with started(minion):
            wait_for(lambda: minion.link == "pending", "its hello")
            master.keys.accept("web1")
            minion.wait_connected()
            wait_for(lambda: list((place / "n").rglob("private.py")), "the file")
            with master.client() as client:
                found = client.cmd("web1", "test.echo", [SECRET], timeout=30)
            assert found == {"web1": SECRET}
    raw = b"".join(passed)
    assert len(raw) > 2_000
    for word in (SECRET, IN_FILE, "web1", "test.echo", "salt/minion"):
        assert word.encode() not in raw


def test_a_minion_speaks_for_itself_only(master, link):
    """The id of its key is what counts, in events, returns, progress and hellos."""
    web1, web2 = link("web1"), link("web2")
    jid = master.publish("web2", "test.ping")["jid"]
    forged = wire.pack({"id": "web2", "return": "forged", "success": True, "jid": jid})
    items = [
        Item(EVENT, "mine", wire.pack({"id": "web2"})),
        Item(RETURN, jid, forged),
        Item(EVENT, f"salt/job/{jid}/ret/web2", forged),
        Item(EVENT, f"salt/job/x/{jid}/ret/web2", forged),
        Item(EVENT, f"salt/job/{jid}/gone/web2", forged),
        Item(EVENT, f"salt/job/{jid}/prog/web2/1", forged),
        Item(EVENT, "salt/minion/web2/start", forged),
        Item(EVENT, "salt/beacon/web2/x", forged),
        *(
            Item(EVENT, tag, forged)
            for tag in (
                "salt/auth",
                "salt/key",
                "salt/presence/change",
                "salt/run/1/ret",
                "salt/wheel/1/ret",
                "salt/netapi/hook/x",
                f"salt/job/{jid}/new",
                "reactor/rules/reloaded",
            )
        ),
    ]
    answer = web1.ask(Batch(LINE, 1, items))
    assert isinstance(answer, Ack)
    assert sorted(answer.refused) == list(range(1, len(items)))
    (event,) = master.events("mine")
    assert event["id"] == "web1"
    assert event["data"] == {"id": "web2"}
    web2.say(Batch(LINE, 1, [Item(RETURN, jid, wire.pack({"return": 1}))]))
    wait_for(lambda: master.events(f"salt/job/{jid}/ret/web2"), "the true return")
    assert [data["return"] for data in master.events(f"salt/job/{jid}/ret/web2")] == [1]
    assert "forged" not in str(master.events(f"salt/job/{jid}/ret/web2"))
    assert web1.ask(Hello("web2", "1", {})).state == "denied"
    assert "web2" in master.connected()


def test_tags_that_the_master_allows(place):
    """With a list of globs, others are refused with a word that names the option."""
    master = LinkedMaster(
        place / "m", WORLD, minion_may_fire=["app/*", "backup", "salt/minion/{id}/*"]
    )
    with started(master):
        minion = LinkedMinion(place / "n", "web1", master, WORLD)
        with started(minion):
            minion.wait_connected()
            with minion.events() as events:
                for tag in ("app/a/b", "backup"):
                    assert events.fire_master({}, tag, timeout=20_000)
                for tag in ("other", "application", "backup/x"):
                    assert not events.fire_master({}, tag, timeout=20_000)
        assert "minion_may_fire" in master.log
        tags = set(master.tags())
        assert {"app/a/b", "backup", "salt/minion/web1/start"} <= tags
        assert not {"other", "application", "backup/x"} & tags


def test_a_payload_goes_to_its_targets_only(master, link):
    """Of many connections each hears the jobs for it and no others."""
    peers = {f"web{number}": link(f"web{number}") for number in range(6)}
    wait_for(lambda: len(master.connected()) == 6, "all")
    for ident in peers:
        master.publish(ident, "test.echo", f"for-{ident}-only")
    master.link.call(
        "jobs.publish", tgt=["web1", "web3"], tgt_type="list", fun="test.echo", arg=["for-two"]
    )
    for ident, peer in peers.items():
        wanted = 2 if ident in ("web1", "web3") else 1
        wait_for(
            lambda peer=peer, wanted=wanted: (
                sum(isinstance(one, Job) for one in peer.listen()) >= wanted
            ),
            f"the jobs of {ident}",
        )
    for ident, peer in peers.items():
        peer.listen(0.2)
        raw = b"".join(peer.heard).decode(errors="replace")
        assert set(re.findall(r"for-web\d-only", raw)) == {f"for-{ident}-only"}
        assert ("for-two" in raw) == (ident in ("web1", "web3"))
        # Nor does it learn who else was asked, but for the target that was written.
        assert "missing" not in raw


def test_a_master_with_another_key(place, master):
    """It is refused, in one line that says what to do, and hears nothing of its minion."""
    minion = LinkedMinion(place / "n", "web1", master, WORLD, master_finger="")
    with started(minion):
        wait_for(lambda: minion.link == "pending", "first contact")
        master.keys.accept("web1")
        minion.wait_connected()
        master.link.kill()
        impostor = LinkedMaster(place / "i", WORLD)
        impostor.port = master.port
        assert impostor.finger != master.finger
        with started(impostor):
            wait_for(lambda: "does not prove the key" in minion.log, "the word", 60)
            with minion.events() as events:
                assert events.fire_master({"x": SECRET}, "up", timeout=20_000)
            lines = [line for line in minion.log.splitlines() if "does not prove" in line]
            assert len(lines) == 1
            assert PINNED in lines[0]
            assert "master_finger" in lines[0]
            assert impostor.connected() == []
            assert impostor.keys.list()["minions_pre"] == []
            assert impostor.keys.list()["minions"] == []
            assert master.finger not in impostor.log
        master.start_link()
        minion.wait_connected(60)
        wait_for(lambda: master.events("up"), "what was fired meanwhile")
    assert Keypair.load_or_create(minion.opts["pki_dir"], "minion").secret.decode() not in (
        minion.log + master.log
    )
