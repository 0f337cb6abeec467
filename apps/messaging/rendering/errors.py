"""What goes wrong with a template, and with the variables it is given."""

from __future__ import annotations


class TemplateSyntaxError(ValueError):
    """A template source that cannot be used, found when it is compiled.

    `field` is `title_template`, `body_template` or a place in the data such as
    `data_template.buttons[0].label`; `line` and `column` count from 1, in characters.
    """

    def __init__(self, field: str, message: str, *, source: str = "", position: int = 0) -> None:
        """`position` is a character of `source`, counted from 0."""
        self.field = field
        self.message = message
        self.line = source.count("\n", 0, position) + 1
        self.column = position - source.rfind("\n", 0, position)
        super().__init__(f"{field}, line {self.line}, column {self.column}: {message}")


class RenderError(ValueError):
    """These variables cannot be rendered: a value of a wrong kind, or more work or output than allowed.

    `field` as in `TemplateSyntaxError`; `line` is None where it is not known.
    """

    def __init__(self, field: str, message: str, *, line: int | None = None) -> None:
        super().__init__(f"{field}, line {line}: {message}" if line else f"{field}: {message}")
        self.field = field
        self.message = message
        self.line = line


class Refused(Exception):
    """Raised where the field is not known; who knows it raises one of the two above. `path` leads to the bad value."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path
