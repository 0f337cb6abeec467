"""Rules on text that the Korean gateways share: bytes, characters, advertising marks, Alimtalk templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

SMS_BYTES, LONG_BYTES, TITLE_BYTES = 90, 2000, 40
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VARIABLE = re.compile(r"#\{([^{}]*)\}")
_ADVERTISING_END = re.compile(r"(?:무료수신거부|무료거부)[ :]*(080[- ]?\d{3,4}[- ]?\d{4})\s*\Z")


def euc_kr_bytes(text: str) -> int | None:
    """Length in EUC-KR (section 4.4); None when a character is not in it.

    Python's codec writes Hangul beyond KS X 1001 as sequences of eight bytes, which no gateway takes.
    """
    if text.isascii():
        return len(text)
    try:
        length = len(text.encode("euc_kr"))
        return length if length == len(text.encode("cp949")) else None
    except UnicodeEncodeError:
        return None


def is_unprintable(text: str) -> bool:
    return _UNPRINTABLE.search(text) is not None


def opt_out_number(text: str) -> str | None:
    """The digits of the 080 number of a properly marked advertisement; None when a mark is missing (section 4.6)."""
    if not text.startswith("(광고)"):
        return None
    found = _ADVERTISING_END.search(text)
    return re.sub(r"\D", "", found[1]) if found else None


@lru_cache(1024)
def variables_of(template: str) -> tuple[str, ...]:
    """The names in #{…}, each once, in order."""
    return tuple(dict.fromkeys(_VARIABLE.findall(template)))


def fill(template: str, variables: Mapping[str, str]) -> str:
    """The template with its variables; those without a value stay as they are. `variables` by bare name."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), template) if "#{" in template else template


@lru_cache(1024)
def _pattern(template: str) -> re.Pattern[str]:
    parts = _VARIABLE.split(template)
    seen: dict[str, int] = {}
    pattern = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        elif part in seen:
            pattern += rf"(?P=v{seen[part]})"
        else:
            seen[part] = len(seen)
            pattern += rf"(?P<v{seen[part]}>.*?)"
    return re.compile(pattern, re.DOTALL)


def matches(template: str, text: str) -> bool:
    """Whether the text is the approved template with something in place of each variable."""
    return _pattern(template).fullmatch(text) is not None
