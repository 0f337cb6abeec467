"""What the demo shop did in the last thirty days: who works there, whom they wrote to, and what."""

from __future__ import annotations

from typing import Any, NamedTuple

from apps.campaigns.models import CampaignStatus
from apps.messaging.models import Purpose
from apps.subscriptions.models import SubscriptionType
from apps.tenants.channels import ChannelType
from apps.tenants.models import Role

DOMAIN = "demo-shop.example"
TEAM = (
    ("hana.kim", "김하나", Role.OWNER),
    ("jun.park", "박준", Role.MANAGER),
    ("soyeon.lee", "이소연", Role.MARKETER),
    ("minho.choi", "최민호", Role.ANALYST),
    ("yuna.jung", "정유나", Role.SUPPORT),
)
"""Name of the mailbox, of the person, role. Their password is the demo operator's."""
MARKETER = f"soyeon.lee@{DOMAIN}"

TESTERS = tuple(f"customer-{place:07d}" for place in range(1, 9))
"""Who gets what is sent as a test."""

CATEGORIES = (
    ("offers", "Offers", "할인과 혜택"),
    ("new-in", "New arrivals", "신상품 소식"),
    ("orders", "Orders", "주문 안내"),
)

SEGMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("VIP customers", "Who is on the plan “pro”", {"field": "tags.vip", "op": "eq", "value": True}),
    (
        "Korea, active this month",
        "Opened the app in the last 30 days",
        {
            "all": [
                {"field": "country", "op": "eq", "value": "KR"},
                {"field": "last_active_at", "op": "within", "value": "30d"},
            ]
        },
    ),
    ("On the new app", "Version 3 and later", {"field": "app_version", "op": "gte", "value": "3.0"}),
    (
        "Seoul and Busan",
        "For the two stores",
        {"any": [{"field": "tags.city", "op": "eq", "value": city} for city in ("Seoul", "Busan")]},
    ),
)

TEMPLATES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "주문 완료",
        (
            ("주문이 완료되었습니다", "{{ name }}님, 주문해 주셔서 감사합니다."),
            ("주문이 완료되었습니다", "{{ name }}님, 주문 감사합니다. 내일 도착할 예정입니다."),
            (
                "주문이 완료되었어요",
                "{{ name }}님, 주문 감사합니다. 내일 도착할 예정이에요. 배송은 앱에서 확인해 보세요.",
            ),
        ),
    ),
    (
        "장바구니 알림",
        (
            ("잊으신 상품이 있어요", "{{ name }}님, 장바구니에 담아 둔 상품이 곧 품절됩니다."),
            ("장바구니가 기다려요", "{{ name }}님, 담아 둔 상품이 곧 품절돼요. 오늘 결제하면 무료 배송!"),
        ),
    ),
    ("포인트 소멸 안내", (("포인트가 곧 사라져요", "{{ name }}님의 {{ points }}포인트가 이번 달에 소멸됩니다."),)),
)
"""Name, and its versions: title and body."""


class Words(NamedTuple):
    """What a variant of an A/B test says, and how many of a hundred who received it opened it."""

    title: str
    body: str
    opened: float
    name: str = ""


class Past(NamedTuple):
    """A campaign that was sent."""

    days_ago: int
    hour: int
    """Of the day in Seoul; of today, how many hours ago."""
    name: str
    channel: ChannelType
    title: str
    body: str
    share: int
    """Of a hundred who could be reached on the channel."""
    failed: float
    received: float
    opened: float
    """Of a hundred messages; of those that were sent; of those that were received."""
    purpose: Purpose = Purpose.MARKETING
    category: str = "offers"
    status: CampaignStatus = CampaignStatus.COMPLETED
    others: tuple[Words, ...] = ()
    """Further variants, if it was an A/B test."""


_PUSH, _EMAIL, _SMS = ChannelType.PUSH, ChannelType.EMAIL, ChannelType.SMS
_KAKAO, _IN_APP = ChannelType.KAKAO_TALK, ChannelType.IN_APP
_NEW = "new-in"
_INFORM = (Purpose.TRANSACTIONAL, "orders")

CAMPAIGNS = (
    Past(30, 11, "11월의 시작, 겨울 아우터 미리보기", _PUSH, "(광고) 겨울 아우터 미리보기", "패딩부터 코트까지 먼저 만나 보세요.", 42, 2.1, 61, 9.2, category=_NEW),
    Past(29, 19, "퇴근길 2시간 특가", _PUSH, "(광고) 지금부터 2시간", "오늘 밤 9시까지만 니트 전 품목 30% 할인.", 35, 1.9, 66, 13.4),
    Past(28, 10, "주말 편집숍 레터 44호", _EMAIL, "(광고) 이번 주말, 무엇을 입을까요?", "<h1>주말 편집숍</h1><p>에디터가 고른 가을 코디 다섯 가지.</p>", 95, 2.6, 38, 17.0, category=_NEW),
    Past(27, 12, "신규 가입 첫 구매 쿠폰", _PUSH, "(광고) 첫 구매 쿠폰이 도착했어요", "10,000원 쿠폰은 7일 뒤에 사라져요.", 18, 2.4, 58, 11.7),
    Past(26, 18, "입고 알림: 캐시미어 머플러", _PUSH, "기다리시던 상품이 입고됐어요", "캐시미어 머플러가 다시 들어왔습니다.", 9, 1.5, 71, 24.8, *_INFORM),
    Past(25, 11, "빼빼로데이 선물 추천", _PUSH, "(광고) 빼빼로데이 선물 고르기", "2만원대 선물 30가지를 모았어요.", 51, 2.2, 60, 8.1),
    Past(24, 20, "앱 3.0 업데이트 안내", _IN_APP, "새 앱을 만나 보세요", "더 빨라진 검색과 찜 목록을 써 보세요.", 90, 0.4, 82, 31.5, *_INFORM),
    Past(23, 10, "VIP 프리세일 초대", _SMS, "(광고) VIP 프리세일", "(광고)[데모샵] VIP 고객님께 먼저 알려 드려요. 오늘 하루 프리세일! 무료수신거부 080-000-0000", 60, 2.9, 91, 0.0),
    Past(22, 9, "배송 지연 안내 (폭설)", _KAKAO, "", "#{name}님, 폭설로 배송이 하루 늦어집니다.", 85, 3.8, 93, 0.0, *_INFORM),
    Past(21, 10, "주말 편집숍 레터 45호", _EMAIL, "(광고) 니트, 이렇게 입어요", "<h1>주말 편집숍</h1><p>니트 관리법과 새로 들어온 브랜드.</p>", 95, 2.4, 40, 18.3, category=_NEW),
    Past(20, 19, "수능 끝! 응원 기획전", _PUSH, "(광고) 수고했어, 오늘도", "수험생이라면 전 품목 20% 할인.", 47, 2.0, 63, 10.9),
    Past(19, 12, "리뷰 쓰고 포인트 받기", _PUSH, "리뷰를 기다려요", "구매하신 상품은 어떠셨나요? 리뷰 쓰고 500포인트 받으세요.", 22, 1.7, 64, 14.2, *_INFORM),
    Past(18, 11, "블랙프라이데이 티저", _PUSH, "(광고) 곧 시작합니다", "올해 가장 큰 할인이 다가옵니다. 알림을 켜 두세요.", 68, 2.3, 59, 7.4),
    Past(16, 20, "심야 특가 (잘못된 링크로 중단)", _PUSH, "(광고) 심야 특가", "오늘 밤만! 스니커즈 50%.", 40, 2.2, 44, 3.0, status=CampaignStatus.CANCELED),
    Past(15, 10, "주말 편집숍 레터 46호", _EMAIL, "(광고) 블랙프라이데이 준비하기", "<h1>주말 편집숍</h1><p>찜 목록을 정리할 시간이에요.</p>", 95, 2.5, 41, 20.6, category=_NEW),
    Past(14, 18, "포인트 소멸 예정", _PUSH, "포인트가 곧 사라져요", "이번 달 말에 사라지는 포인트를 확인하세요.", 31, 1.8, 67, 19.7, *_INFORM),
    Past(12, 11, "블랙프라이데이 D-3", _PUSH, "(광고) 블랙프라이데이 D-3", "찜한 상품의 할인가를 먼저 공개합니다.", 66, 2.1, 62, 12.8, others=(Words("(광고) 3일 뒤, 찜한 상품이 반값", "미리 담아 두고 오픈과 동시에 받으세요.", 15.6, "반값을 앞에"),)),
    Past(11, 12, "매장 픽업 안내", _KAKAO, "", "#{name}님, 주문하신 상품을 매장에서 찾아가세요.", 80, 3.5, 94, 0.0, *_INFORM),
    Past(9, 8, "블랙프라이데이 오픈", _PUSH, "(광고) 블랙프라이데이 오픈!", "최대 80% 할인. 지금 시작합니다.", 92, 2.6, 69, 21.3),
    Past(9, 9, "블랙프라이데이 오픈 (메일)", _EMAIL, "(광고) 최대 80%, 지금 시작합니다", "<h1>블랙프라이데이</h1><p>카테고리별 최저가를 한눈에.</p>", 95, 2.3, 46, 27.9),
    Past(8, 20, "블랙프라이데이 마지막 3시간", _PUSH, "(광고) 마지막 3시간", "자정에 끝납니다. 놓치지 마세요.", 74, 2.2, 65, 16.0),
    Past(7, 11, "품절 임박 안내", _IN_APP, "찜한 상품이 얼마 남지 않았어요", "남은 수량을 확인해 보세요.", 85, 0.5, 79, 26.4, *_INFORM),
    Past(6, 10, "주말 편집숍 레터 47호", _EMAIL, "(광고) 선물의 계절", "<h1>주말 편집숍</h1><p>받는 사람별 선물 가이드.</p>", 95, 2.2, 42, 19.5, category=_NEW),
    Past(5, 19, "퇴근길 2시간 특가 2탄", _PUSH, "(광고) 오늘도 2시간", "밤 9시까지 부츠 전 품목 40% 할인.", 44, 2.0, 64, 12.1),
    Past(4, 12, "VIP 시크릿 쿠폰", _SMS, "(광고) VIP 시크릿 쿠폰", "(광고)[데모샵] VIP 전용 30,000원 쿠폰이 발급되었습니다. 무료수신거부 080-000-0000", 60, 2.7, 92, 0.0),
    Past(3, 11, "12월 신상 미리보기", _PUSH, "(광고) 12월 신상 미리보기", "홀리데이 컬렉션을 먼저 만나 보세요.", 52, 2.1, 62, 10.4, category=_NEW),
    Past(2, 18, "재입고: 울 코트", _PUSH, "기다리시던 상품이 입고됐어요", "울 코트가 다시 들어왔습니다.", 11, 1.4, 72, 26.1, *_INFORM),
    Past(1, 19, "크리스마스 선물 특가", _PUSH, "(광고) 크리스마스 선물 특가", "산타보다 먼저 준비하세요. 최대 50%.", 58, 2.2, 58, 11.2),
    Past(0, 3, "오늘의 출석 체크", _PUSH, "(광고) 오늘의 출석 체크", "매일 출석하고 100포인트 받아 가세요.", 37, 1.8, 54, 12.6),
)  # fmt: skip

TYPES: dict[ChannelType, tuple[str, ...]] = {
    _PUSH: (SubscriptionType.IOS_PUSH.value, SubscriptionType.ANDROID_PUSH.value),
    _EMAIL: (SubscriptionType.EMAIL.value,),
    _SMS: (SubscriptionType.SMS.value,),
    _KAKAO: (SubscriptionType.KAKAO_TALK.value,),
    _IN_APP: (SubscriptionType.IN_APP_MESSAGE.value,),
}
REASONS: dict[ChannelType, tuple[str, ...]] = {
    _PUSH: ("Unregistered", "Unregistered", "Unregistered", "BadDeviceToken", "expired"),
    _EMAIL: ("550-5.1.1", "550-5.1.1", "452-4.2.2"),
    _SMS: ("3050", "3050", "3059"),
    _KAKAO: ("3104",),
    _IN_APP: ("expired",),
}
"""Why messages failed; the first are the most frequent."""
ORDER_MESSAGES = (
    ("결제가 완료되었습니다", "주문을 준비하고 있어요."),
    ("배송이 시작되었습니다", "내일 도착할 예정이에요."),
    ("배송이 완료되었습니다", "문 앞에 두었습니다. 즐거운 하루 보내세요!"),
)
