"""What an error of the reactor says."""

from reactor.errors import ReactorError, RuleError, path_text


def test_a_rule_error_names_file_line_and_path():
    """The text is one line with everything a person needs to find the place."""
    error = RuleError("data.id is\nundefined", "r.yaml", 4, "restart.do[0]")
    assert str(error) == "r.yaml:4: restart.do[0]: data.id is undefined"
    assert (error.file, error.line, error.path) == ("r.yaml", 4, "restart.do[0]")
    assert isinstance(error, ReactorError)


def test_a_line_of_rendered_text_is_called_so():
    """A line that a template made is not taken for one of the file."""
    error = RuleError("no mapping", "r.sls", 4, rendered=True)
    assert str(error) == "r.sls: line 4 of the rendered file: no mapping"
    assert error.line == 4


def test_what_is_not_known_is_left_out():
    """Without file and path only the problem is said."""
    assert str(RuleError("broken")) == "broken"
    assert str(RuleError("broken", "r.yaml")) == "r.yaml: broken"


def test_paths_read_as_people_write_them():
    """Names with dots between, numbers in brackets."""
    assert path_text(("restart", "do", 0, "args", 1)) == "restart.do[0].args[1]"
