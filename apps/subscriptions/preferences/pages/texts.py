"""What the hosted pages say, in English and Korean, and which of the two somebody gets."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest
from django.utils.translation.trans_real import parse_accept_lang_header

from apps.subscriptions.preferences.letters import LANGUAGES, language_of

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "unsubscribe": "Unsubscribe",
        "unsubscribe_ask": "Shall nothing be sent to {address} ({channel}) any more?",
        "unsubscribe_category_ask": "Shall “{category}” not be sent to {address} ({channel}) any more?",
        "unsubscribe_button": "Unsubscribe",
        "unsubscribed": "You are unsubscribed. {sender} sends nothing to {address} ({channel}) any more.",
        "unsubscribed_category": "“{category}” is not sent to {address} ({channel}) any more.",
        "recorded": "{sender} recorded this on {date}.",
        "all_choices": "All my choices",
        "preferences": "What you want to get",
        "preferences_of": "Messages by {sender}",
        "linked": "This page is for {address} ({channel}).",
        "saved": "Your choices are saved.",
        "save": "Save",
        "advertising": "Advertising",
        "advertising_help": "I agree to get advertising. I can withdraw at any time.",
        "advertising_elsewhere": "It can be agreed to in the app, or by a link that came on this channel.",
        "night": "Advertising at night as well (21:00 to 08:00, Korea)",
        "always": "always sent",
        "nothing": "There is nothing to choose.",
        "all": "Unsubscribe from all",
        "all_help": "Everything that can be refused is, on every channel, and nothing is sent to {address} any more.",
        "ended": "Nothing is sent to {address} at present.",
        "waiting": "{address} waits for being confirmed by the link that was sent to it.",
        "back": "Send me messages again",
        "back_asked": "A link was sent to {address}. Open it to confirm.",
        "back_refused": "That is not possible by this page. Please write to {sender}.",
        "confirm": "Confirm your address",
        "confirm_ask": "Do you want to get messages by {sender} at {address} ({channel})?",
        "confirm_button": "Yes, confirm",
        "confirmed": "Thank you. {address} is confirmed.",
        "gone": "This link does not work",
        "gone_text": "It is not whole, or what it was for is no more.",
        "expired": "This link has expired",
        "expired_text": "Please ask for a new one where you signed up.",
        "busy": "Too many requests",
        "busy_text": "Please try again in a minute.",
        "other_language": "한국어",
    },
    "ko": {
        "unsubscribe": "수신 거부",
        "unsubscribe_ask": "{address} ({channel})(으)로 더 이상 메시지를 받지 않으시겠습니까?",
        "unsubscribe_category_ask": "{address} ({channel})(으)로 ‘{category}’ 메시지를 더 이상 받지 않으시겠습니까?",
        "unsubscribe_button": "수신 거부",
        "unsubscribed": "수신 거부되었습니다. {sender}에서 더 이상 {address} ({channel})(으)로 보내지 않습니다.",
        "unsubscribed_category": "{address} ({channel})(으)로 ‘{category}’ 메시지를 더 이상 보내지 않습니다.",
        "recorded": "{sender}에서 {date}에 처리하였습니다.",
        "all_choices": "전체 수신 설정",
        "preferences": "수신 설정",
        "preferences_of": "{sender}의 메시지",
        "linked": "{address} ({channel}) 수신 설정입니다.",
        "saved": "설정이 저장되었습니다.",
        "save": "저장",
        "advertising": "광고성 정보",
        "advertising_help": "광고성 정보 수신에 동의합니다. 언제든지 철회할 수 있습니다.",
        "advertising_elsewhere": "앱 또는 이 채널로 받은 링크에서 동의하실 수 있습니다.",
        "night": "야간(21시~8시) 광고성 정보 수신에도 동의합니다.",
        "always": "항상 발송",
        "nothing": "선택할 항목이 없습니다.",
        "all": "모두 수신 거부",
        "all_help": "모든 채널에서 거부할 수 있는 메시지를 거부하고, {address}(으)로 더 이상 메시지를 보내지 않습니다.",
        "ended": "현재 {address}(으)로 메시지를 보내지 않습니다.",
        "waiting": "{address}(으)로 발송된 링크에서 확인하시면 메시지를 받으실 수 있습니다.",
        "back": "다시 메시지 받기",
        "back_asked": "{address}(으)로 링크를 보냈습니다. 링크를 열어 확인해 주세요.",
        "back_refused": "이 페이지에서는 변경할 수 없습니다. {sender}에 문의해 주세요.",
        "confirm": "주소 확인",
        "confirm_ask": "{address} ({channel})(으)로 {sender}의 메시지를 받으시겠습니까?",
        "confirm_button": "네, 확인합니다",
        "confirmed": "감사합니다. {address} 확인되었습니다.",
        "gone": "사용할 수 없는 링크입니다",
        "gone_text": "주소가 올바르지 않거나 더 이상 유효하지 않습니다.",
        "expired": "만료된 링크입니다",
        "expired_text": "가입하신 곳에서 다시 요청해 주세요.",
        "busy": "요청이 너무 많습니다",
        "busy_text": "잠시 후 다시 시도해 주세요.",
        "other_language": "English",
    },
}


def language_for(request: HttpRequest, *otherwise: str) -> str:
    """`?lang=` if it is one of ours, else what the browser asks for, else the first of `otherwise`."""
    wanted = request.GET.get("lang", "")
    if wanted in LANGUAGES:
        return wanted
    accepted = parse_accept_lang_header(request.headers.get("Accept-Language", "")[:500].lower())
    return language_of(*(tag for tag, quality in accepted if quality > 0), *otherwise)
