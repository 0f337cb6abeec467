"""Where each provider shows what a credential consists of, step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Provider


class Guide(NamedTuple):
    provider: str
    label: Any
    steps: tuple[Any, ...]
    note: Any = ""


_STEPS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "apns": (
        (
            _("Sign in at developer.apple.com with an account that may manage keys."),
            _("Open “Certificates, Identifiers & Profiles”, then “Keys”, and add a key with the Apple Push "
              "Notifications service."),
            _("Download the .p8 file: Apple gives it out once. The key id stands beside it."),
            _("The team id is at the top right, below your name; the bundle id is your app's, as in Xcode."),
            _("Choose “Production and sandbox” unless Apple restricted the key to one environment."),
        ),
        _("Keys of this kind (.p8) do not expire; Apple allows two for a team."),
    ),
    "fcm": (
        (
            _("Open console.firebase.google.com and choose the project of your Android app."),
            _("Open the project's settings (the wheel), then “Service accounts”."),
            _("Choose “Generate new private key” and keep the JSON file."),
            _("In Google Cloud, the “Firebase Cloud Messaging API (V1)” has to be enabled for the project."),
        ),
        _("The key does not expire, unless your organisation's policy says so."),
    ),
    "smtp": (
        (
            _("Ask whoever runs the mail server for its name, its port and how it encrypts."),
            _("Port 587 usually takes STARTTLS, port 465 TLS."),
            _("Make a user for this platform alone, with a password of its own."),
            _("The sender's address must be of a domain that the server may send for (SPF, DKIM)."),
        ),
        "",
    ),
    "anymail": (
        (
            _("Verify the domain that you send from at the provider first: it gives you entries for your DNS."),
            _("SendGrid: Settings → API Keys; the key needs “Mail Send”."),
            _("Mailgun: Sending → Domain settings → Sending API keys; the region is us or eu."),
            _("Postmark: Servers → your server → API Tokens."),
            _("Brevo: SMTP & API → API Keys. Resend: API Keys, with “Sending access”."),
            _("Amazon SES: an IAM user with ses:SendEmail and ses:SendRawEmail, and an access key of it."),
        ),
        _("For reports, enter this credential's webhook address at the provider; docs/email.md has the details."),
    ),
    "solapi": (
        (
            _("Sign in at console.solapi.com and open “API Key”."),
            _("Make a key, and keep key and secret."),
            _("Register the sender number under “Sender numbers”; unregistered numbers are refused by law."),
            _("Under “Webhook”, enter a secret of your own; type the same one here."),
        ),
        "",
    ),
    "solapi_kakao": (
        (
            _("Sign in at console.solapi.com and open “API Key”."),
            _("Connect your Kakao channel under “Kakao channels”."),
            _("Its approved templates are read from there by this platform."),
        ),
        "",
    ),
    "twilio": (
        (
            _("Sign in at console.twilio.com; account SID and auth token are on the first page."),
            _("Buy a number under “Phone numbers”, or make a Messaging Service."),
            _("An API key (SK…) is better than the token for sending, and optional; the token is needed all the same."),
        ),
        "",
    ),
    "nhn_sms": (
        (
            _("Open NHN Cloud's console: Notification → SMS."),
            _("App key and secret key are behind “URL & Appkey”."),
            _("Register the sender number under “Sender numbers”."),
        ),
        "",
    ),
    "nhn_kakao": (
        (
            _("Open NHN Cloud's console: Notification → KakaoTalk Bizmessage."),
            _("App key and secret key are behind “URL & Appkey”."),
            _("Register the sender profile (Kakao channel) there."),
        ),
        "",
    ),
}  # fmt: skip


def guide_of(provider: str) -> Guide | None:
    if provider not in _STEPS:
        return None
    steps, note = _STEPS[provider]
    return Guide(provider, Provider(provider).label, steps, note)


def guides() -> list[Guide]:
    return [guide for provider in _STEPS if (guide := guide_of(provider)) is not None]
