"""What is refused is said in the language of a person, and in English to programs."""

from __future__ import annotations

import re

import pytest
from django.utils import translation

from automata_signal.errors import Conflict, FieldProblem, ValidationFailed
from automata_signal.refusals import CONTEXT, in_words
from tools import catalogue

KOREAN = {text.singular: korean for text, korean in catalogue.translations().items() if text.context == CONTEXT}
HANGUL = re.compile("[가-힣]")


def filled(text: str) -> str:
    """With a value for each placeholder that no text has in it."""
    return re.sub(r"%\((\w+)\)s", lambda found: f"‹{found[1]}›", text).replace("%%", "%")


def test_each_refusal_is_known_by_its_words():
    with translation.override("ko"):
        assert {key: in_words(filled(key)) for key in KOREAN} == {key: filled(text) for key, text in KOREAN.items()}


def test_a_refusal_is_in_the_language_of_who_reads_it():
    def refuse() -> ValidationFailed:
        return ValidationFailed.of("recipients", "are more than 1000")

    with translation.override("en"):
        assert (refuse().message, refuse().details[0].message) == (
            "recipients: are more than 1000",
            "are more than 1000",
        )
    with translation.override("ko"):
        assert (refuse().message, refuse().details[0].message) == ("recipients: 1000개를 넘습니다", "1000개를 넘습니다")
        assert Conflict("There is no such campaign.").message == "캠페인이 없습니다."
        assert str(Conflict("There is no such campaign.")) == "There is no such campaign.", "logs read English"


def test_a_refusal_that_quotes_another_is_translated_as_well():
    with translation.override("ko"):
        assert in_words("is needed (for recipient anna)") == "값이 필요합니다 (수신자 anna)"
        assert in_words("line 3: is empty") == "3번째 줄: 비어 있습니다"


def test_what_is_not_in_the_catalogue_stays_as_it_is():
    with translation.override("ko"):
        assert in_words("Kakao says: 템플릿이 없습니다") == "Kakao says: 템플릿이 없습니다"
        assert (
            ValidationFailed("x", details=[FieldProblem("a", "of its own kind")]).details[0].message
            == "of its own kind"
        )


def test_the_api_answers_in_english_whatever_is_asked_for(client, server):
    bodies = [{"recipients": 5, "channel": 1}, {"recipients": [{"external_id": "a"}], "body": "x", "options": {"a": 1}}]
    answers = [server.post("/api/v1/messages", body, accept_language="ko") for body in bodies]
    answers += [client.get("/api/v1/messages", headers={"Accept-Language": "ko"})]
    answers += [server.get("/api/v1/campaigns/00000000-0000-0000-0000-000000000000", accept_language="ko")]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert not HANGUL.search(answer.content.decode())
        assert "Accept-Language" not in answer.headers.get("Vary", "")


@pytest.mark.django_db
def test_the_console_answers_in_the_language_that_is_asked_for(client):
    page = client.get("/admin/login/", headers={"Accept-Language": "ko"}, follow=True)
    assert '<html lang="ko"' in page.content.decode()
    assert HANGUL.search(page.content.decode())
