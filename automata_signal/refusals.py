"""What is refused, in the language of who reads it.

Services say in English what is wrong, and the API hands that on to programs. Where a person reads another language,
which is in the console and on hosted pages, a `SignalError` says it in that one. The catalogue has these texts in a
context of their own, with placeholders for what stands in between: "are more than 1000" is known by the words of
`are more than %(value)s`. `./run messages` finds them where they are raised.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from django.utils.translation import get_language, trans_real

CONTEXT = "refusal"
_KEY = f"{CONTEXT}\x04"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_DEPTH_MAX = 3


class _Texts(NamedTuple):
    whole: dict[str, str]
    """Those without a placeholder."""
    patterns: list[tuple[re.Pattern[str], str]]
    """The others, the one with the most words first."""


def in_words(message: str) -> str:
    """A refusal in the active language; as it is where there is no translation of it."""
    language = get_language()
    if not language or language.startswith("en"):
        return message
    return _in_language(message, language, 0)


def _in_language(message: str, language: str, depth: int) -> str:
    texts = _texts_of(language)
    if whole := texts.whole.get(message):
        return whole
    for pattern, text in texts.patterns:
        if found := pattern.fullmatch(message):
            values = found.groupdict()
            if depth < _DEPTH_MAX:  # one refusal may quote another one
                values = {name: _in_language(value, language, depth + 1) for name, value in values.items()}
            return text % values
    return message


@cache
def _texts_of(language: str) -> _Texts:
    catalogue = trans_real.translation(language)._catalog  # type: ignore[attr-defined]
    texts = {
        key.removeprefix(_KEY): text
        for key, text in catalogue.items()
        if isinstance(key, str) and key.startswith(_KEY) and text
    }
    whole = {key for key in texts if not _PLACEHOLDER.search(key)}
    with_values = sorted(texts.keys() - whole, key=lambda key: (-_words_in(key), key))
    return _Texts(
        {key.replace("%%", "%"): texts[key].replace("%%", "%") for key in whole},
        [(_pattern_of(key), texts[key]) for key in with_values],
    )


def _words_in(key: str) -> int:
    return len(_PLACEHOLDER.sub("", key))


def _pattern_of(key: str) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(key)
    parts[0::2] = [re.escape(part.replace("%%", "%")) for part in parts[0::2]]
    parts[1::2] = [f"(?P<{name}>.*?)" for name in parts[1::2]]
    return re.compile("".join(parts), re.DOTALL)
