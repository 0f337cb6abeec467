"""The full language, by minijinja with nothing in it but what stands here.

A hostile template ends in an error, soon and small. `guard` refuses sources that would overflow minijinja's parser or
make huge values; minijinja's fuel bounds instructions; `budget` bounds what loops, filters and output read and write;
`values` bounds what a single instruction can work on. Variables enter as JSON whose Python attributes cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import minijinja

from apps.messaging.rendering.budget import spend
from apps.messaging.rendering.errors import Refused, RenderError, TemplateSyntaxError
from apps.messaging.rendering.filters import ENGINE_FILTERS
from apps.messaging.rendering.guard import guarded
from apps.messaging.rendering.values import BlindArray, BlindObject, JsonCopy, checked_output, kind, printed

FUEL: Final = 20_000
"""minijinja instructions per render, which stops nested loops. A loop over 1,000 lines of an order fits."""
MAX_RANGE: Final = 10_000
"""Stops `range(10 ** 9)`, a list of gigabytes."""

# What minijinja-py registers by itself; a test walks its own list and finds nothing left.
# fmt: off
_FOREIGN_FILTERS = (
    "abs", "attr", "batch", "bool", "chain", "count", "dictsort", "filesizeformat", "float", "format", "groupby",
    "indent", "lines", "list", "map", "max", "min", "pluralize", "pprint", "reject", "rejectattr", "reverse", "safe",
    "select", "selectattr", "slice", "sort", "split", "string", "striptags", "sum", "unique", "wordwrap", "zip",
)
# fmt: on
_FOREIGN_GLOBALS = ("cycler", "debug", "dict", "joiner", "namespace")


class Logic:
    """One text with logic."""

    __slots__ = ("_environment", "_field", "_roots", "names")

    names: frozenset[str]

    def __init__(self, source: str, field: str, fuel: int = FUEL) -> None:
        """Raises TemplateSyntaxError."""
        metered = guarded(source, field)
        environment = new_environment(fuel)
        try:
            environment.add_template("t", source)  # As written, for the places of errors.
            environment.add_template("t", metered)  # What runs: each loop pays first.
        except minijinja.TemplateError as error:
            raise _syntax_error(error, source, field) from None
        self.names = frozenset(environment.undeclared_variables_in_template("t", nested=True) - {"range"})
        self._environment = environment
        self._field = field
        self._roots = tuple({name.partition(".")[0] for name in self.names})

    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError."""
        try:
            text = self._environment.render_template("t", **self._context(variables))
            return checked_output(text)
        except Refused as error:
            raise RenderError(self._field, error.message) from None
        except minijinja.TemplateError as error:
            message = "the template runs too long" if error.kind == "OutOfFuel" else error.detail or error.message
            raise RenderError(self._field, message, line=error.line) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            # A filter got arguments it cannot work on.
            raise RenderError(self._field, str(error) or type(error).__name__) from None

    def _context(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        plain = JsonCopy(BlindObject, BlindArray)
        context: dict[str, Any] = {}
        for root in self._roots:
            # The context is a dict too: without a variable of that name, `{{ keys }}` would find its method.
            if root in variables or hasattr(dict, root):
                try:
                    context[root] = plain.copy(variables.get(root))
                except Refused as error:
                    raise Refused(f"variable {root}{error.path}: {error.message}") from None
        return context


def new_environment(fuel: int) -> minijinja.Environment:
    environment = minijinja.Environment(
        fuel=fuel,
        filters=ENGINE_FILTERS | {"_loop": _loop},
        globals={"range": _range},
        finalizer=_output,
        undefined_behavior="chainable",
        auto_escape_callback=lambda name: False,
        keep_trailing_newline=True,
        pycompat=False,
    )
    for name in _FOREIGN_FILTERS:
        environment.remove_filter(name)
    for name in _FOREIGN_GLOBALS:
        environment.remove_global(name)
    return environment


def _output(value: Any) -> str:
    text = printed(value)
    spend(len(text))
    return text


def _loop(value: Any, body_chars: int) -> Any:
    """Put by `guard` around what a loop runs over: pays for the turns and the text of its body before it runs."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple, dict)):
        raise Refused(f"a loop needs a list or an object, not {kind(value)}")
    spend(len(value) * (1 + body_chars))
    return value


def _range(*bounds: int) -> BlindArray:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise Refused(f"range() over {MAX_RANGE} numbers")
    spend(len(numbers))
    return BlindArray(numbers)


def _syntax_error(error: minijinja.TemplateError, source: str, field: str) -> TemplateSyntaxError:
    message = error.detail or error.message
    if not error.range:
        return TemplateSyntaxError(field, message, line=error.line or 1)
    position = len(source.encode()[: error.range[0]].decode(errors="ignore"))  # minijinja counts bytes.
    return TemplateSyntaxError.at(position, source, field, message)
