"""What the console of ``up`` shows."""

import contextlib
import threading
import time

import pytest

from bus.errors import NotRunningError
from bus.record import Event
from bus.stopping import Stop
from reactor import console
from reactor.console import Console, Facts, Narrator, Throttle, banner, coloured, next_steps, plain

STAMP = "2026-11-22T09:30:01.123456+00:00"

FACTS = Facts(
    minion="web1",
    address="127.0.0.1:4506",
    directory="/home/me/.reactor",
    rules=("/home/me/rules",),
    log_file="/home/me/.reactor/log/up.log",
    is_new=True,
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    """The console shows local time: here that is UTC."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def event(tag, data=None, seq=1):
    return Event(tag, {"_stamp": STAMP, **(data or {})}, seq)


def reaction(seq=1, how="done", **more):
    data = {
        "rule": "hello",
        "event": {"tag": "salt/minion/web1/start", "seq": seq},
        "calls": [
            {
                "kind": "local",
                "function": "test.ping",
                "target": "web1",
                "result": {"jid": "1", "minions": ["web1"]},
            }
        ],
        "seconds": 0.0031,
        **more,
    }
    return event(f"reactor/reaction/hello/{how}", data, seq + 1)


class TestNarrator:
    """Lines out of events."""

    def test_an_event_and_its_reaction(self):
        """A reaction stands under its event."""
        narrator = Narrator()
        assert narrator.lines(event("salt/minion/web1/start")) == [
            "09:30:01.123  salt/minion/web1/start"
        ]
        assert narrator.lines(reaction()) == [
            "              └─ hello → local test.ping on web1  (3 ms)"
        ]
        assert narrator.reactions == 1

    def test_a_reaction_that_comes_later_names_its_event(self):
        """When others came between, the line says what it belongs to."""
        narrator = Narrator()
        narrator.lines(event("salt/minion/web1/start", seq=1))
        narrator.lines(event("other", seq=2))
        (line,) = narrator.lines(reaction(seq=1))
        assert line.endswith("(3 ms)  ← salt/minion/web1/start")

    def test_a_target_that_means_nobody(self):
        """It is no failure, but hardly what was wanted."""
        narrator = Narrator()
        call = {"kind": "local", "function": "test.ping", "target": "x", "result": {"minions": []}}
        assert "test.ping on x (no minion matches)" in narrator.lines(reaction(calls=[call]))[0]

    def test_what_a_failure_kept_from_running(self):
        """It is not shown as if it had run."""
        narrator = Narrator()
        calls = [
            {"kind": "runner", "function": "no.such", "error": "no function 'no.such'"},
            {"kind": "event", "function": "never/fired"},
        ]
        lines = narrator.lines(reaction(how="failed", calls=calls, error="no function"))
        assert "runner no.such" in lines[0]
        assert "never/fired" not in lines[0]

    def test_a_reaction_that_failed(self):
        """The error stands below, on one line."""
        narrator = Narrator()
        narrator.lines(event("salt/minion/web1/start"))
        lines = narrator.lines(reaction(how="failed", error="no such\nfunction"))
        assert lines[1] == "                 failed: no such function"

    def test_a_reaction_without_calls(self):
        """One that could not be planned did nothing."""
        (line, _) = Narrator().lines(reaction(seq=0, how="failed", calls=[], error="x"))
        assert line.startswith("              └─ hello  (3 ms)")

    def test_a_reload(self):
        """Which rules changed, and how long it took."""
        data = {"rules": 12, "changed": ["hello"], "seconds": 0.005}
        (line,) = Narrator().lines(event("reactor/rules/reloaded", data))
        assert line == "09:30:01.123  rules reloaded: 12 in force (hello)  (5 ms)"

    def test_a_reload_that_leaves_problems(self):
        """How many there are, and again those that were there before."""
        old = {"source": "/r/a.yaml:3", "message": "no such key", "kept": True}
        data = {"rules": 12, "problems": 2, "remaining": [old], "seconds": 0.005}
        line, again = Narrator().lines(event("reactor/rules/reloaded", data))
        assert "12 in force (nothing new; 2 problems)" in line
        assert again.strip() == "! /r/a.yaml:3: no such key (the last good version stays in force)"

    def test_a_reload_that_ends_the_last_problem(self):
        """That all is well is said once."""
        data = {"rules": 12, "changed": ["hello"], "problems": 0, "solved": 1}
        (line,) = Narrator().lines(event("reactor/rules/reloaded", data))
        assert "(hello; no problems now)" in line

    def test_a_broken_rule_file(self):
        """What is wrong and where, and that the old version stays."""
        data = {"source": "/r/a.yaml:3", "message": "no such key", "kept": True}
        (line,) = Narrator().lines(event("reactor/rules/error", data))
        assert line.strip() == ("! /r/a.yaml:3: no such key (the last good version stays in force)")

    def test_a_warning(self):
        """What may be wrong is told with its place, and not as an error."""
        data = {"source": "r", "message": "nothing reacts by a reactor file here"}
        (line,) = Narrator(coloured).lines(event("reactor/rules/warning", data))
        assert line.strip() == "\x1b[33m! r: nothing reacts by a reactor file here\x1b[0m"

    def test_long_data_is_cut_to_the_width(self):
        """No line is wider than the terminal."""
        (line,) = Narrator(width=60).lines(event("my/tag", {"text": "x" * 500}))
        assert len(line) <= 60
        assert line.endswith("…")

    def test_a_tag_as_wide_as_the_terminal(self):
        """Then there is no room for data."""
        (line,) = Narrator(width=60).lines(event("t" * 80, {"a": 1}))
        assert line == "09:30:01.123  " + "t" * 80

    def test_what_comes_from_outside_cannot_steer_the_terminal(self):
        """Escape sequences in tags, data and rule names are shown, not obeyed."""
        narrator = Narrator(paint=plain, width=200)
        lines = [
            *narrator.lines(event("my/\x1b[2J", {"a": "\x1b]0;title\x07\x9b"})),
            *narrator.lines(reaction(rule="\x1b[1m", how="failed", error="\x1b[2J")),
        ]
        assert not any("\x1b" in line or "\x9b" in line for line in lines)

    @pytest.mark.parametrize(
        "data", [{}, {"event": 3, "calls": 4}, {"calls": [3, {}], "seconds": "x"}]
    )
    def test_any_data_makes_a_line(self, data):
        """Anybody may fire such a tag with whatever data."""
        assert Narrator().lines(event("reactor/reaction/x/dead", data))

    def test_colours(self):
        """On a terminal the tag is coloured."""
        (line,) = Narrator(coloured).lines(event("my/tag"))
        assert "\x1b[36mmy/tag\x1b[0m" in line


@pytest.mark.parametrize(
    ("tag", "data", "text"),
    [
        ("my/tag", {"a": 1}, '{"a": 1}'),
        ("my/tag", {}, ""),
        ("salt/minion/web1/start", {"pid": 1}, ""),
        (
            "salt/job/20261122093000123456/new",
            {"fun": "test.ping", "minions": ["a", "b"]},
            "test.ping on a, b",
        ),
        ("salt/job/20261122093000123456/new", {"fun": "test.ping"}, "test.ping on no minion"),
        (
            "salt/job/20261122093000123456/ret/a",
            {"fun": "x.y", "return": True},
            "x.y returned true",
        ),
        (
            "salt/job/20261122093000123456/ret/a",
            {"fun": "cmd.run", "return": "broken\nagain", "retcode": 3, "success": False},
            "cmd.run failed (retcode 3): broken again",
        ),
        (
            "salt/job/20261122093000123456/ret/a",
            {"fun": "x.y", "return": {"a": 1}, "retcode": 0, "success": False},
            'x.y failed: {"a": 1}',
        ),
        (
            "salt/job/20261122093000123456/ret/a",
            {"fun": "cmd.run", "return": "", "retcode": 1, "success": False},
            "cmd.run failed (retcode 1)",
        ),
        (
            "salt/run/20261122093000123456/new",
            {"fun": "runner.test.arg", "fun_args": ["x", {"__kwarg__": True, "a": 1}]},
            'runner.test.arg "x" {"a": 1}',
        ),
        (
            "salt/wheel/20261122093000123456/ret",
            {"fun": "wheel.key.list_all", "fun_args": [], "return": {"a": 1}, "success": True},
            'wheel.key.list_all returned {"a": 1}',
        ),
        (
            "salt/run/20261122093000123456/ret",
            {"fun": "runner.x.y", "return": "no such thing", "success": False},
            "runner.x.y failed: no such thing",
        ),
        ("my/tag", {"cmd": "_minion_event", "id": "a", "data": {"b": 2}}, '{"b": 2}'),
    ],
)
def test_summary(tag, data, text):
    """What an event says beside its tag."""
    assert console.summary(event(tag, data)) == text


def test_a_call_on_a_list_of_minions():
    """Targets may be lists."""
    call = {"kind": "local", "function": "a.b", "target": ["x", "y"]}
    assert console.describe_call(call) == "local a.b on x,y"


@pytest.mark.parametrize(("seconds", "text"), [(0.0031, "3 ms"), (1.26, "1.3 s"), (None, "?")])
def test_spoken_seconds(seconds, text):
    """As people say it."""
    assert console.spoken_seconds(seconds) == text


def test_a_stamp_that_is_none():
    """An event without a time keeps its column."""
    assert console.time_of_day("") == " " * 12


class TestThrottle:
    """Fifty lines a second."""

    def test_holds_back_and_counts(self):
        """What is too much in one second is told in the next."""
        throttle = Throttle(limit=2)
        assert [throttle.takes(10.1) for _ in range(5)] == [True, True, False, False, False]
        assert throttle.held(10.9) == 0
        assert throttle.held(11.0) == 3
        assert throttle.held(11.1) == 0
        assert throttle.takes(11.2)

    def test_nothing_held(self):
        """Few events are all shown."""
        throttle = Throttle()
        assert throttle.takes(1.0)
        assert throttle.held(2.0) == 0


class TestBanner:
    """The first and the next lines."""

    def test_says_what_runs(self):
        """Id, directory, rules and their problems."""
        rules = {
            "rules": [{}, {}],
            "problems": [{"source": "a.yaml:1", "message": "broken", "kept": False}],
        }
        text = "\n".join(banner(FACTS, rules, plain))
        assert "  minion  web1" in text
        assert "  config  /home/me/.reactor  (made just now)" in text
        assert "  rules   2 from /home/me/rules" in text
        assert "! a.yaml:1: broken" in text

    def test_without_an_answer_of_the_reactor(self):
        """A reactor that is late costs only the count."""
        facts = Facts("web1", "a:1", "/d", (), "", is_new=False)
        text = "\n".join(banner(facts, {}, plain))
        assert "0 from no file" in text
        assert "this terminal" in text

    def test_next_steps(self):
        """Commands that work as they stand."""
        text = "\n".join(next_steps(FACTS, plain))
        assert "reactor fire my/tag '{a: 1}'" in text
        assert "reactor cmd web1 test.ping" in text
        assert "/home/me/rules" in text
        more = Facts("web1", "a:1", "/d", ("/d/rules", "/tracked"), "", is_new=False)
        assert "edit the rules in /d/rules:" in "\n".join(next_steps(more, plain))
        bare = Facts("web1", "a:1", "/d", (), "", is_new=False)
        assert "/d/rules" in "\n".join(next_steps(bare, plain))


class Clock:
    """Seconds that go on when told to."""

    now = 100.0

    def __call__(self):
        return self.now


class TestConsole:
    """When which lines are written."""

    @pytest.fixture
    def clock(self):
        """A clock for the test."""
        return Clock()

    @pytest.fixture
    def shown(self):
        """The lines that were written."""
        return []

    @pytest.fixture
    def it(self, clock, shown):
        """A console that writes into a list."""
        return Console(Narrator(), ["next steps"], shown.extend, clock)

    def test_the_next_steps_come_when_all_is_quiet(self, it, clock, shown):
        """Not between the first lines, and once only."""
        it.show(event("salt/minion/web1/start"))
        it.show(reaction())
        it.tick()
        assert "next steps" not in shown
        clock.now += 1
        it.tick()
        clock.now += 10
        it.tick()
        assert shown.count("next steps") == 1

    def test_the_next_steps_come_without_any_reaction(self, it, clock, shown):
        """Who has no rules yet is told too."""
        it.tick()
        assert shown == []
        clock.now += 6
        it.tick()
        assert shown == ["next steps"]

    def test_a_burst_is_summed_up(self, it, clock, shown):
        """Nobody reads a thousand lines."""
        for seq in range(2000):
            it.show(event("burst", seq=seq))
        clock.now += 1
        it.tick()
        assert len(shown) == console.LINES_A_SECOND + 1
        assert shown[-1].strip() == "… 1,950 more events"

    def test_follows_a_connection(self, it, shown):
        """Events are shown until the end is asked for."""
        stop = Stop()

        class Listening:
            closed = False

            def next(self, timeout):
                stop.set()
                return event("my/tag", seq=7)

            def close(self):
                self.closed = True

        class Connection:
            listening = Listening()

            def listen(self, since):
                self.since = since
                return self.listening

        connection = Connection()
        assert it.follow(connection, 5.0, stop) > 5.0
        assert connection.since == 5.0
        assert connection.listening.closed
        assert shown == ["09:30:01.123  my/tag"]
        stop.close()


class TestRun:
    """The process."""

    def test_waits_for_a_bus_that_is_away(self, tmp_path, monkeypatch, capsys):
        """Without a bus the banner comes, and the console tries again until the end."""
        stop = Stop()
        tries = []

        def no_bus(*_args):
            tries.append(1)
            if len(tries) > 2:
                stop.set()
            raise NotRunningError("no bus")

        monkeypatch.setattr(console, "connect", no_bus)
        console.run({"sock_dir": str(tmp_path)}, FACTS, 0.0, stop, colour=False)
        assert len(tries) == 3
        assert capsys.readouterr().out.startswith("Reactor ")
        stop.close()

    def test_goes_on_after_it_was_killed(self, monkeypatch, capsys):
        """From now, and without the first lines."""
        stop, began, asked = Stop(), time.time(), []

        def follow(_console, _connection, since, stop):
            asked.append(since)
            stop.set()
            return since

        monkeypatch.setattr(console, "connect", lambda *_args: contextlib.nullcontext())
        monkeypatch.setattr(console.Console, "follow", follow)
        console.run_again({}, stop, colour=False)
        assert began <= asked[0] <= time.time()
        assert capsys.readouterr().out == ""
        stop.close()

    def test_ends_when_nobody_reads(self, tmp_path, monkeypatch):
        """A pipe that was closed is no fault."""

        def broken(_lines):
            raise BrokenPipeError

        monkeypatch.setattr(console, "_write", broken)
        stop = Stop()
        thread = threading.Thread(
            target=console.run,
            args=({"sock_dir": str(tmp_path)}, FACTS, 0.0, stop),
            kwargs={"colour": True},
        )
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        stop.close()


def test_a_reload_names_what_came_and_what_went_but_not_a_thousand():
    """A git checkout changes very many rules; the line stays one that a person reads."""
    data = {"rules": 7, "changed": [f"r{n}" for n in range(1005)], "removed": ["old"]}
    [line] = Narrator().lines(Event("reactor/rules/reloaded", data, 1))
    assert "7 in force (r0, r1, r2, r3, r4, and 1,000 more; gone: old)" in line
