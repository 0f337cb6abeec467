"""Bytes, characters and parts of a text message, and what is refused before a gateway sees it."""

import pytest

from apps.messaging.adapters.base import Content, ContentError
from apps.messaging.adapters.sms_content import check_options, read_text, sms_parts, title_for


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("a" * 160, "gsm7", 160, 1),
        ("a" * 161, "gsm7", 161, 2),
        ("a" * 306, "gsm7", 306, 2),
        ("a" * 307, "gsm7", 307, 3),
        ("{" * 80, "gsm7", 160, 1),
        ("a" * 152 + "{" + "a" * 10, "gsm7", 164, 2),
        ("a" * 152 + "{" + "a" * 152, "gsm7", 306, 3),  # the escaped character is not cut, so a part is left open
        ("가" * 70, "ucs2", 70, 1),
        ("가" * 71, "ucs2", 71, 2),
        ("가" * 134, "ucs2", 134, 2),
        ("가" * 135, "ucs2", 135, 3),
        ("😀" * 35, "ucs2", 70, 1),
        ("가" * 66 + "😀" + "가" * 66, "ucs2", 134, 3),
        ("", "gsm7", 0, 1),
    ],
)
def test_twilio_counts_characters(text, encoding, units, segments):
    assert sms_parts(text, "twilio") == (encoding, units, segments, "sms")


@pytest.mark.parametrize("provider", ["solapi", "nhn_sms"])
@pytest.mark.parametrize(
    ("text", "units", "kind"),
    [("가" * 45, 90, "sms"), ("가" * 45 + ".", 91, "lms"), ("a" * 91, 91, "lms"), ("가" * 1000, 2000, "lms")],
)
def test_korean_gateways_count_bytes(provider, text, units, kind):
    assert sms_parts(text, provider) == ("euc_kr", units, 1, kind)


@pytest.mark.parametrize(
    ("content", "provider", "field", "problem"),
    [
        (Content(body="좋아요 😀"), "solapi", "body", "GRINNING FACE) at character 5 (line 1, column 5)"),
        (Content(body="a\n뷁"), "nhn_sms", "body", "at character 3 (line 2, column 1), which is not in EUC-KR"),
        (Content(body="a\0"), "twilio", "body", "control character at character 2"),
        (Content(body="\ud800"), "twilio", "body", "half of a surrogate pair"),
        (Content(body="가" * 1001), "solapi", "body", "takes 2002 bytes"),
        (Content(body="가" * 46, options={"type": "sms"}), "solapi", "body", "takes 92 bytes in EUC-KR; an SMS has 90"),
        (Content("제" * 21, "x"), "solapi", "title", "takes 42 bytes"),
        (Content("t", "x", options={"type": "sms"}), "solapi", "title", "an SMS has none"),
        (Content(body="x" * 1601), "twilio", "body", "1601 characters"),
        (Content(body="x", options={"from": "Shop"}), "solapi", "options.from", "8 to 13 digits"),
        (Content(body="x", options={"from": "a\nb"}), "twilio", "options.from", "ASCII"),
        (Content(body="x", options={"from": "A name that is long"}), "twilio", "options.from", "up to 11 letters"),
        (Content(body="x", options={"sound": "x"}), "twilio", "options.sound", "is not an option of an SMS"),
        (Content(body=3), "twilio", "body", "must be a text"),
    ],
)
def test_what_a_gateway_would_refuse_is_named_with_its_place(content, provider, field, problem):
    with pytest.raises(ContentError) as refused:
        read_text(content, provider)
    assert refused.value.field == field
    assert problem in refused.value.message


def test_a_title_or_the_wish_makes_an_lms():
    assert read_text(Content("제목", "짧다"), "solapi").kind == "lms"
    assert read_text(Content(body="짧다", options={"type": "lms"}), "nhn_sms").kind == "lms"
    assert read_text(Content("Subject", "short"), "twilio") == ("sms", "short", "", "")


def test_an_lms_takes_its_title_from_the_text():
    assert title_for("\n 주문이 도착했습니다 \n둘째 줄") == "주문이 도착했습니다"
    assert title_for("가" * 30) == "가" * 20


def test_options_are_checked_without_knowing_the_provider():
    check_options({"from": "02-1234-5678", "type": "auto"})
    with pytest.raises(ContentError):
        check_options({"type": "mms"})
