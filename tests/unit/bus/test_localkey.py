"""The key of local sockets on ports: made once, private, and nothing works without it."""

import os
import threading

import pytest
import zmq

from bus import endpoints, localkey, rpc
from bus.errors import BusError, NotRunningError
from bus.sockets import bind, connect, is_listening, shown
from tests.support import wait_for


@pytest.fixture
def path(place):
    """Where the key is."""
    return place / localkey.FILE_NAME


@pytest.fixture
def address(place):
    """A port that was free a moment ago."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    return localkey.with_key(f"tcp://127.0.0.1:{port}", place)


@pytest.fixture
def server(address):
    """A server in a thread."""
    made = rpc.open_server(address, {"echo": lambda params: params})
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


def test_the_key_is_made_once_and_private(path):
    """Whoever comes first makes it, with mode 0600, and everybody else takes it."""
    key = localkey.load_or_create(path)
    assert localkey.load_or_create(path) == localkey.load(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_many_at_once_agree_on_one_key(path):
    """A draft is linked into its place, so nobody sees half a key or replaces one."""
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(localkey.load_or_create(path)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert found[0] is not None


def test_the_key_is_not_shown(path):
    """Neither half of it gets into a log by way of repr."""
    key = localkey.load_or_create(path)
    assert key.public.decode() not in repr(key)
    assert key.secret.decode() not in repr(key)


def test_a_key_that_others_can_read_is_refused(path):
    """It may be known to them; the error says what to do."""
    localkey.load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(BusError, match=r"others can read the key .* \(mode 640\): remove it"):
        localkey.load(path)


def test_a_file_without_a_key_is_refused(path):
    """Such as one that was emptied."""
    path.touch(mode=0o600)
    with pytest.raises(BusError, match="holds no key: remove it"):
        localkey.load_or_create(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_the_key_of_another_user(path):
    """Root may use it; nobody makes one in another user's directory."""
    os.chown(path.parent, 65534, 65534)
    assert localkey.load_or_create(path) is None
    os.chown(path.parent, 0, 0)
    key = localkey.load_or_create(path)
    os.chown(path, 65534, 65534)
    assert localkey.load(path) == key


def test_no_directory_no_key(place):
    """A client does not make the directory of a bus that was never started."""
    assert localkey.load_or_create(place / "none" / "local.key") is None
    assert not (place / "none").exists()


def test_an_address_on_a_port_names_its_key():
    """What a person reads is the port only."""
    address = endpoints.master_pull({"ipc_mode": "tcp", "sock_dir": "/run/m"})
    assert address == "tcp://127.0.0.1:4513#/run/m/local.key"
    assert shown(address) == "tcp://127.0.0.1:4513"


def test_who_knows_the_key_is_answered(address, server):
    """A call over a port works as one over a file."""
    assert rpc.call(address, "echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("known", ["nothing", "another key", "plain"])
def test_who_does_not_know_the_key_gets_nowhere(address, server, known):
    """A stranger's handshake is never finished: the server hears nothing of him."""
    place, _ = localkey.split(address)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        if known == "another key":
            key = localkey.generate()
            socket.set(zmq.CURVE_SERVERKEY, key.public)
            socket.set(zmq.CURVE_PUBLICKEY, key.public)
            socket.set(zmq.CURVE_SECRETKEY, key.secret)
        if known == "plain":
            socket.set(zmq.PLAIN_USERNAME, b"root")
            socket.set(zmq.PLAIN_PASSWORD, b"guess")
        monitor = socket.get_monitor_socket()
        socket.connect(place)
        socket.send_multipart([b"C", b"1", b"\x92\xa4echo\x80"])
        assert not socket.poll(300)
        socket.disable_monitor()
        monitor.close()
    assert rpc.call(address, "echo", {}) == {}


def test_a_server_that_does_not_know_the_key_is_not_believed(address):
    """Whoever takes the port first gets no event and no question of ours."""
    place, path = localkey.split(address)
    localkey.load_or_create(path)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as thief:
        thief.set(zmq.LINGER, 0)
        thief.bind(place)
        with pytest.raises(NotRunningError):
            rpc.call(address, "echo", {}, timeout=0.3)
        assert not thief.poll(100)


def test_a_port_may_be_listening_once_its_key_is_there(address, path):
    """Without the key nobody ever served there, and nobody waits."""
    assert not is_listening(address)
    with pytest.raises(NotRunningError, match=r"no bus answers at tcp://127\.0\.0\.1:\d+: "):
        rpc.call(address, "echo", {}, timeout=30)
    localkey.load_or_create(path)
    assert is_listening(address)


def test_who_comes_first_may_be_the_client(address, place):
    """A listener that is older than its server is answered as soon as there is one."""
    client = connect(zmq.DEALER, address)
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        bind(socket, address)
        client.send(b"hello")
        wait_for(lambda: socket.poll(10))
        assert socket.recv_multipart()[1] == b"hello"
    finally:
        client.close()
        socket.close(linger=0)
        context.term()


def test_a_server_without_a_directory_says_so(place):
    """The key has no place there."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        with pytest.raises(BusError, match=r"the key .*/none/local\.key cannot be made"):
            bind(socket, localkey.with_key("tcp://127.0.0.1:1", place / "none"))
    finally:
        socket.close(linger=0)
        context.term()
