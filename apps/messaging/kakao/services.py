"""Kakao channels and templates, in step with the provider: read from it, registered and inspected through it.

The provider is asked first, outside of any transaction; what it answered is written then. Nothing is believed to be
approved that the provider has not said.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.messaging.adapters.gateway_calls import CallFailed, CallRefused
from apps.messaging.adapters.kakao_content import TEXT_MAX, variables_of
from apps.messaging.kakao.models import ChannelState, KakaoChannel, KakaoTemplate, TemplateState
from apps.messaging.kakao.remote import (
    REMOTES,
    NewTemplate,
    Remote,
    RemoteChannel,
    RemoteTemplate,
    comments_of,
    state_of,
)
from apps.tenants.models import Application, ChannelCredential
from automata_signal.encryption import DecryptionError
from automata_signal.errors import Conflict, NotFound, Unavailable, ValidationFailed

log = logging.getLogger(__name__)

BUTTONS_MAX, BUTTON_NAME_MAX, VARIABLES_MAX = 5, 14, 40
BUTTON_TYPES = ("WL", "AL", "DS", "AC", "BK", "MD", "BT", "BC")
BUTTON_LINKS = ("link_mobile", "link_pc", "scheme_android", "scheme_ios")
_CODE = re.compile(r"[A-Za-z0-9_\-]{1,20}")
_FIELDS = (
    *("name", "content", "state", "provider_state", "message_type", "emphasis", "title", "subtitle", "header", "extra"),
    *("items", "buttons", "quick_replies", "comments", "is_dormant"),
)
_LENGTHS = {"name": 150, "title": 200, "subtitle": 200, "header": 100, "provider_state": 32}


class SyncCounts(NamedTuple):
    channels: int
    templates: int
    failed: int
    """Credentials whose provider did not answer."""


# --- In step with the provider -------------------------------------------------------------------------------------


def kakao_sync(*, application: Application) -> SyncCounts:
    """Read the channels and templates of every Kakao credential of the application. Raises `Unavailable` if no provider
    answered, `Conflict` without a credential."""
    credentials = list(_credentials().filter(application=application))
    if not credentials:
        raise Conflict("The application has no active credential for Alimtalk.", code="NO_CREDENTIAL")
    counts, problems = SyncCounts(0, 0, 0), []
    for credential in credentials:
        try:
            channels, templates = credential_sync(credential=credential)
            counts = SyncCounts(counts.channels + channels, counts.templates + templates, counts.failed)
        except (CallFailed, DecryptionError) as error:
            problems.append(str(error))
    if len(problems) == len(credentials):
        raise Unavailable(f"The provider did not answer as expected: {problems[0]}")
    return counts._replace(failed=len(problems))


def sync_all() -> int:
    """Every active Kakao credential; how many could be read. What one provider does not answer holds up no other."""
    done = 0
    for credential in _credentials():
        try:
            credential_sync(credential=credential)
            done += 1
        except (CallFailed, DecryptionError) as error:
            log.warning(
                "Kakao templates could not be read", extra={"provider": credential.provider, "cause": str(error)}
            )
    return done


def _credentials() -> Any:
    return ChannelCredential.objects.filter(provider__in=REMOTES, is_active=True).order_by("position", "id")


def credential_sync(*, credential: ChannelCredential) -> tuple[int, int]:
    """Channels and templates of one credential; how many of each there are now. Raises `CallFailed`."""
    remote, secret = REMOTES[credential.provider], credential.secret
    channels = remote.channels(secret)
    templates = {channel.sender_key: remote.templates(secret, channel.sender_key) for channel in channels}
    with transaction.atomic():
        ChannelCredential.objects.select_for_update().get(pk=credential.pk)  # two syncs write one after the other
        for channel in channels:
            row = _channel_write(credential, channel)
            for template in templates[channel.sender_key]:
                _template_write(row, template)
            known = [template.code for template in templates[channel.sender_key]]
            row.templates.exclude(code__in=known).update(state=TemplateState.GONE)
        gone = KakaoChannel.objects.filter(credential=credential)
        gone.exclude(sender_key__in=[channel.sender_key for channel in channels]).update(state=ChannelState.GONE)
    return len(channels), sum(map(len, templates.values()))


def _channel_write(credential: ChannelCredential, channel: RemoteChannel) -> KakaoChannel:
    row, _ = KakaoChannel.objects.update_or_create(
        credential=credential,
        sender_key=channel.sender_key[:64],
        defaults={
            "application_id": credential.application_id,
            "provider": credential.provider,
            "search_id": channel.search_id[:100],
            "state": channel.state,
            "synced_at": timezone.now(),
        },
    )
    return row


def _template_write(channel: KakaoChannel, template: RemoteTemplate) -> KakaoTemplate:
    given = asdict(template)
    values = {name: given[name] for name in _FIELDS}
    values |= {name: values[name][:length] for name, length in _LENGTHS.items()}
    row, _ = KakaoTemplate.objects.update_or_create(
        channel=channel,
        code=template.code[:64],
        defaults={**values, "application_id": channel.application_id, "synced_at": timezone.now()},
    )
    return row


def template_event(application_id: UUID, provider: str, event: Mapping[str, Any]) -> None:
    """What a provider says of a template by webhook (NHN Cloud). Its text is read at the next sync; a decision counts
    at once."""
    state = state_of(str(event.get("status") or ""))
    if event.get("kind") != "template" or state is None:
        return
    KakaoTemplate.objects.filter(
        application_id=application_id,
        channel__credential_id=event["credential_id"],
        channel__sender_key=str(event.get("senderKey") or ""),
        code=str(event.get("templateCode") or ""),
    ).update(
        state=state,
        provider_state=str(event["status"]),
        comments=comments_of(event),
        synced_at=timezone.now(),
    )


# --- Registering and inspection ------------------------------------------------------------------------------------


def template_register(
    *,
    application: Application,
    channel_id: UUID,
    name: str,
    content: str,
    code: str = "",
    category: str = "",
    title: str = "",
    subtitle: str = "",
    extra: str = "",
    buttons: Sequence[Mapping[str, str]] = (),
) -> KakaoTemplate:
    """Register a template with the provider; NHN Cloud has it inspected at once, Solapi when it is asked to.

    Raises `ValidationFailed` for what Kakao would refuse, `Conflict` for what the provider refuses, `Unavailable` if it
    does not answer.
    """
    channel = channel_get(application=application, channel_id=channel_id)
    _check_new(channel, code, name, content, title, buttons)
    new = NewTemplate(code, name, content, category, title, subtitle, extra, tuple(buttons))
    remote, secret = _remote(channel)
    registered = _asked(lambda: remote.register(secret, channel.sender_key, new))
    return _read_again(channel, registered)


def template_request_inspection(*, template: KakaoTemplate, comment: str = "") -> KakaoTemplate:
    """Have Kakao inspect it. Raises `Conflict` if its state does not allow that, or the provider refuses."""
    if template.state not in (TemplateState.DRAFT, TemplateState.REJECTED):
        raise Conflict(f"The template is {template.get_state_display().lower()}.", code="TEMPLATE_STATE")
    remote, secret = _remote(template.channel)
    _asked(lambda: remote.request_inspection(secret, template.channel.sender_key, template.code, comment[:500]))
    return _read_again(template.channel, template.code)


def template_cancel_inspection(*, template: KakaoTemplate) -> KakaoTemplate:
    """Take it back to be changed. Raises `Conflict` if it is not under inspection, or the provider cannot."""
    if template.state not in (TemplateState.REQUESTED, TemplateState.REVIEWING):
        raise Conflict(f"The template is {template.get_state_display().lower()}.", code="TEMPLATE_STATE")
    remote, secret = _remote(template.channel)
    _asked(lambda: remote.cancel_inspection(secret, template.channel.sender_key, template.code))
    return _read_again(template.channel, template.code)


def template_delete(*, template: KakaoTemplate) -> None:
    """Delete it at the provider and here; one that is gone there is deleted here only. Raises `Conflict` for an
    approved one, which messages that are under way name."""
    if template.state == TemplateState.APPROVED:
        raise Conflict("An approved template is deleted at the provider.", code="TEMPLATE_STATE")
    if template.state != TemplateState.GONE:
        remote, secret = _remote(template.channel)
        _asked(lambda: remote.delete(secret, template.channel.sender_key, template.code))
    template.delete()


def _remote(channel: KakaoChannel) -> tuple[Remote, Mapping[str, Any]]:
    return REMOTES[channel.provider], channel.credential.secret


def _asked(call: Any) -> Any:
    """What the provider answers; its refusals and failures in our words."""
    try:
        return call()
    except CallRefused as error:
        raise Conflict(f"The provider refuses: {error}", code="PROVIDER_REFUSED") from None
    except CallFailed as error:
        raise Unavailable(f"The provider did not answer: {error}") from None


def _read_again(channel: KakaoChannel, code: str) -> KakaoTemplate:
    """As the provider has it now."""
    remote, secret = _remote(channel)
    found = _asked(lambda: remote.template(secret, channel.sender_key, code))
    return _template_write(channel, found)


def _check_new(
    channel: KakaoChannel, code: str, name: str, content: str, title: str, buttons: Sequence[Mapping[str, str]]
) -> None:
    if channel.provider == "nhn_kakao" and not _CODE.fullmatch(code):
        raise ValidationFailed.of("code", "must be 1 to 20 letters, digits, - or _; NHN Cloud leaves it to us")
    if channel.provider == "solapi_kakao" and code:
        raise ValidationFailed.of("code", "is given by Solapi; leave it empty")
    if not name.strip():
        raise ValidationFailed.of("name", "is empty")
    if not content.strip():
        raise ValidationFailed.of("content", "is empty")
    if len(content) > TEXT_MAX:
        raise ValidationFailed.of("content", f"has {len(content)} characters; an Alimtalk has {TEXT_MAX}")
    for field, text in (("content", content), ("title", title)):
        if text.count("#{") != len(re.findall(r"#\{[^{}]+\}", text)):
            raise ValidationFailed.of(field, "has a variable that is not closed, or has no name: #{name}")
    if len(variables_of(content)) > VARIABLES_MAX:
        raise ValidationFailed.of("content", f"has more than {VARIABLES_MAX} variables")
    if len(buttons) > BUTTONS_MAX:
        raise ValidationFailed.of("buttons", f"are more than {BUTTONS_MAX}")
    for index, button in enumerate(buttons):
        _check_button(button, f"buttons.{index}")


def _check_button(button: Mapping[str, str], field: str) -> None:
    for name, value in button.items():
        if name not in ("type", "name", *BUTTON_LINKS):
            raise ValidationFailed.of(f"{field}.{name}", f"is none of type, name, {', '.join(BUTTON_LINKS)}")
        if not isinstance(value, str) or len(value) > 500:
            raise ValidationFailed.of(f"{field}.{name}", "must be a text of up to 500 characters")
    if button.get("type") not in BUTTON_TYPES:
        raise ValidationFailed.of(f"{field}.type", f"must be one of {', '.join(BUTTON_TYPES)}")
    if not 1 <= len(button.get("name", "")) <= BUTTON_NAME_MAX:
        raise ValidationFailed.of(f"{field}.name", f"must have 1 to {BUTTON_NAME_MAX} characters")
    if button["type"] == "WL" and not button.get("link_mobile", "").startswith(("http://", "https://", "#{")):
        raise ValidationFailed.of(f"{field}.link_mobile", "must be an address that begins with http:// or https://")
    if button["type"] == "AL" and sum(bool(button.get(name)) for name in BUTTON_LINKS) < 2:
        raise ValidationFailed.of(f"{field}.scheme_android", "an app link has at least two of its addresses")


# --- Reading -------------------------------------------------------------------------------------------------------


def channel_get(*, application: Application, channel_id: UUID) -> KakaoChannel:
    rows = KakaoChannel.objects.for_application(application).select_related("credential")
    found = rows.filter(pk=channel_id).first()
    if found is None:
        raise NotFound("There is no such Kakao channel.")
    return found


def template_get(*, application: Application, template_id: UUID) -> KakaoTemplate:
    rows = KakaoTemplate.objects.for_application(application).select_related("channel__credential")
    found = rows.filter(pk=template_id).first()
    if found is None:
        raise NotFound("There is no such Alimtalk template.")
    return found
