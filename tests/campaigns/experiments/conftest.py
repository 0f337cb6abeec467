"""Campaigns with variants, launched through the API."""

from __future__ import annotations

import secrets

import pytest

from apps.subscriptions.models import AppUser, Subscription, SubscriptionType


def experiment(*shares: int, **plan) -> dict:
    """The plan of a test: A says what the campaign says, the others have words of their own."""
    own = [{}, *({"title": f"Hello {letter}", "body": f"This is {letter}"} for letter in "BCDE")]
    variants = [{"share_percent": share, **words} for share, words in zip(shares or (50, 50), own, strict=False)]
    return {"variants": variants, **plan}


@pytest.fixture
def users(application):
    """`users(30)` makes so many users, each with a device of either kind."""
    made = 0

    def make(count: int) -> list[AppUser]:
        nonlocal made
        users = AppUser.objects.bulk_create(
            AppUser(application=application, external_id=f"user-{made + n}") for n in range(count)
        )
        made += count
        Subscription.objects.bulk_create(
            Subscription(
                application=application,
                user=user,
                type=kind,
                subscription_status=1,
                token=secrets.token_hex(32),
                token_digest=secrets.token_bytes(32),
            )
            for user in users
            for kind in (SubscriptionType.IOS_PUSH, SubscriptionType.ANDROID_PUSH)
        )
        return users

    return make
