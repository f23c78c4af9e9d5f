"""Dead letters: kept over a restart, bounded with a count, retried under the same id."""

import pytest

from bus import wire
from reactor.engine.deadletters import DeadLetters, Letter
from reactor.engine.firing import reaction_id
from reactor.engine.loops import SelfFeeding
from reactor.engine.service import Service
from reactor.errors import ReactorError
from reactor.rules.loading import RuleSet
from tests.unit.reactor.test_engine import Bench


def _letter(number, **changes):
    known = {
        "id": f"b-{number}-r",
        "at": float(number),
        "key": "f.yaml::r",
        "rule": "r",
        "source": "f.yaml:1",
        "bus_id": "b",
        "seq": number,
        "tag": "a/b",
        "error": "broken",
        "event": wire.pack_event("a/b", {"n": number}),
    }
    return Letter(**{**known, **changes})


@pytest.fixture
def dead(tmp_path):
    letters = DeadLetters(tmp_path / "dead.db", keep=3)
    yield letters
    letters.close()


def test_letters_survive_and_are_found(tmp_path, dead):
    """Everything that a retry needs is there after the file was closed."""
    one = _letter(1, done=frozenset({0}), replies={"do[0]": (1, None)}, window={"count": 2})
    dead.add([one, _letter(2, rule="s")])
    dead.close()
    again = DeadLetters(tmp_path / "dead.db", keep=3)
    assert again.find(["b-1-r"]) == [one]
    assert [letter.rule for letter in again.find()] == ["s", "r"]
    assert [letter.seq for letter in again.find(rule="s")] == [2]
    again.close()
    assert (tmp_path / "dead.db").stat().st_mode & 0o777 == 0o600


def test_one_that_fails_again_counts_its_tries(dead):
    """It keeps its place, with the newest error."""
    dead.add([_letter(1)])
    dead.add([_letter(1, error="still", event=None)])
    [letter] = dead.find()
    assert (letter.tries, letter.error, len(dead)) == (2, "still", 1)
    assert letter.event is not None


def test_the_oldest_go_and_are_counted(dead):
    """More than are to be kept never stay, and how many went is told."""
    assert dead.add([_letter(number) for number in range(5)]) == 2
    assert [letter.seq for letter in dead.find()] == [4, 3, 2]
    assert (dead.dropped, len(dead)) == (2, 3)


def test_drop(dead):
    """One, those of a rule, or all."""
    dead.add([_letter(1), _letter(2, rule="s"), _letter(3, rule="s")])
    assert (dead.drop(["b-1-r"]), dead.drop(rule="s"), dead.drop(), len(dead)) == (1, 2, 0, 0)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    """The text names the file."""
    (tmp_path / "dead.db").mkdir()
    with pytest.raises(ReactorError, match=r"dead\.db"):
        DeadLetters(tmp_path / "dead.db", keep=1)


def test_a_rule_that_feeds_itself_too_fast_is_stopped_for_a_while():
    """Up to the limit it may; then it is news once, and a minute later it may again."""
    feeding = SelfFeeding(2)
    assert [feeding.stops("r", 0.1 * n) for n in range(4)] == [
        (False, False),
        (False, False),
        (True, True),
        (True, False),
    ]
    assert feeding.stops("other", 0.3) == (False, False)
    assert feeding.stops("r", 100.0) == (False, False)


def test_slow_ones_and_no_limit_are_let_be():
    """What stays below the rate is no loop."""
    assert {SelfFeeding(0).stops("r", 0.0) for _ in range(100)} == {(False, False)}
    slow = SelfFeeding(2)
    assert {slow.stops("r", 6.0 * n) for n in range(50)} == {(False, False)}


class TestService:
    """Retries and replays, through an engine with a feed and actions of the test's own."""

    @pytest.fixture
    def service(self, tmp_path):
        (tmp_path / "r.yaml").write_text("r:\n  on: a/b\n  do: [{event: x}]\n")
        made = Bench(tmp_path, RuleSet(rules=[str(tmp_path / "r.yaml")]).load().rules)
        letters = DeadLetters(tmp_path / "dead.db", keep=10)
        made.engine._aftermath.dead = letters
        made.service = Service(made.engine, letters, tmp_path).methods()
        made.letters, made.key = letters, f"{tmp_path}/r.yaml::r"
        yield made
        letters.close()
        made.state.close()

    def test_one_that_goes_well_is_dead_no_more(self, service):
        """It ran under its old id."""
        service.letters.add([_letter(1, key=service.key, id=reaction_id("b-1", service.key))])
        assert service.service["dead.retry"]({"rule": "r"})[0]["problem"] == ""
        service.turns()
        assert len(service.letters) == 0
        [(_, reaction, _)] = service.action.started
        assert reaction.seq == 1
        assert reaction.event_id == "b-1"

    def test_what_cannot_be_retried_says_why(self, service):
        """No rule, no event, no room."""
        service.letters.add(
            [
                _letter(1, key="gone.yaml::r"),
                _letter(2, key=service.key, event=None),
            ]
        )
        problems = [one["problem"] for one in service.service["dead.retry"]({})]
        assert "was gone from the journal" in problems[0]
        assert "its rule is not in force" in problems[1]
        service.full = True
        service.letters.add([_letter(3, key=service.key)])
        [one] = service.service["dead.retry"]({"ids": ["b-3-r"]})
        assert "try again later" in one["problem"]
        assert len(service.letters) == 3

    def test_what_fails_again_stays(self, service):
        """With one try more, and its newest error."""
        service.action.at_once = False
        service.letters.add([_letter(1, key=service.key, id=reaction_id("b-1", service.key))])
        [told] = service.letters.find()
        service.service["dead.retry"]({"ids": [told.id]})
        [again] = service.service["dead.retry"]({"ids": [told.id]})
        assert "under way already" in again["problem"]
        [(_, reaction, done)] = service.action.started
        done(None, "still broken")
        service.turns()
        [letter] = service.letters.find()
        assert (letter.error, letter.tries, letter.id) == ("still broken", 2, reaction.id)

    def test_dropping_needs_a_choice(self, service):
        """Nothing is forgotten by accident."""
        service.letters.add([_letter(1)])
        with pytest.raises(ReactorError, match="say all"):
            service.service["dead.drop"]({})
        assert service.service["dead.drop"]({"all": True}) == 1
