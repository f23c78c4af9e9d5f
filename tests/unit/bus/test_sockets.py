"""Who may open a local socket, and who may serve it."""

import contextlib
import os
import signal

import pytest
import zmq

from bus import rpc
from bus.errors import AlreadyRunningError, NotRunningError
from bus.sockets import bind, connect, not_running

_NOBODY = 65534
_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def _as_nobody(act):
    """Return what ``act`` returns (a small number) in a process of another user."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            os._exit(act())
        finally:
            os._exit(99)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise


@pytest.fixture
def router(place):
    """A server's socket."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    bind(socket, f"ipc://{place}/x.ipc")
    yield socket
    socket.close(linger=0)
    context.term()


def _send_as_stranger(address):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 300)
    socket.connect(address)
    socket.send(b"stranger")
    socket.close()
    context.term()
    return 0


def test_a_socket_file_is_for_its_owner_only(place, router):
    """No group and nobody else may open it."""
    assert (place / "x.ipc").stat().st_mode & 0o077 == 0


@_AS_ROOT
def test_the_system_says_who_connects(place, router):
    """Even with file and directory open to all, another user gets nothing through."""
    place.chmod(0o755)
    (place / "x.ipc").chmod(0o777)
    address = f"ipc://{place}/x.ipc"
    assert _as_nobody(lambda: _send_as_stranger(address)) == 0
    assert not router.poll(200)
    client = connect(zmq.DEALER, address)
    client.send(b"owner")
    assert router.poll(5000)
    assert router.recv_multipart()[1] == b"owner"
    client.close()


@_AS_ROOT
def test_another_user_is_told_whose_it_is(place):
    """A directory that one may not enter is another thing than a bus that is down."""
    place.chmod(0o700)
    address = f"ipc://{place}/x.ipc"

    def told():
        try:
            rpc.call(address, "ping")
        except NotRunningError as error:
            return 0 if f"only the user who owns {place} can open it" in str(error) else 1
        return 2

    assert _as_nobody(told) == 0
    assert "is it running?" in str(not_running(address))
    assert "--config DIR or REACTOR_CONFIG_DIR" in str(not_running(address))


def test_a_second_server_is_refused(place):
    """Also on the sockets of the link and the reactor; the first one keeps serving."""
    first = rpc.open_server(f"ipc://{place}/x.ipc", {})
    try:
        with pytest.raises(AlreadyRunningError, match=rf"process {os.getpid()}\) has .*x\.ipc: "):
            rpc.open_server(f"ipc://{place}/x.ipc", {})
        assert (place / "x.ipc").exists()
    finally:
        first.close()
    rpc.open_server(f"ipc://{place}/x.ipc", {}).close()


def test_a_stale_socket_file_is_replaced(place):
    """What a killed server left behind is in nobody's way."""
    (place / "x.ipc").write_text("stale")
    (place / "x.ipc.lock").write_text("4194304\n")
    with contextlib.closing(rpc.open_server(f"ipc://{place}/x.ipc", {})):
        assert (place / "x.ipc").is_socket()
        assert (place / "x.ipc.lock").read_text().strip() == str(os.getpid())
    assert not (place / "x.ipc").exists()
