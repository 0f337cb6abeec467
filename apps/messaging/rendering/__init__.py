"""Template and variables to content: title, body and nested data.

Source: specification 001, "템플릿 엔진 구현". What a template author may write and what comes out:

- `templates`: the three sources, compiled once and rendered per recipient
- `segments`: plain placeholders, the fast path of most messages
- `logic`: `{% if %}`, `{% for %}`, filters, tests and comments, by minijinja
- `guard`: what a source with logic may not hold
- `html_context`: where in HTML a value stands, and what is made of it there
- `html_templates`: that, for the values of a template
- `filters`: every filter and test there is
- `values`: what variables may hold and how they are printed
- `budget`: how much one render may do
- `errors`: the two exceptions
"""

from apps.messaging.rendering.errors import RenderError, TemplateSyntaxError
from apps.messaging.rendering.filters import FILTERS, TESTS
from apps.messaging.rendering.templates import MAX_SOURCE_CHARS, CompiledTemplate, Rendered, compile_template

__all__ = [
    "FILTERS",
    "MAX_SOURCE_CHARS",
    "TESTS",
    "CompiledTemplate",
    "RenderError",
    "Rendered",
    "TemplateSyntaxError",
    "compile_template",
]
