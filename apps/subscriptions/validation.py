"""What may be stored: tokens by type, tags, properties, external ids, countries and languages.

Each function answers with the normal form of a value, or raises `ValidationFailed` with the field's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import orjson
import phonenumbers
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.subscriptions.models import SubscriptionType, TestType
from automata_signal.errors import FieldProblem, ValidationFailed

TAGS_MAX = 100
NAME_MAX = 100
"""Characters in the name of a tag or property."""
TAG_VALUE_MAX = 255
PROPERTIES_MAX_BYTES = 32 * 1024
PROPERTIES_MAX_DEPTH = 5
EXTERNAL_ID_MAX = 255
TOKEN_MAX = 4_096
ERASED_PREFIX = "erased:"
"""What stands in the place of an erased external id; no caller may choose such an id."""

# Apple: device tokens are of variable length, today 32 bytes; 100 bytes is the documented maximum.
_APNS_TOKEN = re.compile(r"(?:[0-9a-f]{2}){32,100}")
# Firebase promises no form; what it gives is base64url in parts with colons.
_FCM_TOKEN = re.compile(r"[A-Za-z0-9_:.%=\-]{20,4096}")
# Chosen by the SDK, and whoever knows it can register it: long enough that nobody guesses it.
_IN_APP_TOKEN = re.compile(r"[A-Za-z0-9_:.\-]{32,255}")
_PHONE = re.compile(r"[+\uff0b]?[0-9\uff10-\uff19 ().\u2010-\u2015\-]{3,40}")
PHONE_MIN = 9
"""Characters, the + among them: what is shorter is the number of a service, and no subscriber's."""
_KOREAN_MOBILE = re.compile(r"\+8210[0-9]{8}")
_PHONE_PROBLEMS = {
    phonenumbers.ValidationResult.INVALID_COUNTRY_CODE: "begins with the code of no country",
    phonenumbers.ValidationResult.TOO_SHORT: "is too short for a phone number of its country",
    phonenumbers.ValidationResult.TOO_LONG: "is too long for a phone number of its country",
    phonenumbers.ValidationResult.INVALID_LENGTH: "has not as many digits as a phone number of its country",
    phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks the area code",
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")

# ISO 3166-1 alpha-2, and XK, which devices report for Kosovo.
_COUNTRIES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY "
    "BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK "
    "FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR "
    "IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK "
    "ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF "
    "TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW XK"
)
COUNTRIES = frozenset(_COUNTRIES.split())


def normal_token(type: str, token: str, country: str = "") -> str:
    """The form of a token that is stored and compared; equal addresses have equal forms. A phone number without its
    country (`010-1234-5678`) is one of `country`; which it may be is never guessed."""
    token = token.strip()
    match type:
        case SubscriptionType.IOS_PUSH:
            return _matching(_APNS_TOKEN, token.lower(), "is not an APNs device token: 64 to 200 hexadecimal digits")
        case SubscriptionType.ANDROID_PUSH:
            return _matching(_FCM_TOKEN, token, "is not an FCM registration token")
        case SubscriptionType.IN_APP_MESSAGE:
            return _matching(_IN_APP_TOKEN, token, "must be 32 to 255 letters, digits, or any of _ : . -")
        case SubscriptionType.EMAIL:
            return _normal_email(token)
        case SubscriptionType.SMS | SubscriptionType.KAKAO_TALK:
            return _normal_phone(token, country)
        case _:
            raise ValidationFailed.of("type", "is not a subscription type")


def _matching(pattern: re.Pattern[str], token: str, problem: str) -> str:
    if not pattern.fullmatch(token):
        raise ValidationFailed.of("token", problem)
    return token


def _normal_phone(text: str, country: str) -> str:
    """E.164. What is possible where the number comes from is taken: which numbers are given out changes by the week."""
    if _KOREAN_MOBILE.fullmatch(text):
        return text
    if not _PHONE.fullmatch(text):
        raise ValidationFailed.of("token", "is not a phone number: digits with spaces, hyphens and parentheses")
    if not text.startswith(("+", "\uff0b")) and not country:
        raise ValidationFailed.of(
            "token",
            "is not a phone number in E.164 form, such as +821012345678; without +, country_code says whose it is",
        )
    try:
        number = phonenumbers.parse(text, country.strip().upper() or None)
    except phonenumbers.NumberParseException:
        raise ValidationFailed.of("token", "is not a phone number of any country") from None
    problem = _PHONE_PROBLEMS.get(phonenumbers.is_possible_number_with_reason(number))
    normal = str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    if not problem and len(normal) < PHONE_MIN:
        problem = "is too short for a phone number"
    if not problem and normal.startswith("+8210") and not _KOREAN_MOBILE.fullmatch(normal):
        problem = "is no mobile number of Korea: those have 010 and eight digits"
    if problem:
        raise ValidationFailed.of("token", problem)
    return normal


def _normal_email(address: str) -> str:
    """The part before the @ is the mail server's own matter and keeps its case."""
    local, _, domain = address.rpartition("@")
    try:
        address = f"{local}@{domain.lower().encode('idna').decode('ascii')}"
        validate_email(address)
    except (ValidationError, UnicodeError):
        raise ValidationFailed.of("token", "is not an e-mail address") from None
    if len(address) > 254:
        raise ValidationFailed.of("token", "is longer than an e-mail address can be (254)")
    return address


def normal_device(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Device columns as they are stored: None clears a column."""
    normal: dict[str, Any] = {}
    for name, value in fields.items():
        match name:
            case "test_type":
                normal[name] = _test_type(value)
            case "country_code":
                normal[name] = _country(value or "")
            case "device_language":
                normal[name] = _language(value or "")
            case _:
                normal[name] = _plain_text(name, value or "")
    return normal


def _test_type(value: int | None) -> int:
    if value is not None and value not in TestType.values:
        raise ValidationFailed.of("test_type", "must be 0 (production), 1 (development) or 2 (ad hoc)")
    return value or TestType.PRODUCTION


def _country(code: str) -> str:
    code = code.strip()
    code = code.upper() if code.isascii() else code  # ß would become SS, which is South Sudan
    if code and code not in COUNTRIES:
        raise ValidationFailed.of("country_code", "is not an ISO 3166 alpha-2 code such as KR")
    return code


def _language(tag: str) -> str:
    """`KO_kr` → `ko-KR`, `zh-hant-tw` → `zh-Hant-TW` (BCP 47, which calls the case a recommendation)."""
    tag = tag.strip()
    if tag and (len(tag) > 35 or not _LANGUAGE.fullmatch(tag)):
        raise ValidationFailed.of("device_language", "is not a language tag such as ko or ko-KR")
    language, *subtags = tag.replace("_", "-").split("-")
    cased = {2: str.upper, 4: str.title}
    return "-".join([language.lower(), *(cased.get(len(part), str.lower)(part) for part in subtags)])


def _plain_text(field: str, value: str) -> str:
    if has_control_character(value):
        raise ValidationFailed.of(field, "holds a control character")
    return value.strip()


def has_control_character(text: str) -> bool:
    if text.isprintable():  # a control character is never printable, and this takes a twentieth of the time
        return False
    return any(unicodedata.category(character) == "Cc" for character in text)


def check_tags(tags: Mapping[str, Any]) -> None:
    """Names of 1 to 100 characters; text, numbers, truth values, or None where the tag is to be removed."""
    problems: list[FieldProblem] = []
    for name, value in tags.items():
        field = f"tags.{name[:NAME_MAX]}"
        if problem := _name_problem(name):
            problems.append(FieldProblem(field, problem))
        elif not isinstance(value, str | int | float | None):
            problems.append(FieldProblem(field, "must be text, a number, true, false, or null to remove the tag"))
        elif isinstance(value, str) and len(value) > TAG_VALUE_MAX:
            problems.append(FieldProblem(field, f"is longer than {TAG_VALUE_MAX} characters"))
    _raise_all(problems)


def merged_tags(old: Mapping[str, Any], tags: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with `tags` laid over it; None removes."""
    merged = _merged(old, tags)
    if len(merged) > TAGS_MAX:
        raise ValidationFailed.of("tags", f"would be {len(merged)}: a subscription has at most {TAGS_MAX}")
    return merged


def merged_properties(old: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with each given property in place of the one of that name; None removes it."""
    problems = [
        FieldProblem(f"properties.{name[:NAME_MAX]}", problem)
        for name in properties
        if (problem := _name_problem(name))
    ]
    _raise_all(problems)
    merged = _merged(old, properties)
    if (depth := _depth(merged)) > PROPERTIES_MAX_DEPTH:
        raise ValidationFailed.of("properties", f"are {depth} levels deep: at most {PROPERTIES_MAX_DEPTH} are allowed")
    if (size := len(orjson.dumps(merged))) > PROPERTIES_MAX_BYTES:
        raise ValidationFailed.of("properties", f"are {size} bytes of JSON: at most {PROPERTIES_MAX_BYTES} are allowed")
    return merged


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**old, **new}.items() if value is not None}


def _depth(value: Any) -> int:
    """Levels of objects and lists; the parser has bounded them, so recursion is safe."""
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return 1 + max(map(_depth, children), default=0)
    return 0


def _name_problem(name: str) -> str:
    if not 1 <= len(name) <= NAME_MAX:
        return f"the name must have 1 to {NAME_MAX} characters"
    return "the name holds a control character" if has_control_character(name) else ""


def _raise_all(problems: list[FieldProblem]) -> None:
    if problems:
        raise ValidationFailed("The input is not valid.", details=problems)


def check_external_id(external_id: str) -> str:
    """1 to 255 characters, as given: no spaces around, no control characters, not our mark of an erased user."""
    if not 1 <= len(external_id) <= EXTERNAL_ID_MAX:
        raise ValidationFailed.of("external_id", f"must have 1 to {EXTERNAL_ID_MAX} characters")
    if external_id != external_id.strip() or has_control_character(external_id):
        raise ValidationFailed.of("external_id", "holds a control character, or spaces around it")
    if external_id.startswith(ERASED_PREFIX):
        raise ValidationFailed.of("external_id", f"must not start with {ERASED_PREFIX}")
    return external_id
