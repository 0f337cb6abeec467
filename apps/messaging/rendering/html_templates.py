"""The values of an HTML template: for each the filter that fits where it stands, or why none does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from apps.messaging.rendering.errors import TemplateSyntaxError
from apps.messaging.rendering.html_context import Misplaced, State, advanced, context_of, escaper, joined

if TYPE_CHECKING:
    from apps.messaging.rendering.guard import Tag


def html_escapers(source: str, field: str, texts: Sequence[str], starts: Sequence[int]) -> list[Callable[[Any], str]]:
    """A function for each plain placeholder: `texts` stand around them, `starts` is where they do.

    Raises TemplateSyntaxError.
    """
    walk = _Walk(source, field)
    escapers = []
    for text, start in zip(texts, starts, strict=False):
        walk.text(text, start)
        escapers.append(escaper(walk.value(start)))
    walk.text(texts[-1], len(source) - len(texts[-1]))
    return escapers


def html_filters(source: str, field: str, tags: Sequence[Tag]) -> Mapping[int, str]:
    """The name of a filter for each value of a source with logic, by where its tag starts.

    Raises TemplateSyntaxError.
    """
    walk = _Walk(source, field)
    filters: dict[int, str] = {}
    position, trims = 0, False
    for tag in tags:
        text = source[position : tag.start]
        trims_before = source.startswith("-", tag.start + 2)
        text = text.lstrip() if trims else text
        walk.text(text.rstrip() if trims_before else text, tag.start)
        if tag.opening == "{{":
            name = walk.value(tag.start)
            filters[tag.start] = _beside(name, tag.last_filter)
        elif tag.opening == "{%":
            walk.statement(tag.tokens[0].text, tag.start)
        position, trims = tag.end, source[tag.end - 3 : tag.end - 2] == "-"
    walk.text(source[position:], position)
    return filters


def _beside(name: str, last_filter: str) -> str:
    """The filter that is put after the template's own last one, which may have done a part of it."""
    if last_filter in ("e", "escape"):
        return f"{name}_e"
    if last_filter == "urlencode" and name in ("_html_part", "_html_contact"):
        return "_html_text"  # what is percent-encoded is not encoded again
    return name


@dataclass(slots=True)
class _Block:
    word: str
    entry: State
    ends: list[State] = field(default_factory=list)
    has_else: bool = False


class _Walk:
    """The scanner on its way through a template."""

    def __init__(self, source: str, field: str) -> None:
        self._source = source
        self._field = field
        self._state = State()
        self._open: list[_Block] = []

    def text(self, text: str, position: int) -> None:
        """Literal text, that ends at a tag at `position`."""
        try:
            self._state = advanced(self._state, text)
        except Misplaced as error:
            self._refuse(error, position)

    def value(self, position: int) -> str:
        """The name of the filter for a value that stands here."""
        try:
            name, self._state = context_of(self._state)
        except Misplaced as error:
            self._refuse(error, position)
        return name

    def statement(self, word: str, position: int) -> None:
        """Whether blocks are closed as they should be is minijinja's to say."""
        if word in ("if", "for"):
            self._open.append(_Block(word, self._state))
        elif not self._open:
            return
        elif word in ("elif", "else"):
            block = self._open[-1]
            self._end_branch(block, position)
            block.has_else = block.has_else or word == "else"
            self._state = block.entry
        elif word in ("endif", "endfor"):
            block = self._open.pop()
            self._end_branch(block, position)
            if not block.has_else:
                block.ends.append(block.entry)
            self._state = self._joined(block.ends, position)

    def _end_branch(self, block: _Block, position: int) -> None:
        """A turn of a loop ends where the next one begins."""
        is_turn = block.word == "for" and not block.ends
        if is_turn and self._joined([block.entry, self._state], position) != block.entry:
            self._refuse(Misplaced("a turn of this loop ends at another place of the HTML than it began"), position)
        block.ends.append(self._state)

    def _joined(self, states: Sequence[State], position: int) -> State:
        try:
            return joined(states)
        except Misplaced as error:
            self._refuse(error, position)

    def _refuse(self, error: Misplaced, position: int) -> NoReturn:
        raise TemplateSyntaxError(self._field, str(error), source=self._source, position=position) from None
