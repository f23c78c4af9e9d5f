"""A firing, from its plan to its end."""

from __future__ import annotations

from bus.record import CAUSE, Event
from reactor.engine.firing import Firing, Reaction, hops_of
from reactor.rules.model import Call


def _firing(count: int, *, in_sequence: bool) -> Firing:
    reaction = Reaction("b-7-r", "r", "f.yaml:3", "a/b", 7, "b-7", 1)
    calls = tuple(Call("event", f"t/{number}", ident=f"do[{number}]") for number in range(count))
    return Firing(reaction, (7, "f.yaml::r"), calls, in_sequence, begun_at=0.0)


def test_native_calls_run_one_after_the_other():
    """The next call may begin when the one before it is done."""
    firing = _firing(3, in_sequence=True)
    assert list(firing.startable()) == [0]
    assert list(firing.startable()) == []
    firing.finish(0, "ok", None)
    assert list(firing.startable()) == [1]
    assert not firing.ended


def test_a_native_firing_ends_at_its_first_error():
    """What stands after a failed call is not begun."""
    firing = _firing(3, in_sequence=True)
    list(firing.startable())
    firing.finish(0, None, "no such minion")
    assert list(firing.startable()) == []
    assert firing.ended
    assert firing.error == "no such minion"


def test_salt_calls_all_begin_in_order():
    """None of them waits for another, and one that fails stops no other."""
    firing = _firing(3, in_sequence=False)
    assert list(firing.startable()) == [0, 1, 2]
    firing.finish(1, None, "broken")
    assert not firing.ended
    firing.finish(0, 1, None)
    firing.finish(2, 2, None)
    assert firing.ended
    assert firing.error == "broken"


def test_salts_functions_of_the_master_keep_their_order():
    """Each waits for the one before it, whatever became of that; the others wait for none."""
    firing = _firing(4, in_sequence=False)
    kinds = ("runner", "local", "wheel", "runner")
    firing.calls = tuple(Call(kind, "test.ping", ident=kind) for kind in kinds)
    assert list(firing.startable()) == [0, 1]
    assert list(firing.startable()) == []
    firing.finish(1, 1, None)
    assert list(firing.startable()) == []
    firing.finish(0, None, "broken")
    assert list(firing.startable()) == [2]
    firing.finish(2, 2, None)
    assert list(firing.startable()) == [3]
    firing.finish(3, 3, None)
    assert firing.ended


def test_calls_done_before_a_crash_are_not_begun_again():
    """A firing that is resumed goes on behind what is done."""
    firing = _firing(3, in_sequence=True)
    firing.done |= {0, 1}
    assert list(firing.startable()) == [2]


def test_the_report_names_event_calls_and_error():
    """Whoever reads the report sees what ran because of what, and how it went."""
    firing = _firing(2, in_sequence=True)
    list(firing.startable())
    firing.finish(0, {"seq": 9}, None)
    list(firing.startable())
    firing.finish(1, None, "too large")
    report = firing.report(0.25)
    assert report["rule"] == "r"
    assert report["event"] == {"tag": "a/b", "seq": 7, "id": "b-7"}
    assert report["calls"][0]["result"] == {"seq": 9}
    assert report["calls"][1]["error"] == "too large"
    assert report["error"] == "too large"
    assert report["seconds"] == 0.25


def test_the_target_of_a_job_is_in_the_report():
    """A job's report says which minions were meant."""
    reaction = Reaction("b-7-r", "r", "f:3", "a/b", 7, "b-7", 1)
    call = Call("local", "test.ping", target="web*", ident="x")
    firing = Firing(reaction, (7, "f::r"), (call,), False, 0.0)
    assert firing.report(0)["calls"][0]["target"] == "web*"


def test_hops_count_reactions_and_distrust_the_sender():
    """The chain is as long as the cause says, if it says a number that makes sense."""

    def event(cause):
        return Event("a", {CAUSE: cause}, 1, "b")

    assert hops_of(event({"hops": 4})) == 4
    for wrong in (None, [], {"hops": "9"}, {"hops": -3}, {}):
        assert hops_of(event(wrong)) == 0
