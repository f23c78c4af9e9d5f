"""One question, one answer."""

import contextlib
import multiprocessing
import os
import socket
import threading
import time

import pytest
import zmq

from bus import frames, rpc, wire
from bus.complaints import Complaints
from bus.direct import framing
from bus.direct.connecting import connect as line_connect
from bus.errors import (
    AnswerTimeoutError,
    BusError,
    DataError,
    KeyStateError,
    NotRunningError,
    RemoteError,
)
from bus.sockets import connect
from tests.support import answering, wait_for


def _fail(error):
    raise error


_METHODS = {
    "echo": lambda params: params,
    "known": lambda _: _fail(KeyStateError("no such key")),
    "bug": lambda _: _fail(ZeroDivisionError("oops")),
    "unpackable": lambda _: object(),
}


@pytest.fixture(params=["line", "ipc"])
def address(place, request):
    """Where the server is: it speaks as the direct line does, or ZeroMQ."""
    return f"{request.param}://{place}/rpc.ipc"


@pytest.fixture
def line(place):
    """The address of a server on the direct line."""
    return f"line://{place}/rpc.ipc"


@pytest.fixture
def zeromq(place):
    """The address of a server that speaks ZeroMQ."""
    return f"ipc://{place}/rpc.ipc"


@pytest.fixture
def complaints():
    """What the server complains of."""
    return Complaints()


@pytest.fixture
def server(address, complaints):
    """A server in a thread."""
    made = rpc.open_server(address, _METHODS, complaints=complaints)
    with answering(made):
        yield made
    made.close()


def test_a_call_is_answered(address, server):
    """Parameters go and values come in msgpack."""
    assert rpc.call(address, "echo", {"a": [1, b"x", None]}) == {"a": [1, b"x", None]}
    assert rpc.call(address, "echo") == {}


@pytest.mark.parametrize(
    ("method", "kind", "words"),
    [
        ("known", KeyStateError, "no such key"),
        ("bug", RemoteError, "ZeroDivisionError: oops"),
        ("unpackable", DataError, "msgpack"),
        ("missing", RemoteError, "no method 'missing'"),
    ],
)
def test_an_error_comes_back_as_itself(address, server, method, kind, words):
    """The server goes on, whatever a method does."""
    with pytest.raises(kind, match=words):
        rpc.call(address, method)
    assert rpc.call(address, "echo") == {}


def test_malformed_calls_end_nothing(zeromq, complaints):
    """They are counted and get no answer; fires are none of this server's business."""
    made = rpc.open_server(zeromq, _METHODS, complaints)
    dealer = connect(zmq.DEALER, zeromq)
    with answering(made):
        for parts in ([b""], [b"C", b"i", b"\xc1"], [b"x"] * 9, [wire.pack_event("t", {})]):
            dealer.send_multipart(parts)
        assert rpc.call(zeromq, "echo", {"still": "there"}) == {"still": "there"}
        assert not dealer.poll(0)
        wait_for(lambda: complaints.counters == {"malformed": 4})
    dealer.close()
    made.close()


def test_malformed_messages_end_nothing(line, place, complaints):
    """On the direct line what is no message ends its connection, and nobody else's."""
    made = rpc.open_server(line, _METHODS, complaints)
    event = frames.fire(b"somebody", 1, 1, wire.pack([wire.pack_event("t", {})]))
    with answering(made), contextlib.closing(rpc.open_connection(line)) as kept:
        assert kept.call("echo", {"n": 1}) == {"n": 1}
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(place / "rpc.ipc"))
            for said in ((b"C", b"\xc1"), (b"Cid", b"\xc1"), (b"x", b"y"), event):
                rude.sendall(framing.message(*said))
            wait_for(lambda: complaints.counters == {"malformed": 4})
            rude.sendall(b"\xff" * 20)
            assert rude.recv(1) == b""
        assert kept.call("echo", {"n": 2}) == {"n": 2}
    assert complaints.counters == {"malformed": 5}
    made.close()


def test_a_method_that_fails_is_counted_and_said_once(address, server, complaints, caplog):
    """With its trace, for whoever has to mend it; however often it is called."""
    for _ in range(20):
        with pytest.raises(RemoteError):
            rpc.call(address, "bug")
    assert complaints.counters == {"failed_calls": 20}
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


def test_nobody_there_is_an_error_of_one_line(address, place):
    """At once without a socket file, and soon with one that a killed server left."""
    began = time.monotonic()
    with pytest.raises(NotRunningError):
        rpc.call(address, "echo", timeout=60)
    assert time.monotonic() - began < 30
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place / "rpc.ipc"))
    left.close()
    with pytest.raises(NotRunningError, match="start it with 'reactor up'"):
        rpc.call(address, "echo", timeout=60)
    with pytest.raises(NotRunningError):
        rpc.call(address, "echo", timeout=0.1)
    assert time.monotonic() - began < 50


def test_one_that_listens_and_does_not_answer_is_not_called_gone(address, place):
    """A stopped or busy server still has its socket."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(place / "rpc.ipc"))
        busy.listen()
        with pytest.raises(AnswerTimeoutError, match="within 1 s"):
            rpc.call(address, "echo", timeout=1)


def test_one_that_was_killed_and_comes_back_is_waited_for(address, place):
    """What supervises it starts it again in less than the time of grace."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place / "rpc.ipc"))
    left.close()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(rpc.call(address, "echo", {"n": 1})))
    asking.start()
    made = rpc.open_server(address, _METHODS)
    with answering(made):
        asking.join(10)
    made.close()
    assert answers == [{"n": 1}]


def test_a_server_cannot_be_where_there_is_no_directory(address):
    """The error names the address."""
    with pytest.raises(BusError, match=r"cannot make .*missing/x.ipc"):
        rpc.open_server(address.replace("rpc.ipc", "missing/x.ipc"), {})


def test_a_caller_asks_many_things_at_once(address, server):
    """Each answer finds who asked, errors too."""
    caller = rpc.open_caller(address)
    answers = {}
    for number in range(50):
        caller.call("echo", {"n": number}, lambda value, _, n=number: answers.update({n: value}))
    caller.call("bug", {}, lambda _, error: answers.update(bug=error))
    assert caller.pending == 51
    wait_for(lambda: caller.handle() or not caller.pending)
    assert isinstance(answers.pop("bug"), RemoteError)
    assert answers == {number: {"n": number} for number in range(50)}
    caller.close()


def test_a_caller_asks_again(zeromq, monkeypatch):
    """A server that was not there, or lost the question, gets it again with the same id."""
    monkeypatch.setattr(rpc.Caller, "RESEND_AFTER", 0.05)
    server = zmq.Context.instance().socket(zmq.ROUTER)
    server.bind(zeromq)
    caller = rpc.open_caller(zeromq)
    answers = []
    caller.call("m", {}, lambda value, error: answers.append((value, error)))

    def question():
        caller.tick()
        return server.poll(10) and server.recv_multipart()

    client, *first = wait_for(question)
    _, *second = wait_for(question)
    assert first == second
    ident = first[1]
    for parts in ([b"R"], [b"R", b"other", b"\1"], [b"R", ident, b"\xc1"], [b"R", ident, b"\1"]):
        server.send_multipart([client, *parts])
    wait_for(lambda: caller.handle() or answers)
    ((value, error),) = answers
    assert value is None
    assert "msgpack" in str(error)
    caller.handle()
    caller.close()
    assert caller.pending == 0
    server.close(linger=0)


def test_a_vanished_caller_is_no_harm(address, server):
    """Its answer goes nowhere."""
    for _ in range(20):
        caller = rpc.open_caller(address)
        caller.call("echo", {}, lambda value, error: None)
        caller.close()
    assert rpc.call(address, "echo") == {}


def test_a_kept_connection(address, server):
    """It serves call after call, errors too, and after it was closed."""
    connection = rpc.open_connection(address)
    assert [connection.call("echo", {"n": n}) for n in range(3)] == [{"n": n} for n in range(3)]
    with pytest.raises(KeyStateError):
        connection.call("known")
    connection.close()
    assert connection.call("echo") == {}
    connection.close()


def test_a_kept_connection_outlives_its_server(address):
    """It says that nobody is there, and serves again when somebody is."""
    connection = rpc.open_connection(address)
    for _ in range(2):
        with pytest.raises(NotRunningError):
            connection.call("echo")
        made = rpc.open_server(address, _METHODS)
        with answering(made):
            assert connection.call("echo", {"a": 1}) == {"a": 1}
        made.close()


def test_a_late_answer_is_not_taken_for_another(address):
    """After a time-out the connection is a new one."""
    server = rpc.open_server(address, _METHODS)
    connection = rpc.open_connection(address)
    with pytest.raises(AnswerTimeoutError):
        connection.call("echo", {"n": 1}, timeout=1)
    with answering(server):
        assert connection.call("echo", {"n": 2}) == {"n": 2}
    connection.close()
    server.close()


def test_a_large_answer_to_one_who_reads_slowly(address, server):
    """More than a socket holds, in both directions."""
    large = {"x": b"y" * 6_000_000}
    caller = rpc.open_caller(address)
    answers = []
    for _ in range(3):
        caller.call("echo", large, lambda value, _: answers.append(value == large))
    assert rpc.call(address, "echo", {"meanwhile": 1}) == {"meanwhile": 1}
    wait_for(lambda: caller.handle() or caller.tick() or len(answers) == 3, seconds=60)
    assert answers == [True] * 3
    caller.close()


def test_a_question_that_is_too_large(line, complaints):
    """The server hangs up on who asks it, says so, and serves others."""
    made = rpc.open_server(line, _METHODS, complaints)
    with answering(made):
        with pytest.raises(NotRunningError, match="hung up before it answered"):
            rpc.call(line, "echo", {"x": b"y" * (9 << 20)})
        assert rpc.call(line, "echo", {"a": 1}) == {"a": 1}
    assert complaints.counters["malformed"] >= 1
    made.close()


def test_a_server_that_goes_before_it_answers(line, place):
    """It is said at once, not at the time-out."""
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(str(place / "rpc.ipc"))
        rude.listen()

        def hang_up():
            client, _ = rude.accept()
            with client:
                client.recv(1000)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NotRunningError, match="hung up before it answered"):
            rpc.call(line, "echo", timeout=60)
        thread.join(10)


def test_a_server_whose_queue_is_full_is_busy_and_not_gone(line, place):
    """As one that is stopped while many ask it."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(place / "rpc.ipc"))
        busy.listen(0)
        while connection := line_connect(place / "rpc.ipc"):
            stack.enter_context(connection)
        with pytest.raises(AnswerTimeoutError, match="within 1 s"):
            rpc.call(line, "echo", timeout=1)


def test_a_caller_asks_at_once_who_is_back(line):
    """What was asked before the server was there, and what it had when it ended."""
    caller = rpc.open_caller(line)
    answers = []
    for number in range(2):
        caller.call("echo", {"n": number}, lambda value, _: answers.append(value))
    for _ in range(2):
        made = rpc.open_server(line, _METHODS)
        with answering(made):
            wait_for(lambda: caller.tick() or caller.handle() or not caller.pending)
        made.close()
        caller.call("echo", {"n": "late"}, lambda value, _: answers.append(value))
    assert answers == [{"n": 0}, {"n": 1}, {"n": "late"}]
    assert caller.pending == 1
    caller.close()


def test_a_forked_child_asks_over_its_own_connection(address, server):
    """And leaves its parent's alone."""
    connection = rpc.open_connection(address)
    assert connection.call("echo", {"n": 1}) == {"n": 1}
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(connection.call("echo", {"n": 7})["n"])
    )
    child.start()
    child.join(10)
    assert child.exitcode == 7
    assert connection.call("echo", {"n": 2}) == {"n": 2}
    connection.close()
