"""Every `subscription_status` of the specification: its group, its meaning, and who may set it (section 3.3)."""

from __future__ import annotations

import enum
from typing import NamedTuple

from django.db import models
from django.utils.translation import gettext_lazy as _


class Setter(enum.StrEnum):
    """Who may give a subscription a status."""

    DEVICE = "device"
    """The SDK, with a publishable key and the subscription's handle."""
    PROVIDER = "provider"
    """A provider's answer or webhook."""
    PERSON = "person"
    """The user by the app's settings, the app server, or an operator."""


class StatusGroup(enum.Enum):
    """The ranges of the specification; the value is its `error_code_range`."""

    BASIC = "other"
    PUSH = "push_error"
    EMAIL = "email_error"
    SMS = "sms_error"
    KAKAO = "kakao_error"
    IN_APP = "in_app_error"

    @property
    def error_code_range(self) -> str:
        return self.value


def group_of(status: int) -> StatusGroup:
    """The group of any code, known or not."""
    ranges = [(-24, -3, StatusGroup.PUSH), (-49, -40, StatusGroup.EMAIL), (-59, -50, StatusGroup.SMS)]
    ranges += [(-69, -60, StatusGroup.KAKAO), (-79, -70, StatusGroup.IN_APP)]
    for low, high, group in ranges:
        if low <= status <= high:
            return group
    return StatusGroup.BASIC


class SubscriptionStatus(models.IntegerChoices):
    SUBSCRIBED = 1, _("Subscribed")
    NEVER_SUBSCRIBED = 0, _("Never subscribed")
    UNSUBSCRIBED = -2, _("Unsubscribed")
    ANDROID_SUPPORT_LIBRARY_MISSING = -3, _("Android support library missing")
    GOOGLE_PLAY_SERVICES_LIBRARY_MISSING = -4, _("Google Play services library missing")
    ANDROID_SUPPORT_LIBRARY_OUTDATED = -5, _("Android support library outdated")
    FCM_SENDER_ID_MISMATCH = -6, _("FCM sender id does not match the token")
    GOOGLE_PLAY_SERVICES_APP_OUTDATED = -7, _("Google Play services app outdated")
    FCM_REGISTRATION_ERROR = -8, _("Google Play services library must be upgraded (registration)")
    GOOGLE_PLAY_SERVICES_NOT_AVAILABLE = -9, _("Google Play services app must be updated")
    NOT_SUBSCRIBED = -10, _("App removed, or notifications turned off in the device's settings")
    FCM_AUTHENTICATION_ERROR = -11, _("Google Play services library must be upgraded (authentication)")
    FCM_SERVICE_NOT_AVAILABLE = -12, _("Google Play services library must be upgraded (service)")
    IOS_PUSH_CAPABILITY_MISSING = -13, _("iOS push capability missing")
    APNS_BAD_DEVICE_TOKEN = -14, _("APNs refused the device token")
    IOS_SIMULATOR = -15, _("iOS simulator without push (16.4 or later is needed)")
    APNS_TOKEN_NOT_FOR_TOPIC = -16, _("APNs token belongs to another app")
    APNS_CONNECTION_ERROR = -17, _("The device could not reach APNs")
    PERMISSION_NOT_REQUESTED = -18, _("Permission was never asked for")
    PERMISSION_NOT_ANSWERED = -19, _("Permission was asked for and not answered")
    WEB_PERMISSION_REVOKED = -20, _("Web push permission revoked")
    WEB_RECORD_TEMPORARY = -21, _("Web push record in a temporary state")
    MANUALLY_UNSUBSCRIBED = -22, _("The user revoked permission")
    WEB_SERVICE_WORKER_ERROR = -23, _("Web service worker error")
    WEB_SERVICE_WORKER_MISSING = -24, _("Web service worker missing")
    DISABLED_BY_API = -31, _("Disabled by the REST API or an operator")
    EMAIL_INVALID = -40, _("E-mail address is not valid")
    EMAIL_FAILED = -41, _("E-mail could not be sent")
    EMAIL_HARD_BOUNCE = -42, _("Hard bounce")
    EMAIL_SOFT_BOUNCE = -43, _("Soft bounce")
    EMAIL_COMPLAINT = -44, _("Reported as spam")
    EMAIL_OPTED_OUT = -45, _("Unsubscribed by a link in an e-mail")
    SMS_INVALID = -50, _("Phone number is not valid")
    SMS_FAILED = -51, _("SMS could not be sent")
    SMS_NUMBER_MISSING = -52, _("Phone number does not exist")
    SMS_NETWORK_ERROR = -53, _("Carrier network error")
    SMS_BLOCKED = -54, _("Blocked by the recipient")
    SMS_SENDER_RESTRICTED = -55, _("Sender number is restricted")
    KAKAO_NOT_A_USER = -60, _("Not a KakaoTalk user")
    KAKAO_BLOCKED = -61, _("Alimtalk blocked by the recipient")
    KAKAO_NOT_A_FRIEND = -62, _("Not a friend of the business account")
    KAKAO_TEMPLATE_NOT_APPROVED = -63, _("Alimtalk template not approved")
    KAKAO_LIMIT_EXCEEDED = -64, _("Daily Alimtalk limit exceeded")
    KAKAO_CHANNEL_ERROR = -65, _("Kakao business channel error")
    IN_APP_VERSION_MISMATCH = -70, _("App version not supported")
    IN_APP_DISABLED_BY_USER = -71, _("In-app messages turned off by the user")
    IN_APP_CONDITIONS_NOT_MET = -72, _("Display conditions not met")
    IN_APP_STORAGE_FULL = -73, _("Not enough storage on the device")
    IN_APP_SDK_ERROR = -74, _("In-app SDK did not start")
    OPT_IN_PENDING = -98, _("Waiting for double opt-in")
    NOT_YET_SUBSCRIBED = -99, _("Not yet subscribed")


class StatusRule(NamedTuple):
    korean: str
    setters: frozenset[Setter]


def _rules() -> dict[int, StatusRule]:
    device, provider, person = Setter.DEVICE, Setter.PROVIDER, Setter.PERSON
    table: list[tuple[int, str, set[Setter]]] = [
        (1, "구독됨", {device, person}),
        (0, "구독된 적 없음", {device, person}),
        (-2, "구독 취소됨", {device, person}),
        (-3, "Android 지원 라이브러리 누락", {device}),
        (-4, "Google Play 서비스 라이브러리 누락", {device}),
        (-5, "Android 지원 라이브러리 업데이트 필요", {device}),
        (-6, "잘못된 프로젝트 번호 (FCMv1 Sender ID 불일치)", {device, provider}),
        (-7, "Google Play 서비스 앱 구버전", {device}),
        (-8, "Google Play 서비스 라이브러리 업그레이드 필요 (등록)", {device}),
        (-9, "Google Play 서비스 앱 업데이트 필요", {device}),
        (-10, "구독되지 않음 (앱 제거 또는 기기 설정)", {device, provider}),
        (-11, "Google Play 서비스 라이브러리 업그레이드 필요 (인증)", {device}),
        (-12, "Google Play 서비스 라이브러리 업그레이드 필요 (서비스)", {device}),
        (-13, "iOS 푸시 기능 누락", {device}),
        (-14, "APNs가 기기 토큰을 거부함", {device, provider}),
        (-15, "iOS 시뮬레이터 오류 (16.4 이상 필요)", {device}),
        (-16, "APNs 토큰이 다른 앱의 것임", {device, provider}),
        (-17, "기기가 APNs에 연결하지 못함", {device}),
        (-18, "권한 요청 안됨", {device}),
        (-19, "권한 요청 무응답", {device}),
        (-20, "웹 푸시 권한 철회됨", {device}),
        (-21, "웹 레코드 임시 상태", {device}),
        (-22, "수동 구독 취소", {device, person}),
        (-23, "웹 서비스 워커 오류", {device}),
        (-24, "웹 서비스 워커 누락", {device}),
        (-31, "API를 통해 비활성화됨", {person}),
        (-40, "유효하지 않은 이메일", {provider}),
        (-41, "이메일 전송 실패", {provider}),
        (-42, "하드 바운스", {provider}),
        (-43, "소프트 바운스", {provider}),
        (-44, "스팸으로 신고됨", {provider}),
        (-45, "수신 거부", {provider, person}),
        (-50, "유효하지 않은 전화번호", {provider}),
        (-51, "SMS 전송 실패", {provider}),
        (-52, "번호 없음", {provider}),
        (-53, "네트워크 오류", {provider}),
        (-54, "차단됨", {provider, person}),
        (-55, "발신 번호 제한", {provider}),
        (-60, "카카오톡 미사용자", {provider}),
        (-61, "알림톡 차단", {provider, person}),
        (-62, "친구 추가 안됨", {provider}),
        (-63, "템플릿 미승인", {provider}),
        (-64, "발송 한도 초과", {provider}),
        (-65, "채널 오류", {provider}),
        (-70, "앱 버전 불일치", {device}),
        (-71, "사용자 설정에 의한 비활성화", {device, person}),
        (-72, "표시 조건 불일치", {device}),
        (-73, "기기 저장공간 부족", {device}),
        (-74, "SDK 초기화 실패", {device}),
        (-98, "이중 확인 대기 중", {person}),
        (-99, "구독된 적 없음 (초기 상태)", {device, person}),
    ]
    return {code: StatusRule(korean, frozenset(setters)) for code, korean, setters in table}


RULES = _rules()
"""Korean meaning and setters by code; the English meaning is the label of `SubscriptionStatus`."""

STICKY = frozenset({SubscriptionStatus.MANUALLY_UNSUBSCRIBED, SubscriptionStatus.DISABLED_BY_API})
"""Set by a person or the API, these survive what the SDK reports later."""


def may_set(status: int, setter: Setter) -> bool:
    """Whether `setter` may give a subscription this status; unknown codes may be set by nobody."""
    rule = RULES.get(status)
    return rule is not None and setter in rule.setters
