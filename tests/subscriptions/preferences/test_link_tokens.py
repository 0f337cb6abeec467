"""Tokens in links: what was signed for one purpose opens nothing else, and nothing can be made up or altered."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from automata_signal.link_tokens import (
    LinkExpired,
    LinkRefused,
    LinkToken,
    link_url,
    make_link_token,
    read_link_token,
)

SUBSCRIPTION = UUID("0199b2f0-1111-7222-8333-444455556666")
MESSAGE = UUID("0199b2f0-aaaa-7bbb-8ccc-ddddeeeeff00")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("message_id", [None, MESSAGE])
@pytest.mark.parametrize("category", ["", "news", "x" * 50])
@pytest.mark.parametrize("expires_at", [None, 4_102_444_800])  # in the year 2100
def test_a_token_says_what_it_was_made_for(message_id: UUID | None, category: str, expires_at: int | None) -> None:
    token = make_link_token(
        "unsubscribe", subscription_id=SUBSCRIPTION, message_id=message_id, category=category, expires_at=expires_at
    )
    assert read_link_token("unsubscribe", token) == LinkToken(SUBSCRIPTION, message_id, category, expires_at)


def test_ids_may_be_text() -> None:
    as_text = make_link_token("preferences", subscription_id=str(SUBSCRIPTION), message_id=str(MESSAGE))
    assert as_text == make_link_token("preferences", subscription_id=SUBSCRIPTION, message_id=MESSAGE)


def test_a_token_for_one_purpose_is_none_for_another() -> None:
    token = make_link_token("unsubscribe", subscription_id=SUBSCRIPTION)
    for purpose in ("preferences", "confirm"):
        with pytest.raises(LinkRefused):
            read_link_token(purpose, token)


def test_every_changed_character_is_noticed() -> None:
    token = make_link_token("unsubscribe", subscription_id=SUBSCRIPTION, message_id=MESSAGE, category="new")
    for position, character in enumerate(token):
        for other in _ALPHABET:
            if other != character:
                with pytest.raises(LinkRefused):
                    read_link_token("unsubscribe", token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("token", ["", "a", "=" * 60, "a" * 44, "a" * 500, "ä" * 60, "a" * 43 + "\n", "+" * 60])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(LinkRefused):
        read_link_token("unsubscribe", token)


def test_a_token_that_confirms_expires() -> None:
    with pytest.raises(ValueError, match="must expire"):
        make_link_token("confirm", subscription_id=SUBSCRIPTION)
    over = make_link_token("confirm", subscription_id=SUBSCRIPTION, expires_at=int(time.time()) - 1)
    with pytest.raises(LinkExpired):
        read_link_token("confirm", over)


def test_a_link_lies_below_the_public_address(settings: pytest.FixtureRequest) -> None:
    settings.PUBLIC_URL = "https://signal.example.com/"  # type: ignore[attr-defined]
    assert link_url("unsubscribe", "abc") == "https://signal.example.com/e/unsubscribe/abc"
