"""What a source with logic may not hold: checked token by token, before minijinja parses it.

Whether the source is well-formed otherwise is minijinja's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from apps.messaging.rendering.errors import TemplateSyntaxError
from apps.messaging.rendering.filters import FILTERS, TESTS

MAX_TAG_TOKENS: Final = 128
"""Stops `((((…` and `not not not …`: minijinja's parser recurses and would end the process."""
MAX_BLOCK_DEPTH: Final = 50
"""Stops `{% if x %}{% if x %}…` likewise. An elif is a level too, as in minijinja's syntax tree."""
MAX_TAG_JOINS: Final = 4
"""Stops `big ~ big ~ big ~ …` in a loop: each `~` or `+` copies all that is left of it."""

_TAG = re.compile(r"\{[{%#]")
_END = {"{{": re.compile(r"[-+]?\}\}"), "{%": re.compile(r"[-+]?%\}")}  # With the sign of whitespace control.
_TOKEN = re.compile(
    r"""\s+ | (?P<string> '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" ) | (?P<number> \d+(?:\.\d+)?(?:[eE][+-]?\d+)? )
    | (?P<name> [^\W\d]\w* ) | (?P<operator> [-+*/%~.,:|()\[\]{}<>=!] )""",
    re.VERBOSE | re.DOTALL,
)
_STATEMENTS = {"if", "elif", "else", "endif", "for", "endfor"}
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "range"}
_REFUSED = {
    "*": "* is not available; write {{ price|times(2) }}",  # 'a' * 10**9 is a gigabyte.
    "{": "object literals are not available",  # Their braces would hide the end of the tag.
    "}": "object literals are not available",
    "recursive": "recursive loops are not available",  # A template that calls itself.
}
_ONE_VALUE = {
    "variable", "attribute", "string", "number", "filter", "true", "false", "none", "range", "True", "False", "None",
    ".", "|", "(", ")", "[", "]",
}  # fmt: skip
"""What an expression consists of, outside of brackets, whose last filter is about all of it."""
_NOT_CALLABLE = {"variable", "attribute", "string", "number", ")", "]"}


class _Token(NamedTuple):
    role: str
    """string, number, variable, attribute, filter or test; else the text itself: a word or an operator."""
    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Block:
    word: str
    start: int = 0
    """Of a loop: where what it runs over starts and ends, and the characters of its own text."""
    end: int = 0
    chars: int = 0


class Tag(NamedTuple):
    """A tag of a source that may be compiled."""

    opening: str
    """`{{`, `{%` or `{#`."""
    start: int
    end: int
    tokens: Sequence[_Token]
    """Of what stands in it, the closing one last; none of a comment."""

    @property
    def expression(self) -> tuple[int, int]:
        """Of `{{ … }}`: where it starts and ends."""
        return self.tokens[0].start, self.tokens[-2].end if len(self.tokens) > 1 else self.tokens[0].start

    @property
    def last_filter(self) -> str:
        """The filter that the whole expression goes through last; empty if that is none, or may be about a part."""
        inner, depth = [], 0
        for token in self.tokens[:-1]:
            depth -= token.role in (")", "]")
            if not depth:
                inner.append(token)
            depth += token.role in ("(", "[")
        if not {token.role for token in inner} <= _ONE_VALUE:
            return ""
        last = [token for token in inner if token.role not in ("(", ")", "[", "]")][-1:]
        return last[0].text if last and last[0].role == "filter" else ""


def guarded(
    source: str, field: str, filters: Callable[[str, str, Sequence[Tag]], Mapping[int, str]] | None = None
) -> str:
    """`source` with the filter `_loop` and the length of the loop's own text around what each loop runs over, and
    around each value the filter that `filters` names for it, by where its tag starts.

    Raises TemplateSyntaxError.
    """
    guard = _Guard(source, field)
    edits = [(loop.start, loop.end, f"({source[loop.start : loop.end]})|_loop({loop.chars})") for loop in guard.loops]
    if filters is not None:
        names = filters(source, field, guard.tags)
        for tag in guard.tags:
            if tag.start in names:
                start, end = tag.expression
                edits.append((start, end, f"({source[start:end]})|{names[tag.start]}"))
    position, pieces = 0, []
    for start, end, text in sorted(edits):
        pieces += [source[position:start], text]
        position = end
    return "".join(pieces) + source[position:]


class _Guard:
    def __init__(self, source: str, field: str) -> None:
        self._source = source
        self._field = field
        self._open: list[_Block] = []
        self.loops: list[_Block] = []
        self.tags: list[Tag] = []
        position = 0
        while tag := _TAG.search(source, position):
            for block in self._open:
                block.chars += tag.start() - position
            if tag.group() == "{#":
                position = source.find("#}", tag.end()) + 2
                if position == 1:
                    self._refuse(tag.start(), "the comment does not end")
                self.tags.append(Tag("{#", tag.start(), position, ()))
                continue
            tokens = self._tokens(tag.end(), tag.group())
            position = tokens[-1].end
            self.tags.append(Tag(tag.group(), tag.start(), position, tokens))
            if tag.group() == "{%":
                self._statement(tokens)

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise TemplateSyntaxError(self._field, message, source=self._source, position=position)

    def _tokens(self, position: int, opening: str) -> list[_Token]:
        """The tokens of a tag, checked; the last one closes it."""
        tokens: list[_Token] = []
        position += self._source.startswith(("-", "+"), position)  # Whitespace control.
        before, joins = _Token(opening, opening, position, position), 0
        while not (closed := _END[opening].match(self._source, position)):
            match = _TOKEN.match(self._source, position)
            if match is None:
                rest = self._source[position : position + 1]
                self._refuse(position, f"unexpected {rest}" if rest else "the tag does not end")
            position = match.end()
            if match.lastgroup:
                role = _role(match.lastgroup, match.group(), before.role)
                token = _Token(role, match.group(), match.start(), position)
                self._check(token, before)
                joins += role in ("~", "+")
                if joins > MAX_TAG_JOINS or len(tokens) >= MAX_TAG_TOKENS:
                    self._refuse(token.start, f"over {MAX_TAG_TOKENS} words or {MAX_TAG_JOINS} joined values in a tag")
                tokens.append(token)
                before = token
        tokens.append(_Token("end", closed.group(), position, closed.end()))
        self._check(tokens[-1], before)
        return tokens

    def _check(self, token: _Token, before: _Token) -> None:
        if before.role == "{%" and token.text not in _STATEMENTS:
            self._refuse(token.start, f"{token.text} is not available")
        if token.role in _REFUSED:
            self._refuse(token.start, _REFUSED[token.role])
        if before.role == "range" and token.role != "(":
            self._refuse(before.start, "range is written range(10)")
        if token.role == "(" and before.role in _NOT_CALLABLE:
            self._refuse(before.start, f"{before.text} cannot be called")
        if token.role == "filter" and token.text not in FILTERS:
            self._refuse(token.start, f"unknown filter {token.text}")
        if token.role == "test" and token.text not in TESTS:
            self._refuse(token.start, f"unknown test {token.text}")
        if token.text.startswith("__"):
            self._refuse(token.start, "names do not start with two underscores")

    def _statement(self, tokens: list[_Token]) -> None:
        word = tokens[0].text
        if word in ("if", "elif"):
            self._open.append(_Block(word))
        elif word == "for":
            self._open.append(self._loop(tokens))
            self.loops.append(self._open[-1])
        elif word in ("endif", "endfor"):
            while self._open and self._open.pop().word == "elif":
                pass
        if len(self._open) > MAX_BLOCK_DEPTH:
            self._refuse(tokens[0].start, f"nested deeper than {MAX_BLOCK_DEPTH} blocks")

    def _loop(self, tokens: list[_Token]) -> _Block:
        """`for target in iterable [if condition]`."""
        roles = [token.role for token in tokens]
        first = last = roles.index("in") + 1 if "in" in roles else len(roles) - 1
        depth = 0
        while roles[last] != "end" and (depth or roles[last] != "if"):
            depth += (roles[last] in ("(", "[")) - (roles[last] in (")", "]"))
            last += 1
        if first == last:
            self._refuse(tokens[0].start, "a loop is written {% for name in variable %}")
        return _Block("for", tokens[first].start, tokens[last - 1].end)


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
    return text if text in _WORDS or text in _REFUSED else "variable"
