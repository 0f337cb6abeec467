"""What a source with logic may not hold: checked token by token, before minijinja parses it.

Whether the source is well-formed otherwise is minijinja's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from apps.messaging.rendering.errors import TemplateSyntaxError
from apps.messaging.rendering.filters import FILTERS, TESTS

MAX_TAG_TOKENS: Final = 128
"""Stops `((((…` and `not not not …`: minijinja's parser recurses and would end the process."""
MAX_BLOCK_DEPTH: Final = 50
"""Stops `{% if x %}{% if x %}…` likewise. An elif is a level too, as in minijinja's syntax tree."""
MAX_TAG_JOINS: Final = 8
"""Stops `big ~ big ~ big ~ …` in a loop: each `~` or `+` copies all that is left of it."""

_TAG = re.compile(r"\{[{%#]")
_TOKEN = re.compile(
    r"""\s+ | (?P<string> '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" ) | (?P<number> \d+(?:\.\d+)?(?:[eE][+-]?\d+)? )
    | (?P<name> [^\W\d]\w* ) | (?P<operator> [-+*/%~.,:|()\[\]{}<>=!] )""",
    re.VERBOSE | re.DOTALL,
)
_STATEMENTS = {"if", "elif", "else", "endif", "for", "endfor"}
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"}
_REFUSED_OPERATORS = {
    "*": "* is not available; write {{ price|times(2) }}",  # 'a' * 10**9 is a gigabyte.
    "{": "object literals are not available",  # Their braces would hide the end of the tag.
    "}": "object literals are not available",
}
_NOT_CALLABLE = {"variable", "attribute", "string", "number", ")", "]"}  # Roles of what stands before a bracket.


class _Token(NamedTuple):
    role: str
    """string, number, variable, attribute, filter, test, or the text itself: a word, range, an operator."""
    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Loop:
    """Where in the source its iterable stands, and the text it prints at each turn."""

    start: int
    end: int
    body_chars: int = 0


def guarded(source: str, field: str) -> str:
    """`source` with the filter `_loop` and the length of the loop's own text around every iterable.

    Raises TemplateSyntaxError.
    """
    return _Walk(source, field).metered()


class _Walk:
    def __init__(self, source: str, field: str) -> None:
        self._source = source
        self._field = field
        self._loops: list[_Loop] = []
        self._open: list[tuple[str, _Loop | None]] = []
        position = 0
        while tag := _TAG.search(source, position):
            self._count_text(tag.start() - position)
            if tag.group() == "{#":
                position = source.find("#}", tag.end()) + 2
                if position == 1:
                    self._refuse(tag.start(), "the comment does not end")
            else:
                tokens, position = self._tokens(tag.end(), "}}" if tag.group() == "{{" else "%}")
                self._check(tokens)
                if tag.group() == "{%":
                    self._statement(tokens, tag.start())

    def metered(self) -> str:
        pieces: list[str] = []
        position = 0
        for loop in self._loops:
            iterable = self._source[loop.start : loop.end]
            pieces += [self._source[position : loop.start], f"({iterable})|_loop({loop.body_chars})"]
            position = loop.end
        return "".join(pieces) + self._source[position:]

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise TemplateSyntaxError.at(position, self._source, self._field, message)

    def _count_text(self, chars: int) -> None:
        """Text between tags belongs to the innermost loop."""
        loop = next((loop for _, loop in reversed(self._open) if loop), None)
        if loop:
            loop.body_chars += chars

    def _tokens(self, position: int, closing: str) -> tuple[list[_Token], int]:
        """The tokens up to `closing`, without the signs of whitespace control, and where the text goes on."""
        tokens: list[_Token] = []
        start = position
        while not self._source.startswith(closing, position):
            match = _TOKEN.match(self._source, position)
            if match is None:
                rest = self._source[position : position + 1]
                self._refuse(position, f"unexpected {rest}" if rest else "the tag does not end")
            position = match.end()
            if match.lastgroup:
                role = _role(match.lastgroup, match.group(), tokens[-1].role if tokens else "")
                tokens.append(_Token(role, match.group(), match.start(), position))
            if len(tokens) > MAX_TAG_TOKENS:
                self._refuse(tokens[0].start, f"a tag of more than {MAX_TAG_TOKENS} words")
        if tokens and tokens[0].start == start and tokens[0].text in "-+":
            tokens = tokens[1:]
        if tokens and tokens[-1].end == position and tokens[-1].text in "-+":
            tokens = tokens[:-1]
        return tokens, position + len(closing)

    def _check(self, tokens: list[_Token]) -> None:
        joins = 0
        before = _Token("", "", 0, 0)
        for token in tokens:
            role = token.role
            if before.role == "range" and role != "(":
                self._refuse(before.start, "range is written range(10)")
            if role in _REFUSED_OPERATORS:
                self._refuse(token.start, _REFUSED_OPERATORS[role])
            if role == "(" and before.role in _NOT_CALLABLE:
                self._refuse(before.start, f"{before.text} cannot be called")
            if role == "filter" and token.text not in FILTERS:
                self._refuse(token.start, f"unknown filter {token.text}")
            if role == "test" and token.text not in TESTS:
                self._refuse(token.start, f"unknown test {token.text}")
            if token.text.startswith("__"):
                self._refuse(token.start, "names do not start with two underscores")
            joins += role in ("~", "+")
            if joins > MAX_TAG_JOINS:
                self._refuse(token.start, f"more than {MAX_TAG_JOINS} joined values; write {{{{ a }}}}{{{{ b }}}}")
            before = token
        if before.role == "range":
            self._refuse(before.start, "range is written range(10)")

    def _statement(self, tokens: list[_Token], start: int) -> None:
        word = tokens[0].text if tokens else ""
        if word not in _STATEMENTS:
            self._refuse(tokens[0].start if tokens else start, f"{word or 'this statement'} is not available")
        if word in ("if", "elif", "for"):
            self._open.append((word, self._loop(tokens) if word == "for" else None))
        if word in ("endif", "endfor"):
            while self._open and self._open.pop()[0] == "elif":
                pass
        if len(self._open) > MAX_BLOCK_DEPTH:
            self._refuse(start, f"nested deeper than {MAX_BLOCK_DEPTH} blocks")

    def _loop(self, tokens: list[_Token]) -> _Loop:
        """`for target in iterable [if condition]`."""
        roles = [token.role for token in tokens]
        first = roles.index("in") + 1 if "in" in roles else len(tokens)
        last = first
        depth = 0
        while last < len(tokens) and (depth or roles[last] != "if"):
            depth += (roles[last] in ("(", "[")) - (roles[last] in (")", "]"))
            last += 1
        if first == last:
            self._refuse(tokens[0].start, "a loop is written {% for name in variable %}")
        if tokens[-1].text == "recursive":  # A template that calls itself.
            self._refuse(tokens[-1].start, "recursive loops are not available")
        loop = _Loop(tokens[first].start, tokens[last - 1].end)
        self._loops.append(loop)
        return loop


def _role(kind: str, text: str, before: str) -> str:
    """What a token is, by the role of the one before it."""
    if kind != "name":
        return text if kind == "operator" else kind
    if before == ".":
        return "attribute"
    if before == "|":
        return "filter"
    if before == "is":
        return "is" if text == "not" else "test"  # `is not` is one word.
    return text if text in _WORDS or text == "range" else "variable"
