"""The full language, by minijinja with nothing in it but what stands here.

A hostile template ends in an error, soon and small: `guard` refuses sources that would overflow minijinja's parser or
make huge values, fuel bounds the instructions, the budget in `values` bounds what they read and write. Variables enter
as JSON whose Python attributes cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import minijinja

from apps.messaging.rendering.errors import Refused, RenderError, TemplateSyntaxError
from apps.messaging.rendering.filters import ENGINE_FILTERS
from apps.messaging.rendering.guard import guarded
from apps.messaging.rendering.html_context import HTML_FILTERS
from apps.messaging.rendering.html_templates import html_filters
from apps.messaging.rendering.values import BlindArray, checked_output, plain, printed, spend

FUEL: Final = 30_000
"""minijinja instructions per render. Stops nested loops; one loop over 1,000 lines of an order fits."""
MAX_RANGE: Final = 10_000
"""Stops `range(10 ** 9)`, a list of gigabytes."""


class Logic:
    """One text with logic."""

    __slots__ = ("_environment", "_field", "_roots", "names")

    names: frozenset[str]

    def __init__(self, source: str, field: str, fuel: int = FUEL, *, is_html: bool = False) -> None:
        """With `is_html`, values are escaped for where they stand. Raises TemplateSyntaxError."""
        metered = guarded(source, field, html_filters if is_html else None)
        environment = new_environment(fuel)
        try:
            environment.add_template("t", source)  # As written, for the places of errors.
            environment.add_template("t", metered)  # What runs: each loop pays first.
        except minijinja.TemplateError as error:
            offset = error.range[0] if error.range else 0
            position = len(source.encode()[:offset].decode(errors="ignore"))  # minijinja counts bytes.
            message = error.detail or error.message
            raise TemplateSyntaxError(field, message, source=source, position=position) from None
        self.names = frozenset(environment.undeclared_variables_in_template("t", nested=True) - {"range"})
        self._environment = environment
        self._field = field
        self._roots = tuple({name.partition(".")[0] for name in self.names})

    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError."""
        try:
            context = {
                root: plain(variables.get(root), root, blind=True)
                for root in self._roots
                # The context is a dict too: without a variable of that name, `{{ keys }}` would find its method.
                if root in variables or hasattr(dict, root)
            }
            return checked_output(self._environment.render_template("t", **context))
        except Refused as error:
            raise RenderError(self._field, str(error)) from None
        except minijinja.TemplateError as error:
            message = "the template runs too long" if error.kind == "OutOfFuel" else error.detail or error.message
            raise RenderError(self._field, message, line=error.line) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            # A filter got arguments it cannot work on.
            raise RenderError(self._field, str(error) or type(error).__name__) from None


def new_environment(fuel: int) -> minijinja.Environment:
    environment = minijinja.Environment(
        fuel=fuel,
        filters=ENGINE_FILTERS | HTML_FILTERS | {"_loop": _loop},
        globals={"range": _range},
        finalizer=_output,
        undefined_behavior="chainable",
        auto_escape_callback=lambda name: False,
        keep_trailing_newline=True,
        pycompat=False,
    )
    for name in ("cycler", "debug", "dict", "joiner", "namespace"):  # A test proves that no other is left.
        environment.remove_global(name)
    return environment


def _output(value: Any) -> str:
    text = printed(value)
    spend(len(text))
    return text


def _loop(value: Any, body_chars: int) -> Any:
    """Put by `guard` around what a loop runs over: pays for the turns and the text of its body before it runs."""
    if value is not None and not isinstance(value, (list, tuple, dict)):
        raise Refused(f"a loop needs a list or an object, not {type(value).__name__}")
    spend(len(value or ()) * (1 + body_chars))
    return value or []


def _range(*bounds: int) -> BlindArray:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise Refused(f"range() over {MAX_RANGE} numbers")
    spend(len(numbers))
    return BlindArray(numbers)
