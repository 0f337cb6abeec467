"""The pages that links in messages lead to: `/e/unsubscribe/…`, `/e/preferences/…`, `/e/confirm/…`.

GET shows and POST does, since programs that look at links follow them. Mail programs post by themselves (RFC 8058),
without cookies: what allows it is the token, so that there is no CSRF token; and they are never redirected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.asking import CONFIRMABLE
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_of, preferences_set
from apps.subscriptions.preferences.letters import CHANNEL_NAMES, sender_name, shown_date
from apps.subscriptions.preferences.models import ConsentSource
from apps.subscriptions.preferences.opt_in import opt_in_ask, opt_in_confirm, opt_in_find
from apps.subscriptions.preferences.pages.frame import is_too_large, is_too_often, page, refusal, refused_link
from apps.subscriptions.preferences.pages.texts import TEXTS, language_for
from apps.subscriptions.preferences.subjects import CHANNEL_OF, Subject, masked_address
from apps.subscriptions.preferences.unsubscribing import category_of_link, linked_subscription, unsubscribe
from apps.subscriptions.status import SubscriptionStatus
from apps.tenants.channels import ChannelType
from automata_signal.errors import NotFound, SignalError
from automata_signal.link_tokens import (
    LinkExpired,
    LinkPurpose,
    LinkRefused,
    LinkToken,
    link_url,
    make_link_token,
    read_link_token,
)

View = Callable[[HttpRequest, LinkToken, Subscription], HttpResponse]


def _linked(purpose: LinkPurpose) -> Callable[[View], Callable[[HttpRequest, str], HttpResponse]]:
    """A view that gets what its token says, and whom it is about."""

    def decorate(view: View) -> Callable[[HttpRequest, str], HttpResponse]:
        @csrf_exempt
        @require_http_methods(["GET", "HEAD", "POST"])
        @wraps(view)
        def answer(request: HttpRequest, token: str) -> HttpResponse:
            try:
                link = read_link_token(purpose, token)
                if is_too_large(request):
                    return refusal(request, "gone", status=413)
                if is_too_often(link.subscription_id):
                    return refusal(request, "busy", status=429)
                return view(request, link, linked_subscription(link.subscription_id))
            except LinkExpired:
                return refusal(request, "expired", status=410)
            except LinkRefused:
                return refused_link(request)
            except NotFound:
                return refusal(request, "gone", status=404)

        return answer

    return decorate


class _Said:
    """The texts of a page about one subscription."""

    def __init__(self, request: HttpRequest, row: Subscription) -> None:
        application = row.application
        token: Any = row.token
        self.language = language_for(request, row.device_language, application.default_language)
        self.text = TEXTS[self.language]
        self.values = {
            "sender": sender_name(application),
            "address": masked_address(row.type, token),
            "channel": CHANNEL_NAMES[CHANNEL_OF[row.type], self.language],
            "date": shown_date(application, timezone.now(), self.language),
        }

    def __call__(self, key: str, **values: str) -> str:
        return self.text[key].format(**self.values, **values)


# --- Unsubscribing ---------------------------------------------------------------------------------------------------


@_linked(LinkPurpose.UNSUBSCRIBE)
def unsubscribe_page(request: HttpRequest, link: LinkToken, row: Subscription) -> HttpResponse:
    """Answers 200 to every POST of a link that is ours, as RFC 8058 asks: the same once more is as good."""
    said = _Said(request, row)
    context: dict[str, Any] = {"title": said("unsubscribe"), "sender": said.values["sender"]}
    if request.method == "POST" and _says_yes(request):
        done = unsubscribe(subscription=row, category=link.category, message_id=link.message_id)
        if done.category is None:
            context["status"] = said("unsubscribed")
        else:
            context["status"] = said("unsubscribed_category", category=done.category.name_in(said.language))
        context["lines"] = [said("recorded")]
        more = make_link_token(LinkPurpose.PREFERENCES, subscription_id=row.pk)
        context |= {"more": link_url(LinkPurpose.PREFERENCES, more), "more_text": said("all_choices")}
        return page(request, said.language, context)
    category = category_of_link(row, link.category)
    if category is None:
        context["lines"] = [said("unsubscribe_ask")]
    else:
        context["lines"] = [said("unsubscribe_category_ask", category=category.name_in(said.language))]
    context["button"] = said("unsubscribe_button")
    return page(request, said.language, context)


def _says_yes(request: HttpRequest) -> bool:
    """Whether the form of our page was sent, or a mail program's (RFC 8058), in either encoding."""
    return request.POST.get("List-Unsubscribe") == "One-Click" or request.POST.get("confirm") == "yes"


# --- Confirming ------------------------------------------------------------------------------------------------------


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_page(request: HttpRequest, token: str) -> HttpResponse:
    """Double opt-in: the button confirms, and nothing else does."""
    try:
        link = read_link_token(LinkPurpose.CONFIRM, token)
        if is_too_large(request):
            return refusal(request, "gone", status=413)
        if is_too_often(link.subscription_id):
            return refusal(request, "busy", status=429)
        is_sent = request.method == "POST" and request.POST.get("confirm") == "yes"
        found = opt_in_confirm(token) if is_sent else opt_in_find(token)
    except LinkExpired:
        return refusal(request, "expired", status=410)
    except LinkRefused:
        return refused_link(request)
    except NotFound:
        return refusal(request, "gone", status=404)
    said = _Said(request, found.subscription)
    context: dict[str, Any] = {"title": said("confirm"), "sender": said.values["sender"]}
    if found.is_confirmed:
        context["status"] = said("confirmed")
    else:
        context |= {"lines": [said("confirm_ask")], "button": said("confirm_button")}
    return page(request, said.language, context)


# --- Preferences -----------------------------------------------------------------------------------------------------

_NIGHT_CHANNELS = frozenset({ChannelType.PUSH, ChannelType.SMS, ChannelType.KAKAO_TALK})
"""The law asks for no consent of its own for e-mail at night."""


@_linked(LinkPurpose.PREFERENCES)
def preferences_page(request: HttpRequest, link: LinkToken, row: Subscription) -> HttpResponse:
    """The choices of whom the link is for, on every channel that reaches them."""
    said = _Said(request, row)
    status = ""
    if request.method == "POST":
        status = said(_take(request, row, link))
        row = linked_subscription(row.pk)
    subject = Subject.of_subscription(row)
    channels = _channels(row)
    choices = preferences_of(subject, channels=channels)
    shown: list[str] = []
    shown_channels = [_shown_channel(row, channel, choices, said, shown) for channel in channels]
    lines = [said("preferences_of"), said("linked")]
    is_waiting = row.subscription_status == SubscriptionStatus.OPT_IN_PENDING
    if not row.is_subscribed or row.is_archived:
        lines.append(said("waiting" if is_waiting else "ended"))
    context = {
        "title": said("preferences"),
        "sender": said.values["sender"],
        "status": status,
        "lines": lines,
        "channels": [channel for channel in shown_channels if channel["entries"]],
        "shown": ",".join(shown),
        "may_refuse_all": row.is_subscribed,
        "all_help": said("all_help"),
        "back": row.type in CONFIRMABLE and not row.is_subscribed and not row.is_archived and not is_waiting,
    }
    return page(request, said.language, context, template="preferences")


def _channels(row: Subscription) -> list[str]:
    """The link's own channel first, then those on which its user is reached."""
    own = CHANNEL_OF[row.type]
    if row.user_id is None:
        return [own]
    types = Subscription.objects.filter(user_id=row.user_id, subscription_status__gt=0).values_list("type", flat=True)
    others = {CHANNEL_OF[type_] for type_ in types.distinct()} - {own}
    return [own, *(channel for channel in ChannelType.values if channel in others)]


def _shown_channel(
    row: Subscription, channel: str, choices: dict[str, Any], said: _Said, shown: list[str]
) -> dict[str, Any]:
    """A channel's choices as the page shows them; what can be changed is added to `shown`."""
    of_channel = choices["channels"][channel]
    consent = of_channel["marketing"]
    items = []
    for category in choices["categories"]:
        slug = category["slug"]
        name = f"category:{channel}:{slug}"
        korean = said.language == "ko"
        about = (category["description_ko"] if korean else "") or category["description_en"]
        is_fixed = not category["may_opt_out"]
        items.append(
            {
                "name": name,
                "label": (category["name_ko"] if korean else "") or category["name_en"],
                "help": f"{about} ({said('always')})".strip() if is_fixed else about,
                "is_on": of_channel["categories"][slug]["opted_in"],
                "is_fixed": is_fixed,
            }
        )
    # Who has a message of one channel in hand may not agree to advertising on another in its owner's name.
    is_elsewhere = channel != CHANNEL_OF[row.type] and not consent["given"]
    items.append(
        {
            "name": f"marketing:{channel}",
            "label": said("advertising"),
            "help": said("advertising_elsewhere" if is_elsewhere else "advertising_help"),
            "is_on": consent["given"],
            "is_fixed": is_elsewhere,
        }
    )
    if channel in _NIGHT_CHANNELS:
        items.append(
            {
                "name": f"night:{channel}",
                "label": said("night"),
                "help": "",
                "is_on": consent["night"],
                "is_fixed": is_elsewhere,
            }
        )
    for item in items:
        item["id"] = str(item["name"]).replace(":", "-")
        if not item["is_fixed"]:
            shown.append(str(item["name"]))
    return {"name": CHANNEL_NAMES[channel, said.language], "entries": items}


def _take(request: HttpRequest, row: Subscription, link: LinkToken) -> str:
    """Do what the form says; answers with the key of the text that says so."""
    action = request.POST.get("action", "")
    if action == "all":
        _refuse_all(row, link)
        return "saved"
    if action == "back":
        try:
            opt_in_ask(subscription=row, source=ConsentSource.PAGE)
        except SignalError:
            return "back_refused"
        return "back_asked"
    if action == "save":
        choices = _read(request, row)
        preferences_set(
            subject=Subject.of_subscription(row),
            choices=choices,
            source=ConsentSource.PAGE,
            message_id=link.message_id,
        )
        return "saved"
    return "preferences"


def _read(request: HttpRequest, row: Subscription) -> Choices:
    """The choices of the form, as far as this link may make them. What is not on the page (any more) stays."""
    channels = _channels(row)
    known = preferences_of(Subject.of_subscription(row), channels=channels)
    may_refuse = {category["slug"] for category in known["categories"] if category["may_opt_out"]}
    categories: dict[str, dict[str, bool]] = {}
    given: dict[str, bool] = {}
    night: dict[str, bool] = {}
    for name in request.POST.get("shown", "").split(",")[:2_000]:
        kind, _, rest = name.partition(":")
        channel, _, slug = rest.partition(":")
        if channel not in channels:
            continue
        is_on = name in request.POST
        consent = known["channels"][channel]["marketing"]
        may_give = channel == CHANNEL_OF[row.type] or consent["given"]
        if kind == "category" and slug in may_refuse:
            if known["channels"][channel]["categories"][slug]["opted_in"] != is_on:
                categories.setdefault(channel, {})[slug] = is_on
        elif kind == "marketing" and (may_give or not is_on):
            given[channel] = is_on
        elif kind == "night" and channel in _NIGHT_CHANNELS and (may_give or not is_on):
            night[channel] = is_on
    marketing = {}
    for channel in given.keys() | night.keys():
        is_given = given.get(channel, known["channels"][channel]["marketing"]["given"])
        marketing[channel] = MarketingChoice(given=given.get(channel), night=night.get(channel, False) and is_given)
    return Choices(marketing=marketing, categories=categories)


def _refuse_all(row: Subscription, link: LinkToken) -> None:
    """All that can be refused, on every channel; and the subscription ends that the link came to."""
    known = preferences_of(Subject.of_subscription(row))
    slugs = [category["slug"] for category in known["categories"] if category["may_opt_out"]]
    choices = Choices(
        marketing={channel: MarketingChoice(given=False) for channel in ChannelType.values},
        categories={channel: dict.fromkeys(slugs, False) for channel in _channels(row)},
    )
    with transaction.atomic():
        unsubscribe(subscription=row, message_id=link.message_id, source=ConsentSource.PAGE)
        preferences_set(
            subject=Subject.of_subscription(row),
            choices=choices,
            source=ConsentSource.PAGE,
            message_id=link.message_id,
        )
