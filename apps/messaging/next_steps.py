"""What an operator does about a reason of failure: one table, from `error_reason` to words and the page that mends.

The provider's own words are looked up in the tables of the adapters: what an answer means to us (`Outcome`) says who
has something to do. A word that no table knows is told as what it is.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _

from apps.messaging import retry
from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.reasons import APNS, FCM
from apps.messaging.adapters.sms_reasons import NHN_SMS_REPLIES, NHN_SMS_REPORTS, SOLAPI, TWILIO
from apps.messaging.adapters.smtp_reasons import Reply, smtp_verdict
from apps.messaging.charges import OVER_QUOTA
from apps.messaging.courtesy.caps import CAPPED
from apps.messaging.courtesy.wanted import NO_CONSENT, OPTED_OUT, SUPPRESSED
from apps.messaging.requeue import ANOTHER_PERSONS, NO_CONTENT, UNREACHABLE
from apps.messaging.sweeps import TIMED_OUT


class NextStep(NamedTuple):
    """What it means and what to do; `page` is the list of the console that mends it, `app.Model`, empty for none."""

    text: Any
    page: str = ""
    link: Any = ""


_CREDENTIALS = ("tenants.ChannelCredential", _("Credentials"))
_TEMPLATES = ("messaging.MessageTemplate", _("Templates"))
_SUBSCRIPTIONS = ("subscriptions.Subscription", _("Subscriptions"))

OWN: dict[str, NextStep] = {
    OVER_QUOTA: NextStep(
        _("The quota or the credit was used up. Raise the quota or top up, then send the failed ones again."),
        "billing.MessageQuota",
        _("Quotas"),
    ),
    "no_credential": NextStep(
        _("The channel has no active credential. Add one, then send the failed ones again."), *_CREDENTIALS
    ),
    "token_unreadable": NextStep(
        _("The address cannot be decrypted: an encryption key is missing on the servers. Tell who runs the platform.")
    ),
    "attachment_missing": NextStep(
        _("A file that goes along was deleted. Upload it again and edit the template."),
        "messaging.MediaFile",
        _("Media"),
    ),
    NO_CONTENT: NextStep(
        _("A variable had no value for these people. Give it a default in the template, then send again."), *_TEMPLATES
    ),
    UNREACHABLE: NextStep(
        _("The subscription had ended before it was sent. Nothing to do: the person is not reached on this channel."),
        *_SUBSCRIPTIONS,
    ),
    ANOTHER_PERSONS: NextStep(_("The person has signed out of the device. Nothing to do.")),
    TIMED_OUT: NextStep(
        _("It was sent, and no receipt came in the time that the settings allow. The device may be off."),
    ),
    retry.EXPIRED: NextStep(
        _(
            "Its time to live ended before it could be sent. Look whether the queue or the provider was slow; "
            "give it longer to live."
        ),
    ),
    retry.CANCELED: NextStep(_("Somebody canceled it. Nothing to do.")),
    retry.UNKNOWN_OUTCOME: NextStep(
        _("The connection broke after it was handed over: it may have arrived. It is sent again only by hand.")
    ),
    retry.OVERTAKEN: NextStep(_("The chain went on to the next channel. Nothing to do.")),
    retry.ALREADY_REACHED: NextStep(_("An earlier step of the chain has reached the person. Nothing to do.")),
    CAPPED: NextStep(_("The person had as many messages as the cap allows. Nothing to do, or raise the cap.")),
    NO_CONSENT: NextStep(
        _("Advertising needs the person's consent, and there is none."), "subscriptions.MarketingConsent", _("Consents")
    ),
    OPTED_OUT: NextStep(
        _("The person has opted out of this category. Nothing to do."), "subscriptions.Preference", _("Preferences")
    ),
    SUPPRESSED: NextStep(
        _("The address is on the suppression list, after a bounce or a complaint."),
        "subscriptions.Suppression",
        _("Suppression list"),
    ),
    "TooManyRequests": NextStep(_("Too many messages to one device. They are tried again by themselves; send fewer.")),
    "QUOTA_EXCEEDED": NextStep(
        _("The provider's quota is used up. Sending slows down by itself; ask the provider for more."), *_CREDENTIALS
    ),
    "PayloadTooLarge": NextStep(_("The content is larger than the provider takes. Make it shorter."), *_TEMPLATES),
    "BadDeviceToken": NextStep(
        _(
            "The tokens are not of this app, or of the other environment (sandbox or production). Check the bundle id "
            "and the environment of the credential."
        ),
        *_CREDENTIALS,
    ),
    "ExpiredProviderToken": NextStep(
        _("The provider says our key's token has expired: the clock of a server is wrong, or the key was revoked."),
        *_CREDENTIALS,
    ),
}
"""Reasons that are ours, and the provider's that have a step of their own."""

BY_OUTCOME: dict[Outcome, NextStep] = {
    Outcome.RECIPIENT_GONE: NextStep(
        _("The app was removed or the address is dead. The subscription was ended by itself: nothing to do."),
        *_SUBSCRIPTIONS,
    ),
    Outcome.RECIPIENT_MISMATCH: NextStep(
        _("The addresses do not fit the credential: another app, project or environment. Check the credential."),
        *_CREDENTIALS,
    ),
    Outcome.PAYLOAD_REJECTED: NextStep(
        _("The provider does not take this content. Read its answer on one of the messages and edit the content."),
        *_TEMPLATES,
    ),
    Outcome.CREDENTIAL: NextStep(
        _("The provider refuses the credential. Replace or mend it, then send the failed ones again."), *_CREDENTIALS
    ),
    Outcome.THROTTLED: NextStep(
        _("The provider was asked too much, also at the last attempt. Send the failed ones again, more slowly.")
    ),
    Outcome.TRANSIENT: NextStep(
        _("The provider had trouble, also at the last attempt. When it works again, send the failed ones again.")
    ),
    Outcome.UNSUPPORTED: NextStep(_("The provider has no such function. Choose another channel or content.")),
    Outcome.UNKNOWN: NextStep(_("No answer came: it may have arrived.")),
}
UNKNOWN = NextStep(_("The provider's own word. Open one of the messages for its whole answer."))


def next_step(reason: str) -> NextStep:
    """What to do about messages that failed of `reason`."""
    word = reason.partition(": ")[0] if reason.startswith(NO_CONTENT) else reason
    if word in OWN:
        return OWN[word]
    outcome = _outcomes().get(word)
    if outcome is None and _ENHANCED.fullmatch(word):
        outcome = smtp_verdict(Reply(550 if word[0] == "5" else 450, word, "")).outcome
    return BY_OUTCOME.get(outcome, UNKNOWN) if outcome else UNKNOWN


_ENHANCED = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
"""The reason of a mail server: its enhanced status code."""


@cache
def _outcomes() -> dict[str, Outcome]:
    """What the providers' words mean; of a word that two providers use, the push providers' meaning."""
    found: dict[str, Outcome] = {outcome.value: outcome for outcome in Outcome}
    for table in (NHN_SMS_REPORTS, NHN_SMS_REPLIES, SOLAPI, TWILIO):
        found |= {code: verdict.outcome for code, verdict in table.items()}
    for push in (FCM, APNS):
        found |= {word: verdict.outcome for (_status, word), verdict in push.items() if word}
    return found
