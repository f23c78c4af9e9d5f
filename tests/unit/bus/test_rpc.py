"""One question, one answer."""

import socket
import threading
import time

import pytest
import zmq

from bus import frames, rpc, wire
from bus.complaints import Complaints
from bus.errors import (
    AnswerTimeoutError,
    BusError,
    DataError,
    KeyStateError,
    NotRunningError,
    RemoteError,
)
from bus.sockets import close_bound, connect
from tests.support import wait_for


def _fail(error):
    raise error


_METHODS = {
    "echo": lambda params: params,
    "known": lambda _: _fail(KeyStateError("no such key")),
    "bug": lambda _: _fail(ZeroDivisionError("oops")),
    "unpackable": lambda _: object(),
}


@pytest.fixture
def address(place):
    """Where the server is."""
    return f"ipc://{place}/rpc.ipc"


@pytest.fixture
def complaints():
    """What the server complains of."""
    return Complaints()


@pytest.fixture
def server(address, complaints):
    """A server in a thread."""
    made = rpc.Server(address, _METHODS, complaints=complaints)
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            if made.socket.poll(20):
                made.handle()
        made.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield made
    ended.set()
    thread.join(10)


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


def test_malformed_calls_end_nothing(address, server, complaints):
    """They are counted and get no answer; fires are none of this server's business."""
    socket = connect(zmq.DEALER, address)
    for parts in ([b""], [b"C", b"i", b"\xc1"], [b"x"] * 9, [wire.pack_event("t", {})]):
        socket.send_multipart(parts)
    assert rpc.call(address, "echo", {"still": "there"}) == {"still": "there"}
    assert not socket.poll(0)
    wait_for(lambda: complaints.counters == {"malformed": 4})
    socket.close()


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
        rpc.call(address, "echo", timeout=5)
    with pytest.raises(NotRunningError):
        rpc.call(address, "echo", timeout=0.1)
    assert time.monotonic() - began < 3


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
    made = rpc.Server(address, _METHODS)
    assert made.socket.poll(5000)
    made.handle()
    asking.join(10)
    made.close()
    assert answers == [{"n": 1}]


def test_a_server_cannot_be_where_there_is_no_directory(place):
    """The error names the address."""
    with pytest.raises(BusError, match=r"cannot make .*missing/x.ipc"):
        rpc.Server(f"ipc://{place}/missing/x.ipc", {})


def test_a_caller_asks_many_things_at_once(address, server):
    """Each answer finds who asked, errors too."""
    caller = rpc.Caller(address)
    answers = {}
    for number in range(50):
        caller.call("echo", {"n": number}, lambda value, _, n=number: answers.update({n: value}))
    caller.call("bug", {}, lambda _, error: answers.update(bug=error))
    assert caller.pending == 51
    wait_for(lambda: caller.handle() or not caller.pending)
    assert isinstance(answers.pop("bug"), RemoteError)
    assert answers == {number: {"n": number} for number in range(50)}
    caller.close()


def test_a_caller_asks_again(address, monkeypatch):
    """A server that was not there, or lost the question, gets it again with the same id."""
    monkeypatch.setattr(rpc.Caller, "RESEND_AFTER", 0.05)
    server = zmq.Context.instance().socket(zmq.ROUTER)
    server.bind(address)
    caller = rpc.Caller(address)
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
        socket = connect(zmq.DEALER, address)
        socket.send_multipart(frames.call(b"i", "echo", {}))
        socket.close(linger=0)
    assert rpc.call(address, "echo") == {}


def test_a_kept_connection(address, server):
    """It serves call after call, errors too, and after it was closed."""
    connection = rpc.Connection(address)
    assert [connection.call("echo", {"n": n}) for n in range(3)] == [{"n": n} for n in range(3)]
    with pytest.raises(KeyStateError):
        connection.call("known")
    connection.close()
    assert connection.call("echo") == {}
    connection.close()


def test_a_kept_connection_outlives_its_server(address):
    """It says that nobody is there, and serves again when somebody is."""
    connection = rpc.Connection(address)
    for _ in range(2):
        with pytest.raises(NotRunningError):
            connection.call("echo")
        made = rpc.Server(address, _METHODS)
        thread = threading.Thread(target=lambda made=made: made.socket.poll(5000) and made.handle())
        thread.start()
        assert connection.call("echo", {"a": 1}) == {"a": 1}
        thread.join()
        close_bound(made.socket, address)
        made.close()


def test_a_late_answer_is_not_taken_for_another(address):
    """After a time-out the connection is a new one."""
    server = rpc.Server(address, _METHODS)
    connection = rpc.Connection(address)
    with pytest.raises(AnswerTimeoutError):
        connection.call("echo", {"n": 1}, timeout=1)
    thread = threading.Thread(target=lambda: [server.socket.poll(5000), server.handle()])
    thread.start()
    thread.join()
    thread = threading.Thread(target=lambda: [server.socket.poll(5000), server.handle()])
    thread.start()
    assert connection.call("echo", {"n": 2}) == {"n": 2}
    thread.join()
    connection.close()
    server.close()
