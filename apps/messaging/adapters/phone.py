"""Phone numbers as gateways take them: ours are E.164, theirs mostly country and national number."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import phonenumbers

__all__ = ["KOREA", "National", "is_e164", "national", "to_e164"]

KOREA = "82"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class National(NamedTuple):
    country: str
    """Calling code: `82`."""
    number: str
    """As it is dialled there, digits only: `01012345678`."""


def is_e164(text: str) -> bool:
    return _E164.fullmatch(text) is not None


def national(address: str) -> National:
    """Of a number in E.164. Raises ValueError for anything else."""
    if not is_e164(address):
        raise ValueError("is no number in E.164 form")
    if address.startswith("+82"):
        return National(KOREA, f"0{address[3:]}")
    return _abroad(address)


@lru_cache(4096)
def _abroad(address: str) -> National:
    """Other countries have other prefixes, or none; gateways want the number without."""
    try:
        number = phonenumbers.parse(address)
    except phonenumbers.NumberParseException:
        raise ValueError("is no number in E.164 form") from None
    return National(str(number.country_code), phonenumbers.national_significant_number(number))


def to_e164(number: str, country: str = KOREA) -> str:
    """Of a number as a gateway reports it: with +, with its country, or as it is dialled in `country`."""
    digits = re.sub(r"\D", "", number)
    if number.startswith("+"):
        return f"+{digits}"
    return f"+{country}{digits[1:]}" if digits.startswith("0") else f"+{digits}"
