"""Every command line and every Python snippet of Salt's Event System document, on ours."""

from __future__ import annotations

import fnmatch
import json
import signal
import threading
from contextlib import contextmanager

import pytest

import bus
import bus.client
import bus.config
import bus.event
from tests.system import running, wait_until

MODULE = '''
def do_something():
    """Do something and fire an event to the master when finished.

    CLI Example::

        reactor cmd '*' my_custom_module.do_something
    """
    # do something!
    __salt__["event.send"]("myco/my_custom_module/finished", {
        "finished": True,
        "message": "The something is finished!",
    })
'''


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running `reactor up` with the minion `web1` and a folder for custom modules."""
    folder = tmp_path_factory.mktemp("seed")
    files = folder / "files"
    (files / "_modules").mkdir(parents=True)
    with running(folder, "--file-roots", str(files)) as running_system:
        running_system.files = files
        yield running_system


@pytest.fixture
def master(system):
    """The document's first lines: the options, and an event object of the master."""
    opts = bus.config.client_config(system.config / "master")
    event = bus.event.get_event(
        "master", sock_dir=opts["sock_dir"], transport=opts["transport"], opts=opts
    )
    yield event
    event.destroy()


@contextmanager
def _fired_again_and_again(system, tag, data):
    """Fire an event every now and then, for somebody who begins to listen meanwhile."""
    enough = threading.Event()

    def fire():
        with bus.connect("master", bus.config.master_config(system.config)) as events:
            while not enough.wait(0.1):
                events.fire(tag, data)

    thread = threading.Thread(target=fire)
    thread.start()
    yield
    enough.set()
    thread.join()


# -- from the command line ---------------------------------------------------------------------


def test_run_state_event(system):
    """`run state.event pretty=True` prints each event, its keys sorted, indented by 4."""
    with _fired_again_and_again(system, "seed/shown", {"b": 2, "a": 1}):
        shown = system.run("run", "state.event", "pretty=True", "count=1", "tagmatch=seed/*")
    tag, _, text = shown.stdout.partition("\t")
    assert tag == "seed/shown"
    assert '\n    "a": 1,\n' in text
    data = json.loads(text)
    assert (data["a"], data["b"]) == (1, 2)
    assert list(data) == sorted(data)


def test_run_state_event_ends_cleanly_with_ctrl_c(system):
    """A person who watches the bus and presses Ctrl-C sees no traceback."""
    with (
        _fired_again_and_again(system, "seed/ctrl-c", {}),
        system.start("run", "state.event") as watch,
    ):
        assert watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        _, err = watch.communicate(timeout=5)
    assert "Traceback" not in err


def test_call_event_fire(system):
    """`call event.fire DATA TAG` fires on the minion's own bus, flat."""
    opts = bus.config.minion_config(system.config / "minion")
    with bus.event.MinionEvent(opts) as event:
        shown = system.run(
            "call", "event.fire", '{"data": "message to be sent in the event"}', "tag"
        )
        data = event.get_event(wait=5, tag="tag")
    assert "True" in shown.stdout
    assert data["data"] == "message to be sent in the event"


def test_call_event_send(system, master):
    """`call event.send TAG DATA` reads YAML and brings the event to the master, enveloped."""
    system.run("call", "event.send", "myco/mytag/success", '{success: True, message: "It works!"}')
    data = master.get_event(wait=5, tag="myco/mytag/success")
    assert data["id"] == "web1"
    assert data["cmd"] == "_minion_event"
    assert data["pretag"] is None
    assert data["tag"] == "myco/mytag/success"
    assert data["data"] == {"success": True, "message": "It works!"}


def test_cmd_event_fire(system):
    """`cmd MINION event.fire DATA TAG` fires on that minion's bus."""
    opts = bus.config.minion_config(system.config / "minion")
    with bus.event.MinionEvent(opts) as event:
        shown = system.run(
            "cmd",
            "web1",
            "event.fire",
            '{"data": "message for the minion"}',
            "customtag/african/unladen",
        )
        data = event.get_event(wait=5, tag="customtag/")
    assert "web1" in shown.stdout
    assert data["data"] == "message for the minion"


# -- from Python -------------------------------------------------------------------------------


def test_get_event(system, master):
    """`get_event()` returns a single event's data, `wait` and `tag` narrow it."""
    system.run("fire", "salt/auth", "{id: web9}")
    assert master.get_event(wait=10, tag="salt/auth")["id"] == "web9"
    assert master.get_event(wait=0.1, tag="salt/auth") is None


def test_get_event_with_its_tag(system, master):
    """`full=True` gives the tag too."""
    system.run("cmd", "web1", "test.ping")
    evdata = master.get_event(wait=10, tag="salt/job", full=True)
    tag, data = evdata["tag"], evdata["data"]
    assert fnmatch.fnmatch(tag, "salt/job/*/new")
    assert data["fun"] == "test.ping"


def test_iter_events(system, master):
    """`iter_events` yields one event after the other."""
    for number in range(3):
        system.run("fire", "salt/auth", f"{{number: {number}}}")
    events = master.iter_events(tag="salt/auth")
    assert [next(events)["number"] for _ in range(3)] == [0, 1, 2]


def test_the_fnmatch_loop(system, master):
    """The loop of the document finds the return of a job."""
    system.run("cmd", "web1", "test.echo", "found")
    while True:
        ret = master.get_event(full=True)
        if ret is None:
            continue
        if fnmatch.fnmatch(ret["tag"], "salt/job/*/ret/*"):
            break
    assert ret["data"]["return"] == "found"
    assert ret["data"]["id"] == "web1"
    assert ret["data"]["cmd"] == "_return"


def test_minion_event_with_a_regular_expression(system):
    """A process on the minion hears what is fired to it."""
    opts = bus.config.minion_config(system.config / "minion")
    with bus.event.MinionEvent(opts) as event:
        system.run("cmd", "web1", "event.fire", "{n: 1}", "other/tag")
        system.run("cmd", "web1", "event.fire", "{n: 2}", "custom/tag")
        for evdata in event.iter_events(match_type="regex", tag="custom/.*"):
            assert evdata["n"] == 2
            break


def test_default_minion_options_as_on_windows():
    """The options may also be given as a mapping."""
    opts = bus.config.minion_config(dict(bus.config.DEFAULT_MINION_OPTS))
    assert opts["id"]


def test_caller(system, master):
    """`Caller().cmd("event.send", ...)` fires an event at the master from any script."""
    caller = bus.client.Caller(system.config / "minion")
    ret = caller.cmd("event.send", "myco/event/success", {"success": True, "message": "It works!"})
    assert ret is True
    data = master.get_event(wait=5, tag="myco/event/success")
    assert data["data"]["message"] == "It works!"


def test_an_execution_module_of_ones_own(system, master):
    """A module put into `_modules/` on the master reaches the minion, and fires from there."""
    (system.files / "_modules" / "my_custom_module.py").write_text(MODULE)
    wait_until(
        lambda: (
            "is not available"
            not in system.run("cmd", "web1", "my_custom_module.do_something", code=None).stdout
        )
    )
    data = master.get_event(wait=5, tag="myco/my_custom_module/finished")
    assert data["id"] == "web1"
    assert data["data"]["finished"] is True
