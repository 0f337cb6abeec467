"""What a template says on one channel, or in one language, instead of its own words.

`MessageTemplate.variants` is a list of `{"channel", "language", "title", "body", "data", "options"}`. An empty channel
stands for every channel, an empty language for whoever has no variant of theirs. A send takes the words of its channel;
of these, each recipient gets those of their language: `ko-KR`, else `ko`, else the ones without a language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from apps.tenants.channels import ChannelType
from automata_signal.errors import ValidationFailed

VARIANTS_MAX = 100
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_FIELDS = {"channel": str, "language": str, "title": str, "body": str, "data": dict, "options": dict}


class Words(NamedTuple):
    """Title, body and data as they were written, and the channel's own fields."""

    title: str
    body: str
    data: Mapping[str, Any]
    options: Mapping[str, Any]


class Variant(NamedTuple):
    channel: str
    language: str
    words: Words


def read_variants(variants: object) -> list[Variant]:
    """The variants, checked for their form. Raises `ValidationFailed` with `variants.<index>.<name>`."""
    if not isinstance(variants, list) or len(variants) > VARIANTS_MAX:
        raise ValidationFailed.of("variants", f"must be a list of at most {VARIANTS_MAX}")
    found: dict[tuple[str, str], Variant] = {}
    for index, given in enumerate(variants):
        place = f"variants.{index}"
        variant = _read(given, place)
        key = (variant.channel, variant.language)
        if not any(key):
            raise ValidationFailed.of(
                place, "names neither a channel nor a language: those are the template's own words"
            )
        if key in found:
            raise ValidationFailed.of(place, "there is another one for this channel and language")
        found[key] = variant
    return list(found.values())


def _read(given: object, place: str) -> Variant:
    if not isinstance(given, Mapping):
        raise ValidationFailed.of(place, "must be an object")
    for name, value in given.items():
        if name not in _FIELDS:
            raise ValidationFailed.of(f"{place}.{name}", f"is none of {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]):
            raise ValidationFailed.of(
                f"{place}.{name}", f"must be {'an object' if _FIELDS[name] is dict else 'a text'}"
            )
    channel, language = given.get("channel", ""), given.get("language", "")
    if channel and channel not in ChannelType.values:
        raise ValidationFailed.of(f"{place}.channel", f"must be one of {', '.join(ChannelType.values)}")
    if language and not _LANGUAGE.fullmatch(language):
        raise ValidationFailed.of(f"{place}.language", "must be a language such as ko or pt-BR")
    words = Words(given.get("title", ""), given.get("body", ""), given.get("data", {}), given.get("options", {}))
    return Variant(channel, language, words)


def words_for(channel: str, own: Words, variants: Sequence[Variant]) -> tuple[Words, dict[str, Words]]:
    """The words of a channel: those for everybody, and those of each language.

    Variants of the channel come before those of every channel; its options lie over the template's own.
    """
    of_channel = {variant.language: variant.words for variant in variants if variant.channel == channel}
    of_all = {variant.language: variant.words for variant in variants if not variant.channel}
    base = of_channel.pop("", own)
    if base is not own:
        base = base._replace(options={**own.options, **base.options} if channel == ChannelType.PUSH else base.options)
    languages = of_channel if base is not own else {**of_all, **of_channel}
    return base, languages


def language_key(languages: Mapping[str, Any], language: str) -> str | None:
    """Which of the languages somebody gets who speaks `language`; None for none of them."""
    if not languages or not language:
        return None
    wanted = language.replace("_", "-")
    by_lower = {key.lower(): key for key in languages}
    while wanted:
        if (key := by_lower.get(wanted.lower())) is not None:
            return key
        wanted = wanted.rpartition("-")[0]
    return None
