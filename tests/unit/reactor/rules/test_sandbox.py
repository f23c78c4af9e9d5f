"""Nothing large can be made in the sandbox, and nothing outside it reached."""

import pytest
from jinja2.exceptions import SecurityError, TemplateError

from reactor.rules.sandbox import MAX_STEPS, Sandbox, concat


@pytest.fixture
def sandbox():
    """A sandbox as templates have it."""
    return Sandbox(extensions=["jinja2.ext.do"])


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**8 }}",
        "{{ 10**8 * 'a' }}",
        "{{ [0] * 10**8 }}",
        "{{ 10**9999999 }}",
        "{% set x = 2**60000 %}{{ x * x * x }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 99999999) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ (1).to_bytes(10**9, 'big') }}",
        "{{ 'a'|center(10**9) }}",
        "{{ 'a'|indent(10**9) }}",
        "{{ [1]|batch(10**9, 'x')|list }}",
        "{{ '%99999999d'|format(1) }}",
        "{% set big = 'a' * 10**6 %}{{ big.replace('a', big) }}",
        "{% set big = 'a' * 10**6 %}{{ big|replace('a', big) }}",
        "{% set big = 'a' * 10**6 %}{{ big.join(['x'] * 1000) }}",
        "{% set big = 'a' * 10**6 %}{{ (['x'] * 1000)|join(big) }}",
        "{% set big = 'a' * 10**6 %}{{ big + big }}",
        "{% set big = 'a' * 10**6 %}{% set out = big ~ big %}",
        (
            "{% set ns = namespace(x='a' * 99) %}"
            "{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
        ),
    ],
)
def test_large_values_are_refused(sandbox, text):
    """What grows without bound ends in an error, not in the memory."""
    sandbox.begin()
    with pytest.raises(SecurityError):
        sandbox.from_string(text).render()


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{% endmacro %}{% for a in range(60000) %}{% do m() %}{% endfor %}",
    ],
)
def test_loops_end(sandbox, text):
    """Loops and macros are counted together."""
    sandbox.begin()
    with pytest.raises(SecurityError, match=f"more than {MAX_STEPS} rounds"):
        sandbox.from_string(text).render()


def test_a_rendering_begins_at_nothing(sandbox):
    """What one rendering counted is not held against the next."""
    template = sandbox.from_string("{% for a in range(60000) %}{% endfor %}x")
    for _ in range(3):
        sandbox.begin()
        assert template.render() == "x"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x.append(1) }}",
        "{{ y.update({}) }}",
        "{{ lipsum(n=1000) }}",
        "{{ range(10**9) }}",
    ],
)
def test_there_is_no_way_out(sandbox, text):
    """No private attribute, no change of data, no endless range."""
    with pytest.raises((TemplateError, OverflowError)):
        sandbox.from_string(text).render(x=[], y={})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ 'ab' * 2 }}", "abab"),
        ("{{ 2 ** 10 }}", "1024"),
        ("{{ 2 * 3 }}", "6"),
        ("{{ 2 * 'x' }}", "xx"),
        ("{{ 1.5 * 2 }}", "3.0"),
        ("{{ 7 % 4 }}", "3"),
        ("{{ '%05d' % 4 }}", "00004"),
        ("{{ 'a' ~ 1 ~ none }}", "a1None"),
        ("{{ '{}-{}'.format(1, 2) }}", "1-2"),
        ("{{ [1] + [2] }}", "[1, 2]"),
        ("{{ 'abc'.replace('b', 'x') }}", "axc"),
        ("{{ ','.join(['a', 'b']) }}", "a,b"),
        ("{{ 'a'|center(5) }}", "  a  "),
        ("{{ 'aXb'|replace('X', '-') }}", "a-b"),
        ("{{ [1, 2]|join(',') }}", "1,2"),
    ],
)
def test_ordinary_things_work(sandbox, text, value):
    """The guards do not change what small values give."""
    assert sandbox.from_string(text).render() == value


def test_concat_is_bounded():
    """The join behind ``~`` looks at the size first."""
    with pytest.raises(SecurityError):
        concat(["a" * 600_000, "b" * 600_000])


def test_unsafe_functions_are_not_called(sandbox):
    """A function marked unsafe stays uncalled."""

    def danger():
        raise AssertionError

    danger.unsafe_callable = True
    with pytest.raises(SecurityError):
        sandbox.from_string("{{ f() }}").render(f=danger)
