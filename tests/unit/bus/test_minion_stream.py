"""Values over a stream socket."""

import socket
import struct

import pytest

from bus.errors import DataError, WireError
from bus.minion.stream import BlockingStream, Decoder, Stream, frame


@pytest.fixture
def pair():
    """Two ends of a connection."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_values_come_whole_whatever_the_pieces():
    """Bytes may be cut anywhere."""
    raw = frame({"a": 1}) + frame("b") + frame(None)
    for size in (1, 3, 7, len(raw)):
        decoder = Decoder(100)
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert [value for piece in pieces for value in decoder.feed(piece)] == [{"a": 1}, "b", None]


def test_a_forged_length_is_refused():
    """No length beyond the limit is waited for."""
    with pytest.raises(WireError, match="at most 10"):
        Decoder(10).feed(struct.pack("!I", 2**32 - 1))


def test_bytes_that_are_no_msgpack():
    """They are the sender's fault."""
    with pytest.raises(WireError):
        Decoder(10).feed(struct.pack("!I", 1) + b"\xc1")


def test_a_stream_does_not_block(pair):
    """What does not fit into the socket waits, and is flushed when there is room."""
    ours, theirs = pair
    stream = Stream(ours, 10)
    stream.send("x" * 2_000_000)
    assert stream.wants_write
    assert stream.receive() == []
    reader = BlockingStream(theirs, 3_000_000)
    theirs.setblocking(False)
    got = bytearray()
    while stream.wants_write:
        stream.flush()
        got += theirs.recv(300_000)
    theirs.setblocking(True)
    theirs_rest = len(frame("x" * 2_000_000)) - len(got)
    while theirs_rest:
        piece = theirs.recv(theirs_rest)
        got += piece
        theirs_rest -= len(piece)
    assert Decoder(3_000_000).feed(bytes(got)) == ["x" * 2_000_000]
    reader.send("done")
    assert stream.receive() == ["done"]


def test_a_large_value_is_read_at_once(pair):
    """Reading goes on until the socket is empty."""
    ours, theirs = pair
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    BlockingStream(theirs, 10).send("y" * 300_000)
    stream = Stream(ours, 400_000)
    values: list = []
    while not values:
        values += stream.receive()
    assert values == ["y" * 300_000]


def test_the_end_of_the_other_side(pair):
    """It is seen on reading and on writing, and nothing raises."""
    ours, theirs = pair
    stream = Stream(ours, 10)
    theirs.close()
    stream.send("anybody?")
    assert stream.ended
    assert not stream.wants_write
    other = Stream(socket.socketpair()[0], 10)
    assert other.receive() == []
    assert other.ended
    other.close()
    assert other.fileno() == -1


def test_a_closed_socket_is_an_end(pair):
    """An error of the socket is the end of the stream."""
    ours, theirs = pair
    stream = Stream(ours, 10)
    ours.close()
    assert stream.receive() == []
    blocking = BlockingStream(theirs, 10)
    with pytest.raises(EOFError):
        blocking.receive()
    theirs.close()
    with pytest.raises(EOFError):
        blocking.receive()
    with pytest.raises(EOFError):
        blocking.send("x")


def test_what_does_not_pack(pair):
    """It is refused, and the stream goes on."""
    stream = Stream(pair[0], 10)
    with pytest.raises(DataError):
        stream.send({1})
    stream.send("fine")
    assert BlockingStream(pair[1], 10).receive() == "fine"
