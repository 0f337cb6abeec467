"""`python -m tests.faults.seed`: an application with keys, credentials and an audience, as the product makes them.

Reads the credentials' secrets as JSON from standard input and prints what the traffic needs. A process of its own, so
that whoever breaks things needs no Django.
"""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")
django.setup()

from apps.billing.models import BillingProfile, MessageQuota  # noqa: E402  (after django.setup)
from apps.billing.services.quota import billing_of  # noqa: E402
from apps.subscriptions.models import Subscription  # noqa: E402
from apps.tenants.models import Application, KeyKind  # noqa: E402
from apps.tenants.services import credential_create, key_create  # noqa: E402
from tests.factories import make_subscriptions  # noqa: E402

SINGLES = 200
CHUNK = 5_000


def seed(order: dict[str, Any]) -> dict[str, Any]:
    application = Application.objects.create(name="Shop", time_zone="Asia/Seoul")
    billing_of(application)  # everything has a price and a quota, so that what is wrong with them shows
    BillingProfile.objects.update(credit_limit=10**9)
    MessageQuota.objects.update(daily_quota=10**9, monthly_quota=10**9, unit_price=Decimal("0.25"))
    key = key_create(application=application, name="server", kind=KeyKind.SECRET).plaintext
    for provider, secret in order["secrets"].items():
        credential_create(application=application, provider=provider, name="key", secret=secret)
    half = order["recipients"] // 2
    ios = [f"a{n:063x}" for n in range(half)]
    android = [f"android-{n:06d}:{'x' * 130}" for n in range(order["recipients"] - half)]
    for kind, tokens in (("iOSPush", ios), ("AndroidPush", android)):
        for start in range(0, len(tokens), CHUNK):
            make_subscriptions(application, tokens[start : start + CHUNK], type=kind, country_code="KR")
    singles: list[Subscription] = make_subscriptions(
        application, [f"b{n:063x}" for n in range(SINGLES)], country_code="US"
    )
    return {"application": str(application.pk), "key": key, "singles": [str(s.pk) for s in singles]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(seed(json.load(sys.stdin))) + "\n")
