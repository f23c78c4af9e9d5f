"""Templates of Salt's files: checked early, rendered within bounds, errors with file and line."""

from collections.abc import Mapping

import pytest

from reactor.errors import RuleError
from reactor.rules.templates import Reference, SaltFunctions, Sources, Templates

ROOT = "/r/a.sls"


@pytest.fixture(scope="module")
def templates():
    """One for all, as in a process."""
    return Templates()


def _render(templates, text, others=None, links=None, **values):
    texts = {ROOT: text, **(others or {})}
    return templates.template(Sources(ROOT, texts, links or {})).render(values)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("\n{% if %}", 2, "Expected an expression"),
        ("\n\n{{ x|yamll }}", 3, "unknown filter 'yamll': did you mean 'yaml'?"),
        ("{{ x is qqqqqqq }}", 1, "unknown test 'qqqqqqq'"),
        ("a\n{% include data.x %}", 2, "must be written out"),
        ("{% include [5] %}", 1, "must be written out"),
        ("#!py\ndef run(): pass", 1, "the renderer 'py' is not known"),
    ],
)
def test_what_is_refused_when_it_is_read(templates, text, line, problem):
    """Before any event arrives."""
    with pytest.raises(RuleError) as caught:
        templates.references(text, ROOT)
    assert (caught.value.file, caught.value.line) == (ROOT, line)
    assert problem in str(caught.value)


def test_references(templates):
    """Every way to name another template, and whether it must be there."""
    text = (
        "#!jinja|yaml\n{% include 'a' %}\n{% include 'b' ignore missing %}\n{% include ['c'] %}\n"
        "{% import 'd' as d %}{% from 'e' import f %}{% extends 'g' %}"
    )
    found = set(templates.references(text, ROOT))
    assert found == {
        Reference("a", 2, required=True),
        Reference("b", 3, required=False),
        Reference("c", 4, required=False),
        Reference("d", 5, required=True),
        Reference("e", 5, required=True),
        Reference("g", 5, required=True),
    }


def test_data_in_a_template(templates):
    """Salt's tags: what a text says, rendered first, in place or from a file."""
    text = (
        "{% load_yaml as a %}\nb: [{{ n }}, x]\n{% endload %}{% load_json as j %}[1, 2]{% endload %}"
        "{% import_yaml 'f' as f %}{% import_json 'f' as g %}{% import_text 'f' as t %}"
        "{% load_text as u %}{{ n }}{% endload %}"
        "{{ a.b[0] + 1 }} {{ j[1] }} {{ f.c }} {{ g.c }} {{ t }} {{ u ~ '' }}"
    )
    assert templates.references("{% import_yaml 'f' as x %}", ROOT) == (
        Reference("f", 1, required=True),
    )
    links = {(ROOT, "f"): "/r/f"}
    told = _render(templates, text, {"/r/f": '{"c": "{{ n }}"}'}, links, n=5)
    assert told == '6 2 5 5 {"c": "5"} 5'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{% load_yaml as x %}a: [{% endload %}", "load_yaml: "),
        ("{% load_json as x %}{ {% endload %}", "load_json: no JSON"),
    ],
)
def test_data_that_cannot_be_read_is_said(templates, text, problem):
    """With the line of the tag."""
    with pytest.raises(RuleError, match=problem) as caught:
        _render(templates, text)
    assert caught.value.line == 1


def test_includes_go_by_their_links(templates):
    """The same name can mean two files in two folders."""
    text = "{% include 'x' %}{% from 'm' import hello %}{{ hello('you') }}"
    others = {
        "/r/x": "one {% include 'x' %}",
        "/s/x": "two ",
        "/r/m": "{% macro hello(a) %}hello {{ a }}{% endmacro %}",
    }
    links = {(ROOT, "x"): "/r/x", ("/r/x", "x"): "/s/x", (ROOT, "m"): "/r/m"}
    assert _render(templates, text, others, links) == "one two hello you"


def test_an_error_in_an_include_names_the_include(templates):
    """The file and line where it happened, not where it was included."""
    with pytest.raises(RuleError) as caught:
        _render(
            templates,
            "{% include 'x' %}",
            {"/r/x": "\n{{ data.a }}"},
            {(ROOT, "x"): "/r/x"},
            data={},
        )
    assert (caught.value.file, caught.value.line) == ("/r/x", 2)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("\n{{ data.zz }}", 2, "has no attribute 'zz'"),
        ("\n{{ grains }}", 2, "'grains' is undefined"),
        ("\n{{ 'a' * 10**9 }}", 2, "at most 1048576"),
        ("{% for i in range(90000) %}aaaaaaaaaaaaaaaaaaaa{% endfor %}", 0, "renders to more than"),
        ("{% include 'gone' %}", 1, "gone"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", 1, "RecursionError"),
        ("\n{{ salt['x.y']() }}", 2, "there is no function 'x.y': did you mean 'x.z'?"),
        ("{{ salt.x.z(1, 2) }}", 1, "TypeError"),
        ("{{ salt._functions }}", 1, "unsafe"),
    ],
)
def test_what_fails_for_an_event(templates, text, line, problem):
    """Every error has the file, and the line where there is one."""
    salt = SaltFunctions({"x.z": len})
    with pytest.raises(RuleError) as caught:
        _render(templates, text, data={}, salt=salt)
    assert (caught.value.file, caught.value.line) == (ROOT, line)
    assert problem in str(caught.value)


def test_a_syntax_that_only_the_compiler_refuses(templates):
    """It is an error with its line as well."""
    with pytest.raises(RuleError) as caught:
        _render(templates, "\n{% block a %}{% endblock %}{% block a %}{% endblock %}")
    assert caught.value.line == 2


def test_functions_of_the_master():
    """Both ways to write a function, and the question whether there is one."""
    templates = Templates()
    functions = SaltFunctions({"x.z": lambda text, up=False: text.upper() if up else text})
    text = "{{ salt['x.z']('a', up=true) }}{{ salt.x.z('b') }}{{ 'x.z' in salt }}{{ 'q' in salt }}"
    assert _render(templates, text, salt=functions) == "AbTrueFalse"


def test_extensions_and_filters_of_salt(templates):
    """do, break and continue, and the yaml filter."""
    text = "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert _render(templates, text) == "1"
    assert (
        _render(templates, "{% do data.get('a') %}{{ data|yaml }}", data={"a": [1]}) == "{a: [1]}"
    )
    assert _render(templates, "{{ [] is list }}") == "True"


class _Lazy(Mapping):
    """Functions that know their names only when asked, as the loader's."""

    def __getitem__(self, name):
        if name != "test.ping":
            raise KeyError(name)
        return lambda: True

    def __iter__(self):
        return iter(["test.ping"])

    def __len__(self):
        return 1


def test_functions_that_are_loaded_when_asked_for(templates):
    """Looked up by name, so that a module is loaded when a template needs it."""
    salt = SaltFunctions(_Lazy())
    text = "{{ salt['test.ping']() }} {{ salt.test.ping() }}"
    assert _render(templates, text, salt=salt) == "True True"
    with pytest.raises(RuleError, match=r"no function 'test.pin': did you mean 'test.ping'"):
        _render(templates, "{{ salt['test.pin']() }}", salt=salt)


def test_a_template_may_change_lists_and_mappings_of_its_own(templates):
    """Salt's idiom works, and what other rules see of the event stays as it is."""
    data = {"names": ["a"], "more": {}}
    text = (
        "{% set found = [] %}{% for n in data['names'] %}{% do found.append(n) %}{% endfor %}"
        "{% do data['names'].extend(['b']) %}{% do data.more.update({'x': 1}) %}"
        "{{ found }} {{ data }}"
    )
    assert _render(templates, text, data=data) == "['a'] {'names': ['a', 'b'], 'more': {'x': 1}}"
    assert data == {"names": ["a"], "more": {}}


def test_a_list_that_doubles_itself_is_stopped(templates):
    """Changing a list makes none that is larger than any other value."""
    text = "{% set l = [1] %}{% for _ in range(60) %}{% do l.extend(l) %}{% endfor %}"
    with pytest.raises(RuleError, match="at most 1048576 are allowed"):
        _render(templates, text)


def test_what_a_template_uses(templates):
    """Names and functions that it cannot do without, each with its line."""
    text = (
        "{{ grains.os }}\n{% if pillar is defined %}{{ pillar.a }}{% endif %}\n{{ salt['a.b']() }}"
    )
    uses = templates.uses(text + "{{ salt.c.d(tag) }}", ROOT)
    assert uses.unknown == (("grains", 1),)
    assert uses.functions == (("a.b", 3), ("c.d", 3))
    with pytest.raises(RuleError, match="has no attribute 'id'"):
        templates.uses("{{ 'x'['id'] ~ 'y' }}", ROOT)
