"""What the tests of functions share: loading them, and servers for them to speak to."""

import secrets
import threading
from contextlib import contextmanager

import zmq

from bus import endpoints, loader, rpc
from bus.broker.server import EventSockets
from bus.listener import open_listener
from bus.store import MemoryStore
from bus.wire import unpack_event


class Module:
    """The functions of one module as attributes, called as a job calls them."""

    def __init__(self, functions, name):
        self.functions = functions
        self.name = name

    def __getattr__(self, function):
        def called(*args, **kwargs):
            return loader.call(self.functions, f"{self.name}.{function}", args, kwargs)

        return called


def execution(name, opts=None, grains=None, context=None):
    """Return an execution module."""
    functions = loader.execution_modules(
        opts or {}, grains={} if grains is None else grains, context=context
    )
    return Module(functions, name)


def runner(name, opts):
    """Return a runner module."""
    return Module(loader.runners(opts), name)


def wheel(name, opts):
    """Return a wheel module."""
    return Module(loader.wheels(opts), name)


@contextmanager
def serving(*servers):
    """Run servers (objects with ``sockets`` and ``handle(socket)``) in a thread."""
    wake_reader, wake_writer = _pair()
    thread = threading.Thread(target=_serve, args=(servers, wake_reader))
    thread.start()
    try:
        yield
    finally:
        wake_writer.send(b"")
        thread.join(10)
        wake_writer.close(0)
        wake_reader.close(0)


def _pair():
    context = zmq.Context.instance()
    name = f"inproc://wake-{secrets.token_hex(8)}"
    reader = context.socket(zmq.PAIR)
    reader.bind(name)
    writer = context.socket(zmq.PAIR)
    writer.connect(name)
    return reader, writer


def _serve(servers, wake):
    poller = zmq.Poller()
    poller.register(wake, zmq.POLLIN)
    by_socket = {socket: server for server in servers for socket in server.sockets}
    for socket in by_socket:
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            if socket is wake:
                return
            by_socket[socket].handle(socket)


class Answers:
    """A server of questions, as the link server is one."""

    def __init__(self, address, methods):
        self.server = rpc.open_server(address, methods)
        self.sockets = [self.server.socket]

    def handle(self, _socket):
        self.server.handle()


@contextmanager
def master_bus(opts):
    """Serve a master's bus and yield a list-like function that waits for the next event."""
    addresses = (endpoints.master_pull, endpoints.master_pub, endpoints.master_fires)
    with _bus(*[address(opts) for address in addresses], {}) as hear:
        yield hear


@contextmanager
def minion_bus(opts, methods=None):
    """Serve a minion's bus."""
    addresses = (endpoints.minion_pull, endpoints.minion_pub, endpoints.minion_fires)
    with _bus(*[address(opts) for address in addresses], methods or {}) as hear:
        yield hear


@contextmanager
def _bus(pull, pub, fires, methods):
    sockets = EventSockets(pull=pull, pub=pub, fires=fires, store=MemoryStore(), methods=methods)
    with serving(sockets):
        listener = open_listener(fires)
        try:
            listener.wait_ready(5)
            yield lambda timeout=5: _next(listener, timeout)
        finally:
            listener.close()
    sockets.close()


def _next(listener, timeout):
    heard = listener.receive(timeout)
    if heard is None:
        return None
    tag, data = unpack_event(*heard.events)
    data.pop("_stamp")
    return tag, data


@contextmanager
def link(opts, methods):
    """Serve the questions that a link server answers."""
    answers = Answers(endpoints.master_link(opts), methods)
    with serving(answers):
        yield
    answers.server.close()
