"""Salt's filters: what they give, and that what they write reads back the same."""

from datetime import UTC, datetime

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import FilterArgumentError, UndefinedError

from bus.yamlfile import load
from reactor.rules import filters as f
from reactor.rules.regexes import RegexError

_filters = f.filters()
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(_texts)
def test_quoted_text_reads_back_the_same(text):
    """Whatever an event carries, quoted it is one YAML value and nothing else."""
    for name in ("yaml_dquote", "yaml_squote", "yaml_encode", "json"):
        assert load(f"a: {_filters[name](text)}", "x")[0] == {"a": text}, name


@given(st.recursive(st.none() | st.booleans() | st.integers() | _texts, st.lists, max_leaves=5))
def test_json_is_yaml(value):
    """A value written with the json filter is the same in YAML."""
    assert load(f"a: {f.to_json({'v': value})}", "x")[0] == {"a": {"v": value}}


def test_yaml_in_one_line_or_many():
    """Flow style is the default, so that the text fits behind a key."""
    assert f.to_yaml({"a": [1, "x"]}) == "{a: [1, x]}"
    assert f.to_yaml({"a": [1]}, False) == "a:\n- 1"
    assert f.to_yaml("x") == "x"


def test_yaml_encode_refuses_structures():
    """A list is no single value."""
    assert [f.yaml_encode(v) for v in (None, True, 1.5, "on")] == ["null", "true", "1.5", '"on"']
    with pytest.raises(FilterArgumentError, match="not list"):
        f.yaml_encode([])


@pytest.mark.parametrize("name", ["json", "tojson", "yaml", "yaml_encode", "yaml_dquote"])
def test_what_is_undefined_is_called_so(name):
    """Whichever filter it goes through, and however deep it is, the words are Jinja's own."""
    missing = jinja2.StrictUndefined(obj={}, name="nope")
    values = [missing] if name.startswith("yaml_") else [missing, {"a": [missing]}]
    for value in values:
        with pytest.raises(UndefinedError, match="'dict object' has no attribute 'nope'"):
            _filters[name](value)


@pytest.mark.parametrize("name", ["json", "yaml"])
def test_what_is_no_data_is_refused_with_advice(name):
    """A generator, such as the filter map gives."""
    with pytest.raises(FilterArgumentError, match="a generator is no data: add"):
        _filters[name](iter_ for iter_ in ())


def test_text_becomes_data():
    """The body of a webhook, as Salt's users read it."""
    assert f.load_json('{"ref": "refs/heads/main", "n": [1]}') == {
        "ref": "refs/heads/main",
        "n": [1],
    }
    assert f.load_json(b"[1]") == [1]
    assert f.load_yaml("a: [1, 2026-01-02]") == {"a": [1, "2026-01-02"]}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("load_json", "{", "load_json: no JSON: "),
        ("load_json", {"a": 1}, "load_json takes text, not dict"),
        ("load_json", "[" * 5000 + "]" * 5000, "nests too deeply"),
        ("load_yaml", "a: [", r"load_yaml: .* \(line \d, column \d of the text\)"),
        ("load_yaml", "a: 1\na: 2", "the key 'a' is here twice"),
        ("load_yaml", None, "load_yaml takes text, not NoneType"),
    ],
)
def test_text_that_is_no_data_is_refused(name, value, told):
    """What is wrong with it is said, and no more than that."""
    with pytest.raises(FilterArgumentError, match=told):
        _filters[name](value)


@pytest.mark.parametrize(
    ("path", "found"),
    [("a:b:1:c", 5), ("a:b:2", "no"), ("a:x", "no"), ("a:b:1:c:d", "no"), ("a:b:-1", "no")],
)
def test_traverse(path, found):
    """A path through mappings and lists, or the default."""
    assert f.traverse({"a": {"b": [0, {"c": 5}]}}, path, "no") == found


def test_single_quotes():
    """Quotes within are doubled."""
    assert f.yaml_squote("it's") == "'it''s'"


@pytest.mark.parametrize(
    ("value", "true"),
    [("yes", True), ("True", True), ("1", True), ("no", False), (2, True), (0, False), ([1], True)],
)
def test_to_bool(value, true):
    """Words and numbers that mean true are true."""
    assert f.to_bool(value) is true


def test_regular_expressions():
    """Groups or None; and one text for another."""
    assert f.regex_match("web12", r"web(\d+)") == ("12",)
    assert f.regex_match("a web12", r"web(\d+)") is None
    assert f.regex_search("a WEB12", r"web(\d+)", ignorecase=True) == ("12",)
    assert f.regex_search("a", "b") is None
    assert f.regex_replace("a1b2", r"\d", "-") == "a-b-"
    assert f.regex_search("a\nb", "^(b)", multiline=True) == ("b",)


@pytest.mark.parametrize("pattern", ["(", "x" * 2000])
def test_bad_patterns_are_refused(pattern):
    """The error says so in one line."""
    with pytest.raises(RegexError):
        f.regex_search("a", pattern)


def test_times():
    """A stamp, seconds and a datetime all have a form."""
    assert f.strftime("2026-11-22T09:30:00.000001+00:00", "%H:%M") == "09:30"
    assert f.strftime(0) == "1970-01-01"
    assert f.strftime(datetime(2026, 1, 2, tzinfo=UTC), "%d") == "02"
    for bad in ("yesterday", 1e30):
        with pytest.raises(FilterArgumentError, match="is no time"):
            f.strftime(bad)


def test_digests_and_encodings():
    """Well-known values, so that files written for Salt give the same."""
    assert _filters["md5"]("a") == "0cc175b9c0f1b6a831c399e269772661"
    assert _filters["sha256"]("a").startswith("ca978112ca1bbdcafac231b39a23dc4d")
    assert _filters["sha512"](b"a").startswith("1f40fc92da241694")
    assert _filters["uuid"]("random") == "3652b285-26ad-588e-a5dc-c2ee65edc804"
    assert _filters["base64_encode"]("get salted") == "Z2V0IHNhbHRlZA=="
    assert _filters["base64_decode"]("Z2V0IHNhbHRlZA==") == "get salted"
    assert _filters["quote"]("a b") == "'a b'"
    assert _filters["is_list"]([]) is True
    assert f.tests()["list"]("x") is False


def test_json_indent_is_bounded():
    """An indent of millions is no JSON but an attack."""
    assert f.to_json([1], indent=1) == "[\n 1\n]"
    with pytest.raises(FilterArgumentError):
        f.to_json([1], indent=10**9)


def test_yaml_reads_back():
    """The yaml filter's text is YAML."""
    value = {"a": ["x: y", None, True, "2024-01-01"]}
    assert yaml.safe_load(f.to_yaml(value)) == value
