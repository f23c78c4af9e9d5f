"""What templates and expressions may not do: get out, grow without bound, or never end."""

from __future__ import annotations

import pytest

from bus import regexes
from reactor.errors import RuleError
from reactor.rules.regexes import Regex, RegexError
from reactor.rules.templates import SaltFunctions
from tests.unit.reactor.rules.rule_tools import Core, errors_of, salt_file

NESTED = (
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
)
NESTED += "{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
BIG = "{% set big = 'a' * 1000000 %}"


def _render(folder, text, **data):
    file = salt_file(folder, text)
    functions = SaltFunctions({"test.echo": lambda value: value})
    values = {"tag": "x", "data": data, "payload": data, "salt": functions}
    return "".join(file._template.pieces(values))


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr(['__cl', 'ass__']|join) }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ '{0.__init__.__globals__}'.format(cycler('a')) }}",
    "{{ cycler('a').__init__.__globals__ }}",
    "{{ joiner().__init__.__globals__ }}",
    "{{ namespace().__init__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum(n=10**9) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{% for i in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{{ dict.__base__ }}",
    "{{ dict.mro() }}",
    "{{ salt['test.echo'].__globals__ }}",
    "{{ salt._functions }}",
    "{{ ['', 'a']|sort(attribute='__class__') }}",
    "{{ ['', 'a']|sum(attribute='__class__') }}",
    "{{ ['']|selectattr('__class__')|list }}",
    "{{ (range(3)|map('string')).gi_frame.f_globals }}",
    "{{ config }}",
]

LARGE = [
    "{{ range(10**12)|list }}",
    "{{ 'a' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ (((9**999)**999)**999)**999 }}",
    BIG + "{{ [big, big, big]|join(big) }}",
    BIG + "{{ big.join(['']*1000) }}",
    BIG + "{{ big.join([1, 2]|map('string')) }}",
    BIG + "{{ '{0}{0}{0}'.format(big) }}",
    BIG + "{{ ('{0}' * 300000).format(big) }}",
    BIG + "{{ ('%(a)s' * 200000) % {'a': big} }}",
    BIG + "{{ big.translate({97: big}) }}",
    BIG + "{{ big|wordwrap(1, wrapstring=big) }}",
    BIG + "{{ big|indent(big) }}",
    "{{ ('a\\n' * 500000)|indent(1000000) }}",
    "{{ ('\\t' * 1000000).expandtabs(1000) }}",
    "{{ ('é' * 1000000).encode('idna') }}",
    BIG + "{{ big|regex_replace('a', big) }}",
    "{{ 1.5|round(10**6, 'ceil') }}",
    "{{ (range(99999)|list)|pprint }}",
    "{{ ([[1] * 100000] * 10000)|sum(start=[]) }}",
    NESTED + "{{ ns.a }}",
    NESTED + "{{ ns.a ~ '' }}",
    NESTED + "{{ ns.a|json }}",
    NESTED + "{{ ns.a|yaml }}",
    NESTED + "{{ ns.a|pprint }}",
    NESTED + "{{ ns.a|string }}",
    NESTED + "{{ ns.a == ns.b }}",
    NESTED + "{{ ns.a in [ns.b] }}",
    NESTED + "{{ ns.a is eq(ns.b) }}",
    NESTED + "{{ [ns.a, ns.b]|sort }}",
    NESTED + "{{ [ns.a].index(ns.b) }}",
    NESTED + "{{ '%s' % [ns.a] }}",
    NESTED + "{{ '{}'.format(ns.a) }}",
    NESTED + "{{ salt['test.echo'](ns.a) }}",
    NESTED.replace("[1]", "(1,)").replace("[ns.a, ns.a]", "(ns.a, ns.a)") + "{{ {ns.a: 1} }}",
    "{% set d = {} %}{% for x in range(9000) %}{% do d.update({x: 'y' * 1000000}) %}{% endfor %}",
    "{% set a = [1] %}{% for x in range(100) %}{% do a.extend(a) %}{% endfor %}",
]

ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set a = [1] %}{% for x in a %}{% do a.append(x) %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% for i in [1, 1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% set a = [] %}{% set b = [] %}{% do a.append(b) %}{% do b.append(a) %}{{ a == b }}",
    "{% for a in range(90000) %}{% set x = range(99999)|list|sort(reverse=true) %}{% endfor %}",
    "{% for a in range(90000) %}{% set x = ('a' * 700000)|base64_encode|sha512 %}{% endfor %}",
    "{{ ('a' * 60 ~ '!')|regex_search('(a|aa)+$') }}",
    "{{ 'a'|regex_match('(((a{1000}){1000}){1000}){1000}') }}",
]


@pytest.mark.parametrize("text", ESCAPES + LARGE + ENDLESS)
def test_it_ends_in_an_error(tmp_path, text):
    """Of the one rule, soon, and with little memory: the test run itself would not survive it."""
    with pytest.raises(RuleError):
        _render(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ['']|map(attribute='__class__')|list }}",
        "{{ ['']|map('attr', '__class__')|list }}",
        "{{ ['']|groupby('__class__') }}",
    ],
)
def test_what_is_private_is_undefined(tmp_path, text):
    """Where Jinja gives something undefined in place of an error."""
    assert "Undefined" in _render(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("{{ data|json }}", '{"list": [1, 2, 3], "s": "web1"}'),
        ("{% for x in data['list'] %}{{ x }}{% endfor %}", "123"),
        ("{{ data['list'] == [1, 2, 3] }}", "True"),
        ("{{ data['list'] == data['list'] and data['s'] in ['a', data['s']] }}", "True"),
        ("{{ (1, data['s']) }}", "(1, 'web1')"),
        ("{{ 'a b'|wordwrap(1) }}", "a\nb"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{{ 'a{}b{}'.format(1, data['s']) }}", "a1bweb1"),
        ("{{ '%s-%s' % (1, data['s']) }}", "1-web1"),
        ("{{ 'é'.encode('utf-8')|base64_encode }}", "w6k="),
        ("{{ 2.5|round(1) }}", "2.5"),
        ("{{ data['list']|map('string')|join(', ') }}", "1, 2, 3"),
        ("{{ data['list']|sort(reverse=true)|first }}", "3"),
        ("{{ 'x' is eq('x') and data['list'] is sequence }}", "True"),
        ("{{ data['s']|regex_replace('([0-9])', '-\\\\1-') }}", "web-1-"),
        ("{{ salt['test.echo'](data['list'])|length }}", "3"),
        (
            "{% set a = [] %}{% for x in range(300) %}{% do a.append(x) %}{% endfor %}{{ a|sum }}",
            "44850",
        ),
    ],
)
def test_ordinary_things_work(tmp_path, text, given):
    """Whatever stands guard."""
    assert _render(tmp_path, text, list=[1, 2, 3], s="web1") == given


def test_one_rendering_is_not_charged_for_another(tmp_path):
    """Each may make as much as the limit says."""
    text = "{% for i in range(10) %}{% set x = 'a' * 1000000 %}{% endfor %}ok"
    file = salt_file(tmp_path, text)
    assert [file._template.render({"data": {}}) for _ in range(5)] == ["ok"] * 5


VARS = "\n".join(f"    v{n}: '{{{{ [vars.v{n - 1}, vars.v{n - 1}] }}}}'" for n in range(1, 60))


def test_vars_that_double_are_an_error_of_their_rule():
    """Native rules have no loops, but sixty lines do."""
    core = Core(
        f"r:\n  on: x\n  vars:\n    v0: '{{{{ [data.n] }}}}'\n{VARS}\n"
        "  do: [{event: y, data: {v: '{{ vars.v59 }}'}}]\ns:\n  on: x\n  do: [{event: z}]\n"
    )
    first, second = core.feed(0, "x", n=1)
    assert "vars.v59 is undefined" in first.error
    assert second.acts


class TestRegularExpressions:
    """The expression is a rule's, and the text anybody's."""

    TEXT = "a" * 60 + "!"

    def test_a_condition_that_takes_too_long_is_an_error_of_its_rule(self):
        """And of no other."""
        core = Core(
            "r:\n  on: x\n  when: data.t|regex_match('(a|aa)+$')\n  do: [{event: y}]\n"
            "s:\n  on: x\n  do: [{event: z}]\n"
        )
        first, second = core.feed(0, "x", t=self.TEXT)
        assert "takes too long for this text" in first.error
        assert second.acts
        assert core.feed(1, "x", t="aaa")[0].acts

    def test_a_tag_that_takes_too_long_is_an_error_of_its_rule(self):
        """A tag is what its sender likes."""
        core = Core("r:\n  on: '(a|aa)+$'\n  match: regex\n  do: [{event: y}]\n")
        [found] = core.feed(0, self.TEXT)
        assert "takes too long for this text" in found.error
        assert core.acts(1, "aaa")

    def test_what_is_no_expression_is_refused_when_the_file_is_read(self):
        """With its place."""
        [error] = errors_of("r:\n  on: '(a'\n  match: regex\n  do: [{event: y}]\n")
        assert error.startswith("r.yaml:2: r.on: '(a' is no regular expression")

    @pytest.mark.parametrize(
        "pattern",
        [
            r"web-(\d{1,3})\.(?P<zone>[a-z]{2,10})(?=\.)",
            r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
            r"([0-9a-f]{64} ){4}",
            r"(a)(?:b|c){1000}\1",
            r"[]{}]{5}|\{[^]}]*\}",
            r"(?i:x)y*?z++" if hasattr(regexes.re, "NOFLAG") else "x",
        ],
    )
    def test_ordinary_expressions_are_taken(self, pattern):
        """Repeats count as written out, and only within each other multiply."""
        Regex(pattern).search("web-12.eu.example")

    @pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "((a{99}b){99}){99}", "a{200000}"])
    def test_repeats_are_bounded(self, pattern):
        """Written out they would fill the memory before the first match."""
        with pytest.raises(RegexError, match="repeats more than"):
            Regex(pattern)

    def test_nesting_is_bounded(self):
        """An error, whoever finds it."""
        with pytest.raises(RegexError):
            Regex("(?:" * 400 + "a" + ")" * 100)

    def test_groups_are_those_of_python(self):
        """Names and numbers."""
        found = Regex(r"(?P<host>\w+)-(\d+)").match("web-12")
        assert (found["host"], found.groups()) == ("web", ("web", "12"))
        assert Regex("b").match("ab") is None
        assert Regex("x", regexes.re.IGNORECASE).match("X")
