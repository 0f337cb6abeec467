"""What goes wrong with a template, and with the variables it is given."""

from __future__ import annotations


class TemplateSyntaxError(ValueError):
    """A template source that cannot be used, found when it is compiled.

    `field` is `title_template`, `body_template` or a place in the data such as
    `data_template.buttons[0].label`; `line` and `column` count from 1, in characters.
    """

    def __init__(self, field: str, message: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{field}, line {line}, column {column}: {message}")
        self.field = field
        self.message = message
        self.line = line
        self.column = column

    @classmethod
    def at(cls, position: int, source: str, field: str, message: str) -> TemplateSyntaxError:
        """The error at a character of `source`, counted from 0."""
        column = position - source.rfind("\n", 0, position)
        return cls(field, message, line=source.count("\n", 0, position) + 1, column=column)


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
    """Raised where the field is not known; whoever knows it raises one of the two above instead.

    `path` leads from the value that was looked at to the refused part of it: `.lines[3].price`.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
