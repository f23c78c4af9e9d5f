"""Expressions as closures give what Jinja gives, and say clearly what they refuse."""

import pytest
from jinja2.exceptions import SecurityError, UndefinedError

from reactor.rules.expressions import Compiler, ExpressionError, describe
from reactor.rules.sandbox import Sandbox

DATA = {
    "fun": "x",
    "ret": False,
    "n": [1, 2, 3],
    "items": 7,
    "m": {"a": 1, "b c": 2},
    "id": "web1",
    5: "five",
}
VALUES = {"data": DATA, "tag": "a/b", "payload": {}, "event": None}


@pytest.fixture(scope="module")
def strict():
    """A compiler as values have it."""
    return Compiler()


@pytest.fixture(scope="module")
def lenient():
    """A compiler as conditions have it."""
    return Compiler(lenient=True)


@pytest.mark.parametrize(
    "text",
    [
        "data.fun == 'x' and not data.ret",
        "data.ret or tag",
        "data.n[1:] + [4]",
        "data.n[::-1]",
        "data.n[:-1]",
        "data.n|map('string')|join('-')",
        "data.n|select('odd')|list",
        "data.n|length > 2 and data.fun is string",
        "data.fun is not number",
        "data.n is divisibleby(3) if data.n is number else 'no'",
        "tag.split('/')[0] ~ 1 ~ '!'",
        "data['m']['b c']",
        "data[5]",
        "data.n[0 + 1]",
        "1 < 2 < 3",
        "1 < 2 > 3",
        "1 != 2 and 2 >= 2 and 1 <= 2",
        "2 in data.n",
        "9 not in data.n",
        "'x' if data.ret else 'y'",
        "{'a': data.n[-1], tag: 1}",
        "(1, data.id)",
        "-data.n[0]",
        "+data.n[0]",
        "7 // 2 - 1 * 3 / 2 % 4 ** 2",
        "data.fun.upper()",
        "data.get('zz', 3)",
        "data.m.items()|list",
        "range(3)|list",
        "dict(a=1)",
        "data.zz is defined",
        "data.zz|default('none')",
        "data.id.replace('w', 'v', 1)",
        "data.n|sort(reverse=true)",
        "'%s' % 3",
        "true and none is none",
    ],
)
def test_it_gives_what_jinja_gives(strict, text):
    """The same value as Jinja's own compiled expression."""
    jinja = Sandbox().compile_expression(text)
    expected = jinja(**VALUES)
    assert strict.expression(text).evaluate(VALUES) == expected


def test_data_is_not_hidden_by_methods(strict):
    """A key named as a dict's method is found; a method that is called is the method."""
    assert strict.expression("data.items").evaluate(VALUES) == 7
    hostile = {"data": {"get": 1, "a": 2}}
    assert strict.expression("data.get('a')").evaluate(hostile) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dta.id", "unknown name 'dta': did you mean 'data'"),
        ("salt['x.y']()", "unknown name 'salt': there are data, event, payload, tag"),
        ("lipsum()", "unknown name 'lipsum'"),
        ("data.", "expected name or number"),
        ("", "Expected an expression"),
        ("{{ data.x }}", "without {{ }}"),
        ("data.x }} {{", "without {{ }}"),
        ("data.x }} x", "is not one expression"),
        ("data|lenght", "unknown filter 'lenght': did you mean 'length'"),
        ("data is defned", "unknown test 'defned': did you mean 'defined'"),
        ("data|qqqqqqqq", "unknown filter 'qqqqqqqq'"),
        ("1 if tag", "needs its 'else'"),
        ("data.get(*tag)", "cannot stand in a call"),
    ],
)
def test_what_cannot_be_compiled(strict, text, problem):
    """Each error says what is wrong, and the nearest right name."""
    with pytest.raises(ExpressionError, match=problem.replace("(", r"\(").replace("[", r"\[")):
        strict.expression(text)


@pytest.mark.parametrize(
    "text", ["'a' * 10**8", "2**99999", "'x'.ljust(10**9)", "data.n.append(1)", "data.clear()"]
)
def test_the_sandbox_holds(strict, text):
    """Large values and changes of data are refused as in templates."""
    with pytest.raises(SecurityError):
        strict.expression(text).evaluate(VALUES)


def test_private_attributes_are_undefined(strict):
    """What begins with an underscore is not there, and cannot be used."""
    with pytest.raises(SecurityError):
        str(strict.expression("''.__class__").evaluate(VALUES))


def test_undefined_values(strict, lenient):
    """Strict: an error on use. Lenient: chains go on and are false."""
    with pytest.raises(UndefinedError):
        strict.expression("data.a.b").evaluate(VALUES)
    assert not lenient.expression("data.a.b['c'].d").evaluate(VALUES)
    assert lenient.expression("data.a.b == 1").evaluate(VALUES) is False


def test_it_names_the_first_undefined_chain(lenient):
    """People are told which name led to nothing."""
    expression = lenient.expression("data.m.a and data.m.z.y == 1 and data.q")
    assert expression.first_undefined(VALUES) == "data.m.z"
    assert lenient.expression("data.id.upper() == tag").first_undefined(VALUES) == ""
    assert lenient.expression("event.nope").first_undefined({"event": 5}) == "event.nope"
    assert lenient.expression("data.n[0].x").first_undefined(VALUES) == "data.n[0].x"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ data.n }}", [1, 2, 3]),
        ("{{data.m.a}}", 1),
        ("{{ data.n[0] }}", 1),
        ("x {{ data.m.a }} y\n", "x 1 y\n"),
        ("{{ tag }}{{ data.ret }}", "a/bFalse"),
        ("{# said #}x", "x"),
        ("{# said #}", ""),
        ("{{- tag -}}", "a/b"),
        (" {{ data.n }}", " [1, 2, 3]"),
    ],
)
def test_templates_are_typed_if_they_are_one_expression(strict, text, value):
    """One expression has its own type; anything more is text."""
    assert strict.template(text).evaluate(VALUES) == value


@pytest.mark.parametrize("text", ["{% if tag %}x{% endif %}", "a {% set x = 1 %}"])
def test_statements_are_no_templates(strict, text):
    """Values have expressions only."""
    with pytest.raises(ExpressionError, match="cannot stand in a value"):
        strict.template(text)


def test_broken_templates_say_where(strict):
    """The text itself is in the error."""
    with pytest.raises(ExpressionError, match=r"in '\{\{ tag'"):
        strict.template("{{ tag")


def test_an_expression_is_compiled_once(strict):
    """The same text in a thousand files costs once."""
    assert strict.template("{{ data.id }}") is strict.template("{{ data.id }}")
    assert strict.expression("data.id") is strict.expression("data.id")


def test_every_error_reads_as_one_line():
    """Jinja's errors by their message, others with their kind."""
    assert describe(UndefinedError("x is undefined")) == "x is undefined"
    assert describe(ValueError("no number")) == "ValueError: no number"


def test_a_broken_condition_is_shown_as_it_was_written():
    """Without the marks that the compiler puts around it."""
    with pytest.raises(ExpressionError, match=r"in 'data\.x =='$"):
        Compiler().expression("data.x ==")
