"""An owner sets an application up in the browser: keys, a provider's credential, settings, webhooks."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from apps.messaging import dispatch
from apps.messaging.models import DispatchBatch
from apps.messaging.webhooks.delivering import deliver_due
from apps.messaging.webhooks.models import WebhookLane
from apps.sandbox.credentials import make_apns_key
from apps.subscriptions.services import subscription_register
from apps.subscriptions.status import Setter
from apps.tenants.access import key_digest
from apps.tenants.models import ApiKey, Application, ChannelCredential
from apps.tenants.services import credential_create
from tests.browser.conftest import PHONE
from tests.providers import BUNDLE_ID


@pytest.fixture
def application(db) -> Application:
    return Application.objects.create(name="Corner shop", time_zone="Asia/Seoul")


def place(name: str, application: Application) -> str:
    return reverse(f"admin:tenants_application_{name}", args=[application.pk])


def test_an_owner_makes_a_key_and_sees_it_once(browse, application):
    console = browse("owner")
    console.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = console.open(place("change", application))
    expect(page.get_by_role("heading", name="First steps")).to_be_visible()
    console.axe()
    console.shot("application-overview")
    page.get_by_role("navigation", name="Pages of Corner shop").get_by_role("link", name="API keys").click()
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Name").fill("Web shop")
    page.get_by_label("Kind").select_option("secret")
    page.get_by_role("button", name="Send only").click()
    expect(page.get_by_label("Send and cancel messages")).to_be_checked()
    expect(page.get_by_label("Read and export users")).not_to_be_checked()
    console.axe()
    console.shot("application-new-key")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Copy the key").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    key = ApiKey.objects.get(digest=key_digest(copied))
    assert (key.name, key.scopes) == ("Web shop", ["messages:read", "messages:send"])
    expect(page.locator("pre").first).to_contain_text(f"Bearer {copied}")
    console.axe()
    console.shot("application-key-once")
    console.open(place("keys", application))
    assert copied not in page.content()
    console.axe()
    console.shot("application-keys")
    page.get_by_role("link", name="Web shop").click()
    console.settle()
    assert copied not in page.content()
    console.shot("application-key")
    page.get_by_role("link", name="Revoke").click()
    page.get_by_label("Type the name of the key to confirm").fill("web")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("This is not the name of the key.")).to_be_visible()
    page.get_by_label("Type the name of the key to confirm").fill("Web shop")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The key is revoked.")).to_be_visible()
    console.open(place("code", application))
    page.get_by_role("tab", name="Android (Kotlin)").click()
    expect(page.locator("#code-android")).to_contain_text("AndroidPush")
    console.axe()
    console.shot("application-code")


def test_a_credential_is_uploaded_and_verified_good_and_bad(browse, application, apns, apns_key, tmp_path):
    ChannelCredential.objects.all().delete()
    console = browse("owner")
    page = console.open(place("credentials", application))
    console.shot("application-credentials-empty")
    page.get_by_role("link", name="APNs").click()
    console.settle()

    def fill(key, name: str) -> None:
        file = tmp_path / f"AuthKey_{key.key_id}.p8"
        file.write_text(key.p8)
        page.locator("#id_name").fill(name)
        page.locator("#id_apns_team_id").fill(key.team_id)
        page.locator("#id_apns_key_id").fill(key.key_id)
        page.locator("#id_apns_bundle_id").fill(BUNDLE_ID)
        page.locator("input[name=apns_private_key_file]").set_input_files(file)

    fill(apns_key, "Key of 2026")
    console.axe()
    console.shot("application-new-credential")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Verify with the provider").click()
    expect(page.locator("[data-check=good]")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("The provider takes this credential.")).to_be_visible()
    console.axe()
    console.shot("application-credential-good")
    assert apns_key.p8.splitlines()[1] not in page.content()

    page = console.open(reverse("admin:tenants_channelcredential_add") + f"?application={application.pk}&provider=apns")
    fill(make_apns_key([BUNDLE_ID]), "Not known to Apple")
    page.locator("#id_position").fill("1")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Verify with the provider").click()
    expect(page.locator("[data-check=bad]")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("InvalidProviderToken").first).to_be_visible()
    console.shot("application-credential-bad")
    page = console.open(place("credentials", application))
    page.get_by_role("button", name="Use Not known to Apple earlier").click()
    console.settle()
    expect(page.locator("article").first).to_contain_text("Not known to Apple")
    console.axe()
    console.shot("application-credentials")


def test_settings_are_a_form_whose_errors_stand_at_the_field(browse, application):
    application.settings = {"default_ttl_s": 3_600, "frequency_caps": [{"per_day": 2}]}
    application.save()
    console = browse("owner")
    page = console.open(place("change", application) + "?tab=settings")
    page.get_by_label("Quiet from").fill("25:00")
    page.get_by_label("Quiet until").fill("08:00")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Enter a time as hours and minutes, such as 21:00.")).to_be_visible()
    console.shot("application-settings-error")
    page.get_by_label("Quiet from").fill("21:00")
    page.get_by_label("A week, row 1").fill("5")
    page.get_by_label("Channel, row 2").select_option("sms")
    page.get_by_label("A day, row 2").fill("1")
    page.get_by_role("button", name="Save").click()
    console.settle()
    application.refresh_from_db()
    assert application.settings == {
        "default_ttl_s": 3_600,
        "quiet_hours": {"from": "21:00", "to": "08:00"},
        "frequency_caps": [{"per_day": 2, "per_week": 5}, {"channel": "sms", "per_day": 1}],
    }
    console.axe()
    console.shot("application-settings")


def test_a_webhooks_log_shows_what_was_sent_and_sends_it_again(browse, application, settings, webhook_receiver):
    settings.OUTGOING_ALLOW_PRIVATE = True
    console = browse("owner")
    page = console.open(reverse("admin:application_webhooks", args=[application.pk]))
    page.get_by_role("link", name="New webhook").click()
    page.get_by_label("Address").fill(f"{webhook_receiver.url}/hook?token=hidden")
    page.get_by_label("Description").fill("Order system")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Copy the secret")).to_be_visible()
    console.axe()
    console.shot("webhook-secret-once")
    page.get_by_role("link", name="I have copied it").click()
    console.open(reverse("admin:application_webhooks", args=[application.pk]))
    webhook_receiver.answers.append(500)
    page.get_by_role("button", name="Send a test").click()
    console.settle()
    deliver_due(max_s=5)
    page = console.open(reverse("admin:application_webhooks", args=[application.pk]))
    expect(page.get_by_text("The last attempt failed: the server answered 500")).to_be_visible()
    console.shot("webhooks-failing")
    WebhookLane.objects.update(retry_at=None)
    deliver_due(max_s=5)
    page = console.open(reverse("admin:application_webhooks", args=[application.pk]))
    console.axe()
    console.shot("webhooks")
    page.locator("section[aria-labelledby=latest] tbody a").first.click()
    console.settle()
    expect(page.locator("#webhook-body")).to_contain_text("webhook.test")
    expect(page.get_by_text("v1=••••••••")).to_be_visible()
    assert "token=hidden" not in page.locator("pre").first.text_content()
    console.axe()
    console.shot("webhook-delivery")
    page.get_by_role("button", name="Send again").click()
    console.settle()
    deliver_due(max_s=5)
    assert len(webhook_receiver.received) == 3
    first, again = (json.loads(received.body) for received in webhook_receiver.received[1:])
    assert [event["id"] for event in first] == [event["id"] for event in again]


def test_a_test_goes_the_whole_way_and_is_watched(browse, application, apns):
    token = "a5" * 32
    subscription_register(application=application, type="iOSPush", token=token, setter=Setter.PERSON, enabled=True)
    credential = ChannelCredential.objects.get(provider="apns")
    console = browse("owner")
    page = console.open(reverse("admin:tenants_channelcredential_change", args=[credential.pk]))
    page.get_by_role("link", name="Send a test").click()
    page.get_by_label("To whom").fill("nobody")
    page.get_by_role("button", name="Send the test").click()
    expect(page.get_by_text("none of them can be reached on this channel")).to_be_visible()
    page.get_by_label("To whom").fill(token)
    console.axe()
    page.get_by_role("button", name="Send the test").click()
    expect(page.locator("#test-state[data-state=pending]")).to_be_visible()
    for batch in DispatchBatch.objects.all():
        dispatch.run_batch(batch.pk)
    expect(page.locator("#test-state[data-state=successful]")).to_be_visible(timeout=20_000)
    console.shot("credential-test")
    assert [entry["token"] for entry in apns.journal()["entries"]] == [token]


def test_a_superuser_makes_an_application_in_four_steps(browse):
    console = browse("root")
    page = console.open(reverse("admin:tenants_application_add"))
    page.get_by_label("Name").fill("Bakery")
    page.get_by_label("Time zone").select_option("Asia/Seoul")
    page.locator("#id_default_language").fill("ko")
    console.axe()
    console.shot("application-add")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Copy the key")).to_have_count(2)
    console.axe()
    console.shot("application-add-keys")
    page.get_by_role("link", name="I have copied them: on to the provider credentials").click()
    expect(page.get_by_role("link", name="APNs")).to_be_visible()
    assert Application.objects.get(name="Bakery").api_keys.count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_an_application_fit_a_phone(browse, application, apns_key, scheme):
    secret = {"team_id": apns_key.team_id, "key_id": apns_key.key_id, "private_key": apns_key.p8}
    secret |= {"bundle_id": BUNDLE_ID, "environment": "both"}
    credential_create(application=application, provider="apns", name="Key of 2026", secret=secret)
    console = browse("owner", viewport=PHONE, color_scheme=scheme)
    for name in ("change", "keys", "credentials", "code"):
        console.open(place(name, application))
        console.shot(f"application-phone-{scheme}-{name}")
        console.fits()
    console.open(place("change", application) + "?tab=settings")
    console.shot(f"application-phone-{scheme}-settings")
    console.fits()
