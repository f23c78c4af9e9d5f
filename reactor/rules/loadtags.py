"""Salt's tags for data in templates: ``{% load_yaml as x %}``, ``{% import_yaml "f" as x %}``."""

from __future__ import annotations

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

_FILTERS = {"yaml": "load_yaml", "json": "load_json", "text": ""}
"""What makes a value of a text, by the kind of data; nothing for text itself."""


class LoadTags(Extension):
    """Both are a name that is given what a text says, once it is rendered.

    The text stands in the template, up to ``{% endload %}``, or in a file of its own, which is
    found as one that is included is.
    """

    tags = {  # noqa: RUF012 - Jinja's interface
        f"{word}_{kind}" for word in ("load", "import") for kind in _FILTERS
    }

    def parse(self, parser: Parser) -> nodes.Node:
        """Return what a tag stands for: a block that is assigned, through a filter."""
        token = next(parser.stream)
        word, _, kind = token.value.partition("_")
        body: list[nodes.Node] = []
        if word == "import":
            file = parser.parse_expression()
            body = [nodes.Include(file, True, False, lineno=token.lineno)]
        parser.stream.expect("name:as")
        target = parser.parse_assign_target()
        if word == "load":
            body = parser.parse_statements(("name:endload",), drop_needle=True)
        name = _FILTERS[kind]
        made = nodes.Filter(None, name, [], [], None, None, lineno=token.lineno) if name else None
        return nodes.AssignBlock(target, made, body, lineno=token.lineno)
