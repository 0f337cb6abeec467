"""The words of notices, in English and Korean, for every channel. Dates are those of the application's time zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.models import ConsentEventType, ConsentNotice, NoticeKind
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.link_tokens import LinkPurpose, link_url, make_link_token

LANGUAGES = ("en", "ko")


class NoticeToSend(NamedTuple):
    """A notice for whoever can send it: to one subscription, that may wait for its confirmation (-98)."""

    id: UUID
    kind: str
    application: Application
    subscription_id: UUID
    channel: str
    language: str
    title: str
    body: str
    """HTML for e-mail, text elsewhere."""


class _Words(NamedTuple):
    title: str
    """With `{sender}`."""
    text: str
    """With `{sender}`, `{date}`, `{channel}`, `{what}`; the link follows."""
    link: str
    """The words of the link in HTML."""


_WORDS: Mapping[tuple[str, str], _Words] = {
    ("opt_in", "en"): _Words(
        "{sender}: please confirm",
        "Somebody, probably you, asked {sender} to write to this address. Confirm it by this link. "
        "If it was not you, do nothing: you will not hear from us again.",
        "Confirm",
    ),
    ("opt_in", "ko"): _Words(
        "{sender} 수신 확인",
        "{sender}의 메시지를 이 주소로 받겠다는 신청이 있었습니다. 아래 링크에서 확인해 주세요. "
        "신청하지 않으셨다면 아무것도 하지 않으셔도 됩니다. 더 이상 메시지가 발송되지 않습니다.",
        "확인하기",
    ),
    ("result", "en"): _Words(
        "{sender}: your choice about advertising",
        "{sender} has recorded on {date}: {what} ({channel}). You can change it here.",
        "Change my choices",
    ),
    ("result", "ko"): _Words(
        "{sender} 광고성 정보 수신 처리 결과",
        "[{sender}] {date} {channel} {what} 처리되었습니다. 아래 링크에서 변경하실 수 있습니다.",
        "수신 설정 변경",
    ),
    ("reconfirm", "en"): _Words(
        "{sender}: you agreed to advertising",
        "On {date} you agreed to get advertising from {sender} ({channel}). If that is still right, there is nothing "
        "to do: it stays as it is. You can withdraw here at any time.",
        "Keep or withdraw",
    ),
    ("reconfirm", "ko"): _Words(
        "{sender} 광고성 정보 수신동의 확인",
        "[{sender}] 고객님은 {date} {channel} 광고성 정보 수신에 동의하셨습니다. 수신동의를 유지하시려면 별도의 조치가 "
        "필요하지 않으며, 철회하시려면 아래 링크에서 변경하실 수 있습니다.",
        "수신동의 유지 또는 철회",
    ),
}
_WHAT: Mapping[tuple[str, str], str] = {
    (ConsentEventType.GIVEN, "en"): "you agree to advertising",
    (ConsentEventType.GIVEN, "ko"): "광고성 정보 수신동의가",
    (ConsentEventType.WITHDRAWN, "en"): "you no longer agree to advertising",
    (ConsentEventType.WITHDRAWN, "ko"): "광고성 정보 수신거부가",
    (ConsentEventType.NIGHT_GIVEN, "en"): "you agree to advertising at night (21:00 to 08:00)",
    (ConsentEventType.NIGHT_GIVEN, "ko"): "야간(21시~8시) 광고성 정보 수신동의가",
    (ConsentEventType.NIGHT_WITHDRAWN, "en"): "you no longer agree to advertising at night (21:00 to 08:00)",
    (ConsentEventType.NIGHT_WITHDRAWN, "ko"): "야간(21시~8시) 광고성 정보 수신거부가",
}
CHANNEL_NAMES: Mapping[tuple[str, str], str] = {
    (ChannelType.PUSH, "en"): "push notifications",
    (ChannelType.PUSH, "ko"): "앱 푸시",
    (ChannelType.EMAIL, "en"): "e-mail",
    (ChannelType.EMAIL, "ko"): "이메일",
    (ChannelType.SMS, "en"): "SMS",
    (ChannelType.SMS, "ko"): "문자메시지",
    (ChannelType.KAKAO_TALK, "en"): "KakaoTalk",
    (ChannelType.KAKAO_TALK, "ko"): "카카오톡",
    (ChannelType.IN_APP, "en"): "messages in the app",
    (ChannelType.IN_APP, "ko"): "인앱 메시지",
}


def language_of(*tags: str) -> str:
    """The first of these language tags that there are words in; English if none is."""
    for tag in tags:
        if (language := tag.partition("-")[0].lower()) in LANGUAGES:
            return language
    return "en"


def sender_name(application: Application) -> str:
    """Who sends, as people know them."""
    return str(application.settings.get("ad_sender_name") or application.name)


def shown_date(application: Application, moment: datetime, language: str) -> str:
    local = moment.astimezone(ZoneInfo(application.time_zone or "UTC"))
    return f"{local:%Y년 %m월 %d일}" if language == "ko" else f"{local.day} {local:%B %Y}"


def letter_of(notice: ConsentNotice, subscription: Subscription) -> NoticeToSend:
    """What a notice says to this subscription."""
    application = notice.application
    language = language_of(subscription.device_language, application.default_language)
    words = _WORDS[notice.kind, language]
    values = {
        "sender": sender_name(application),
        "date": shown_date(application, notice.said_at, language),
        "channel": CHANNEL_NAMES[notice.channel, language],
        "what": _WHAT.get((notice.what, language), ""),
    }
    text, link = words.text.format(**values), _link(notice, subscription)
    body = f"{text}\n{link}"
    if notice.channel == ChannelType.EMAIL:
        body = (
            f'<!doctype html><html lang="{language}"><body><p>{escape(text)}</p>'
            f'<p><a href="{escape(link)}">{escape(words.link)}</a></p></body></html>'
        )
    return NoticeToSend(
        id=notice.pk,
        kind=notice.kind,
        application=application,
        subscription_id=subscription.pk,
        channel=notice.channel,
        language=language,
        title=words.title.format(**values),
        body=body,
    )


def _link(notice: ConsentNotice, subscription: Subscription) -> str:
    if notice.kind == NoticeKind.OPT_IN:
        token = make_link_token(
            LinkPurpose.CONFIRM,
            subscription_id=subscription.pk,
            message_id=notice.about_id,
            expires_at=int(notice.due_at.timestamp()),
        )
        return link_url(LinkPurpose.CONFIRM, token)
    token = make_link_token(LinkPurpose.PREFERENCES, subscription_id=subscription.pk)
    return link_url(LinkPurpose.PREFERENCES, token)
