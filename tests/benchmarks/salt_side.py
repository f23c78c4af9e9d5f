"""The same works on real Salt, run by the Python of Salt's own environment; see `salt`.

``python -m tests.benchmarks.salt_side CONFIG WORK COUNT``: writes JSON, one value a line. It
knows nothing of our packages, only Salt's public library and the event that everybody fires.
"""

import json
import sys
import time

import salt.config
import salt.utils.event
import salt.version

from tests.benchmarks import events

SILENCE = 5.0
"""Seconds without an event after which what has not come is lost."""

PACE = 50
"""Paced events a second: what Salt's bus bears even on a slow machine, so that none waits."""

MINIONS = 100
RETURN = "/ret"


def say(value):
    print(json.dumps(value), flush=True)


def connect(config, listen):
    """Return Salt's event object; one that listens is known to be heard by the bus."""
    opts = salt.config.client_config(config)
    event = salt.utils.event.get_event(
        "master", sock_dir=opts["sock_dir"], opts=opts, listen=listen
    )
    deadline = time.monotonic() + 30
    while listen and time.monotonic() < deadline:
        event.fire_event({}, "warm/up")
        if event.get_event(wait=0.3, tag="warm/up") is not None:
            break
    while listen and event.get_event(wait=0.2, tag="warm/up") is not None:
        pass  # the others, so that none comes between
    return event


def ready(config, _count):
    """Wait until the master's bus passes on what is fired."""
    connect(config, listen=True)
    say(salt.version.__version__)


def fire(config, count):
    """Fire everything, one after the other; say when it began, and the seconds of each."""
    event = connect(config, listen=False)
    event.fire_event({}, "warm/up")
    begun, took = time.perf_counter(), []
    for number in range(count):
        before = time.perf_counter()
        event.fire_event(events.payload(number), events.TAG)
        took.append(time.perf_counter() - before)
    say({"begun": begun, "took": took})


def hear(config, count):
    """Say "ready", and then when the last event was decoded, and how many came."""
    event = connect(config, listen=True)
    say("ready")
    heard, end = 0, 0.0
    while heard < count and event.get_event(wait=SILENCE, tag="bench/") is not None:
        heard, end = heard + 1, time.perf_counter()
    say({"heard": heard, "end": end})


def fire_paced(config, count):
    """Fire at even distances; each event says when it was fired."""
    event = connect(config, listen=False)
    event.fire_event({}, "warm/up")
    for number in range(count):
        begun = time.perf_counter()
        event.fire_event(events.payload(number, begun), events.TAG)
        time.sleep(max(0.0, 1 / PACE - (time.perf_counter() - begun)))
    say("fired")


def hear_paced(config, count):
    """Say "ready", and then the seconds from the fire to the decoded event."""
    event = connect(config, listen=True)
    say("ready")
    late = []
    while len(late) < count:
        data = event.get_event(wait=SILENCE, tag="bench/")
        if data is None:
            break
        late.append(time.perf_counter() - data["at"])
    say(late)


def fire_ids(config, count):
    """Fire what the reactor reacts to; say when it began."""
    event = connect(config, listen=False)
    event.fire_event({}, "warm/up")
    begun = time.perf_counter()
    for number in range(count):
        event.fire_event(
            {"id": f"minion{number % MINIONS}", **events.payload(number)}, "react/event"
        )
    say({"begun": begun})


def hear_returns(config, count):
    """Say "ready", and then when the last runner had returned, and how many did."""
    event = connect(config, listen=True)
    say("ready")
    heard, end = 0, 0.0
    while heard < count and _next_return(event):
        heard, end = heard + 1, time.perf_counter()
    say({"heard": heard, "end": end})


def react_one_by_one(config, count):
    """Fire, wait for the return of the runner, and again; say the seconds of each."""
    event = connect(config, listen=True)
    late = []
    for number in range(count):
        begun = time.perf_counter()
        event.fire_event({"id": f"minion{number}", **events.payload(number)}, "react/event")
        if _next_return(event):
            late.append(time.perf_counter() - begun)
    say(late)


def _next_return(event):
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline:
        found = event.get_event(wait=SILENCE, tag="salt/run/", full=True)
        if found and found["tag"].endswith(RETURN):
            return True
    return False


WORKS = {
    work.__name__: work
    for work in (
        ready,
        fire,
        hear,
        fire_paced,
        hear_paced,
        fire_ids,
        hear_returns,
        react_one_by_one,
    )
}

if __name__ == "__main__":
    WORKS[sys.argv[2]](sys.argv[1], int(sys.argv[3]))
