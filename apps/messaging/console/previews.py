"""Live previews: a content as its recipient sees it, on each channel.

`preview_fragment` renders a template for somebody and draws it; `drawn` draws what was rendered already, for a page of
a message: `{% include preview.template %}` with its answer as `preview`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from djmoney.money import Money

from apps.messaging.adapters import in_app_content
from apps.messaging.adapters.base import Content, ContentError
from apps.messaging.adapters.kakao_content import fill
from apps.messaging.adapters.push_content import PAYLOAD_BYTES_MAX
from apps.messaging.console.editor import content_form, offered_kakao, offered_media, offered_variables
from apps.messaging.console.frames import PLACEHOLDER, framed_html, framed_text, local_address
from apps.messaging.console.parts import LINK, aliases_of
from apps.messaging.content import ContentSource, is_html
from apps.messaging.email.shown import show_letter
from apps.messaging.kakao.models import KakaoTemplate
from apps.messaging.media.models import MediaKind
from apps.messaging.previews import prepared_or_as_is, preview, user_named, variables_of
from apps.messaging.rendering import RenderError, TemplateSyntaxError
from apps.messaging.sms_lengths import shown_lengths
from apps.messaging.variants import language_key
from apps.subscriptions.models import AppUser
from apps.tenants.channels import ChannelType
from apps.tenants.console import formats
from apps.tenants.console.access import grants_of
from apps.tenants.console.forms import JSONObjectField
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.models import Application
from automata_signal.errors import SignalError

SCOPE = "templates:read"
NOBODY, MADE_UP = "nobody", "made_up"


def template_of(channel: str) -> str:
    """The template that draws a channel."""
    return f"admin/console/preview/{channel}.html"


# --- Who it is for -------------------------------------------------------------------------------------------------

_PEOPLE = {
    "name": "Jimin Kim",
    "first_name": "Jimin",
    "last_name": "Kim",
    "nickname": "jimin",
    "city": "Seoul",
    "email": "jimin@example.com",
    "phone": "010-0000-0000",
    "points": 1_250,
    "age": 29,
    "grade": "Gold",
    "plan": "Gold",
    "total": "32,000",
    "price": "19,900",
    "amount": "19,900",
    "order_id": "A-1042",
    "code": "491302",
    "coupon": "WELCOME10",
    "product": "Linen shirt",
    "shop": "Shop",
    "date": "2026-12-24",
}


def made_up(names: Sequence[str]) -> dict[str, Any]:
    """Values of somebody who does not exist, for the names that a text uses; a name nobody thought of stands for
    itself."""
    found: dict[str, Any] = {"external_id": "user-1042", "language": "", "country": "KR", "tags": {}, "user": {}}
    for name in names:
        path = name.split(".")
        if path[0] in ("external_id", "language", "country"):
            continue
        last = path[-1]
        value = _PEOPLE.get(last, last.replace("_", " "))
        if last.endswith("url"):
            value = "https://example.com/"
        place = found
        for step in path[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                break
        else:
            place.setdefault(last, value)
    return found


def _missing(names: Sequence[str], variables: Mapping[str, Any]) -> list[str]:
    """Names that the text uses and this person has no value for."""
    return [
        name
        for name in names
        if _value_at(variables, name) in (None, "") and name not in ("unsubscribe_url", "preferences_url")
    ]


def _value_at(variables: Any, name: str) -> Any:
    for step in name.split("."):
        variables = variables.get(step) if isinstance(variables, Mapping) else None
    return variables


# --- Drawing -------------------------------------------------------------------------------------------------------


def preview_fragment(
    request: HttpRequest,
    application: Application,
    channel: str,
    content: Mapping[str, Any],
    user: AppUser | None = None,
    *,
    person: str = MADE_UP,
    language: str = "",
    variables: Mapping[str, Any] | None = None,
    languages: Mapping[str, Mapping[str, Any]] | None = None,
    is_literal: bool = False,
    problems: Sequence[str] = (),
) -> SafeString:
    """The HTML of a content (`title`, `body`, `data`, `options`) as a template, rendered for `user`, else for somebody
    made up, or for `person=NOBODY`, of whom nothing is known. `variables` are a campaign's own; `is_literal`: it holds
    no placeholders. What cannot be rendered is said, with its line. The user must be of the application."""
    assert user is None or user.application_id == application.pk
    source = ContentSource(
        title=content.get("title") or "",
        body=content.get("body") or "",
        data=content.get("data") or {},
        options=content.get("options") or {},
        variables=variables or {},
        languages=languages or {},
        channel_type=channel,
    )
    context = {"channel": channel, **_rendered(application, source, user, person, language, is_literal)}
    context["problems"] = [*problems, *(text for text in context["problems"] if text not in problems)]
    return SafeString(render_to_string("admin/console/preview/fragment.html", context, request))


def _rendered(
    application: Application, source: ContentSource, user: AppUser | None, person: str, language: str, is_literal: bool
) -> dict[str, Any]:
    problems: list[str] = []
    if not is_literal:
        source = replace(source, is_personalised=True)
    source, refused = prepared_or_as_is(application, source)
    if refused:
        problems.append(_named(source.channel_type, refused))
    known: dict[str, Any] = {}
    names: list[str] = []
    try:
        names = [] if is_literal else sorted(source.compiled(language).variables)
        known = variables_of(user) if user else made_up(names) if person == MADE_UP else {}
        known["language"] = language or known.get("language") or application.default_language
        if is_literal:
            shown = Content(source.title, source.body, source.data, source.options)
        else:
            found = preview(application, source, known)
            named = [_named(source.channel_type, text) for text in found.problems]
            problems += [text for text in named if text not in problems]
            shown = Content(found.title, found.body, found.data, source.options)
    except (TemplateSyntaxError, RenderError) as error:
        return {"problems": [*problems, _said(source.channel_type, error)], "preview": None, "missing": []}
    except SignalError as error:
        named = [_named(source.channel_type, f"{problem.field}: {problem.message}") for problem in error.details]
        return {"problems": [*problems, *(named or [error.message])], "preview": None, "missing": []}
    missing = _missing(names, {**source.variables, **known}) if user else []
    return {
        "problems": problems,
        "preview": drawn(application, source.channel_type, shown),
        "missing": missing,
        "language": language_of(source, known["language"]),
    }


def _said(channel: str, error: TemplateSyntaxError | RenderError) -> str:
    """With the name that the editor has for the field, and the line."""
    label = _label(channel, error.field)
    if not error.line:
        return f"{label}: {error.message}"
    facts = {"field": label, "line": error.line, "message": error.message}
    return _("%(field)s, line %(line)s: %(message)s") % facts


def _label(channel: str, place: str) -> str:
    """What the editor calls a place of the content: `options.badge` → Number on the app's icon."""
    name = aliases_of(channel).get(place.replace("_template", "", 1), "")
    return str(content_form(channel).base_fields[name].label) if name else place


def _named(channel: str, problem: str) -> str:
    """A problem, `options.badge: why`, with the name that the editor has for the place."""
    place, colon, message = problem.partition(": ")
    return f"{_label(channel, place)}: {message}" if colon and " " not in place else problem


def language_of(source: ContentSource, language: str) -> str:
    """Whose words they are; empty: everybody's."""
    return language_key(source.languages, language) or ""


def drawn(application: Application, channel: str, content: Content | Mapping[str, Any]) -> dict[str, Any]:
    """What a channel's template needs to draw what was rendered. For whatever is stored: nothing is raised."""
    if not isinstance(content, Content):
        content = Content(
            content.get("title") or "",
            content.get("body") or "",
            content.get("data") or {},
            content.get("options") or {},
        )
    now = timezone.localtime()
    shared = {
        "template": template_of(channel),
        "channel": channel,
        "application": application.name,
        "initial": (application.name.strip() or "A")[0].upper(),
        "title": content.title,
        "body": content.body,
        "data": content.data,
        "options": content.options,
        "is_empty": not (content.title or content.body),
        "now": now,
    }
    return shared | _DRAW[channel](application, content)


def picture(address: Any) -> str:
    """An address that a page of the console may show: one of our own files; a grey box for any other."""
    if not isinstance(address, str) or not address:
        return ""
    return local_address(address) or PLACEHOLDER


def _push(application: Application, content: Content) -> dict[str, Any]:
    options = content.options
    return {
        "subtitle": options.get("subtitle") or "",
        "picture": picture(options.get("image")),
        "badge": options.get("badge"),
        "is_silent": options.get("silent") is True,
        "link": content.data.get(LINK, "") if isinstance(content.data, Mapping) else "",
        "limit": PAYLOAD_BYTES_MAX,
    }


def _email(application: Application, content: Content) -> dict[str, Any]:
    letter: Mapping[str, Any] = {}
    with suppress(ContentError):  # said among the problems; what is written is shown all the same
        letter = show_letter(application, content)
    html = letter.get("html") or (content.body if is_html(ChannelType.EMAIL, content.options) else "")
    own = content.options.get("text")
    text = letter.get("text") or (own if isinstance(own, str) else "")
    if not html:
        text = text or content.body
    size = len(html.encode())
    return {
        "sender": content.options.get("from_name") or application.name,
        "preheader": content.options.get("preheader") or text.strip()[:140],
        "document": framed_html(html) if html else framed_text(text),
        "text": text,
        "size": formats.number(round(size / 1024, 1)) if size else "",
        "is_large": size > 102 * 1024,
    }


def _sms(application: Application, content: Content) -> dict[str, Any]:
    facts = shown_lengths(application, text=content.body, title=content.title, options=content.options)
    gateways = [
        {
            **gateway,
            "percent": min(100, round(100 * gateway["units"] / gateway["limit"])) if gateway["limit"] else 0,
            "unit": _("bytes") if gateway["encoding"] == "euc_kr" else _("characters"),
        }
        for gateway in facts["gateways"]
    ]
    price = facts["price"]
    amount = formats.money(Money(price["amount"], price["currency"])) if price["currency"] else ""
    return {"gateways": gateways, "price": amount, "sender": content.options.get("from") or ""}


def _kakao(application: Application, content: Content) -> dict[str, Any]:
    code, key = content.options.get("template_code"), content.options.get("sender_key")
    rows = KakaoTemplate.objects.for_application(application).filter(code=code or "")
    rows = rows.filter(channel__sender_key=key) if key else rows
    template = rows.select_related("channel").first() if code else None
    fallback = content.options.get("fallback")
    return {
        **(
            kakao_bubble(template, content.data)
            if template
            else {"sender": application.name, "buttons": [], "is_known": False}
        ),
        "title": content.title or (template.title if template else ""),
        "body": content.body or (template.content if template else ""),
        "fallback": fallback if isinstance(fallback, Mapping) else None,
    }


def kakao_bubble(template: KakaoTemplate, data: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the bubble beside the text, with its variables."""
    values = {name: str(value) for name, value in data.items()}
    buttons = [fill(str(button.get("name", "")), values) for button in template.buttons if isinstance(button, Mapping)]
    replies = [
        fill(str(reply.get("name", "")), values) for reply in template.quick_replies if isinstance(reply, Mapping)
    ]
    return {
        "sender": str(template.channel).lstrip("@"),
        "header": fill(template.header, values),
        "subtitle": fill(template.subtitle, values),
        "extra": template.extra,
        "emphasis": template.emphasis,
        "buttons": buttons,
        "replies": replies,
        "is_known": True,
    }


def drawn_template(template: KakaoTemplate) -> dict[str, Any]:
    """The bubble of a template itself, its variables as they stand in it."""
    return {**kakao_bubble(template, {}), "title": template.title, "body": template.content, "fallback": None}


def _in_app(application: Application, content: Content) -> dict[str, Any]:
    try:
        options = in_app_content.shown_options(content.options)
    except (TypeError, ValueError):
        options = dict(in_app_content.DEFAULTS)
    layout = options["layout"] if options["layout"] in in_app_content.LAYOUTS else "modal"
    buttons = options["buttons"] if isinstance(options["buttons"], list) else []
    return {
        "layout": layout,
        "picture": picture(options["image"]),
        "background": _colour(options["background_color"]),
        "colour": _colour(options["text_color"]),
        "buttons": [
            {
                "text": str(button.get("text", "")),
                "background": _colour(button.get("background_color")),
                "colour": _colour(button.get("text_color")),
            }
            for button in buttons
            if isinstance(button, Mapping)
        ],
    }


def _colour(value: Any) -> str:
    """A colour that may stand in a style: `#RRGGBB`, nothing else."""
    is_colour = isinstance(value, str) and len(value) in (7, 9) and value[0] == "#"
    return value if is_colour and all(letter in "0123456789abcdefABCDEF" for letter in value[1:]) else ""


_DRAW = {
    ChannelType.PUSH.value: _push,
    ChannelType.EMAIL.value: _email,
    ChannelType.SMS.value: _sms,
    ChannelType.KAKAO_TALK.value: _kakao,
    ChannelType.IN_APP.value: _in_app,
}


# --- What the editor asks for --------------------------------------------------------------------------------------


def application_for(request: HttpRequest, given: str, scope: str = SCOPE) -> Application:
    """The application of this id, if the operator has `scope` there; else 404."""
    key = as_uuid(given)
    application = Application.objects.filter(pk=key).first() if key else None
    if application is None or not grants_of(request).has(scope, application.pk):
        raise Http404
    return application


def user_for(request: HttpRequest, application: Application, external_id: str) -> AppUser | None:
    """The user whose data a preview uses. Raises `PermissionDenied` without `users:read`, `NotFound` for none."""
    external_id = external_id.replace("\0", "").strip()[:255]
    if not external_id:
        return None
    if not grants_of(request).has("users:read", application.pk):
        raise PermissionDenied
    return user_named(application, external_id)


@console_page("content_preview", "content/preview/", scope=SCOPE)
@require_POST
def content_preview(request: HttpRequest) -> HttpResponse:
    """What is in an editor's fields, drawn. `channel`, `application` and `prefix` say which; `person` is `made_up`,
    `nobody` or `user` with an `external_id`; `variables` are a campaign's own."""
    application = application_for(request, request.POST.get("preview-application", ""))
    channel = request.POST.get("preview-channel", "")
    if channel not in ChannelType.values:
        raise Http404
    words_only = request.POST.get("preview-words-only") == "1"
    form = content_form(channel, words_only=words_only)(request.POST, prefix=request.POST.get("preview-prefix") or None)
    form.is_valid()
    content = form.content()
    if words_only:
        content["options"] = _object(request.POST.get("preview-options", ""))
    problems = [f"{form[name].label}: {error}" for name, errors in form.errors.items() for error in errors]
    person, user = request.POST.get("preview-person", MADE_UP), None
    if person == "user":
        try:
            user = user_for(request, application, request.POST.get("preview-external-id", ""))
        except SignalError as error:
            problems.append(error.message)
    fragment = preview_fragment(
        request,
        application,
        channel,
        content,
        user,
        person=person if person == NOBODY else MADE_UP,
        language=request.POST.get("preview-language", "")[:35],
        variables=_object(request.POST.get("preview-variables", "")),
        is_literal=request.POST.get("preview-literal") == "1",
        problems=problems,
    )
    return HttpResponse(fragment)


def _object(text: str) -> dict[str, Any]:
    """A JSON object; an empty one of what is none: the field that holds it says so itself."""
    try:
        return dict(JSONObjectField(required=False).to_python(text))
    except ValidationError:
        return {}


@console_page("content_offers", "content/offers/", scope=SCOPE)
@require_GET
def content_offers(request: HttpRequest) -> HttpResponse:
    """What is offered while a content is written: variables, the application's files, Alimtalk templates."""
    application = application_for(request, request.GET.get("application", ""))
    channel = request.GET.get("channel", "")
    if channel not in ChannelType.values:
        raise Http404
    grants = grants_of(request)
    may_see_files = grants.has("media:read", application.pk) and channel not in (
        ChannelType.SMS,
        ChannelType.KAKAO_TALK,
    )
    images = offered_media(application, MediaKind.IMAGE) if may_see_files else []
    is_mail = channel == ChannelType.EMAIL
    files = offered_media(application, MediaKind.ATTACHMENT) if may_see_files and is_mail else []
    context = {
        "channel": channel,
        "variables": offered_variables(application),
        "images": [item | {"picture": picture(item["url"])} for item in images],
        "files": files,
        "kakao": offered_kakao(application) if channel == ChannelType.KAKAO_TALK else [],
        "may_see_users": grants.has("users:read", application.pk),
    }
    return TemplateResponse(request, "admin/console/editor/offers.html", context)
