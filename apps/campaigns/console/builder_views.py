"""What the segment builder asks for while rows are clicked together: what the application has, and who is meant."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from apps.campaigns.console.builder import choices_of, problem_text
from apps.campaigns.console.builder_words import sentence
from apps.campaigns.console.words import quick_statements
from apps.campaigns.models import Segment
from apps.campaigns.reach import audience_by_channel, audience_examples
from apps.subscriptions.known import known_of
from apps.subscriptions.models import Subscription
from apps.subscriptions.targeting import TargetingError
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.forms import JSONObjectField
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

SCOPE = "segments:read"
SEGMENTS_OFFERED = 500


def application_for(request: HttpRequest, given: str, scope: str) -> Application:
    """The application of this id, if the operator has `scope` there; else 404."""
    key = as_uuid(given)
    application = Application.objects.filter(pk=key).first() if key else None
    if application is None or not grants_of(request).has(scope, application.pk):
        raise Http404
    return application


@console_page("audience_offers", "audience/offers/", scope=SCOPE)
@require_GET
def audience_offers(request: HttpRequest) -> HttpResponse:
    """Lists of values to choose from: names and versions that the newest of the application's people have."""
    application = application_for(request, request.GET.get("application", ""), SCOPE)
    known = known_of(application.pk)
    segments = Segment.objects.for_application(application).order_by("name").values_list("pk", "name")
    may_see_values = grants_of(request).has("subscriptions:read", application.pk)
    context = {
        "segments": segments[:SEGMENTS_OFFERED],
        "known": known,
        "tag_values": list(known.tag_values.items()) if may_see_values else [],
    }
    return TemplateResponse(request, "admin/console/builder/offers.html", context)


@console_page("audience_preview", "audience/preview/", scope=SCOPE)
@require_POST
def audience_preview(request: HttpRequest) -> HttpResponse:
    """How many the criteria reach, who they are in words, and a few of them."""
    application = application_for(request, request.POST.get("application", ""), SCOPE)
    channel = request.POST.get("channel", "")
    channel = channel if channel in ChannelType.values else ""
    context: dict[str, Any] = {"channel": channel, "channel_label": dict(ChannelType.choices).get(channel, "")}
    text = request.POST.get("criteria", "")
    if not text.strip():
        context["is_empty"] = True
    else:
        context |= _counted(request, application, text, channel)
    return TemplateResponse(request, "admin/console/builder/preview.html", context)


def _counted(request: HttpRequest, application: Application, text: str, channel: str) -> dict[str, Any]:
    try:
        criteria = JSONObjectField(required=False).to_python(text)
    except ValidationError as error:
        return {"problem": " ".join(error.messages), "path": ""}
    found: dict[str, Any] = {}
    try:
        with quick_statements():
            counts = audience_by_channel(application, criteria)
        found["counts"] = [
            {
                "label": label,
                "count": number(counts[value]),
                "is_chosen": value == channel,
                "is_none": not counts[value],
            }
            for value, label in ChannelType.choices
        ]
        found["total"] = number(counts[channel] if channel else sum(counts.values()))
        found["is_nobody"] = not (counts[channel] if channel else sum(counts.values()))
        with quick_statements():
            found["examples"] = [_example(request, row) for row in audience_examples(application, criteria, channel)]
    except OperationalError:
        found["is_slow"] = True
    except ValidationFailed as error:
        return _refused(error)
    found["words"] = sentence(application, criteria)
    return found


def _refused(error: ValidationFailed) -> dict[str, Any]:
    """With the place of the row that is wrong: `all[1].value` of `criteria.all[1].value`."""
    problem = error.details[0]
    path = problem.field.removeprefix("criteria").lstrip(".")
    return {"problem": problem_text(TargetingError("", problem.message)), "path": path}


def _example(request: HttpRequest, row: Subscription) -> dict[str, Any]:
    """Told apart, but not given away: the external id is for those who may see personal data."""
    may_see = grants_of(request).has("personal_data:read", row.application_id)
    external_id = row.user.external_id if row.user else ""
    if external_id and not may_see:
        external_id = f"{external_id[:2]}…" if len(external_id) > 4 else "…"
    country = dict(choices_of("country")).get(f'"{row.country_code}"', row.country_code)
    return {
        "who": external_id or _("nobody signed in"),
        "type": row.get_type_display(),
        "country": country,
        "language": row.device_language,
        "version": row.app_version,
        "active": moment(row.last_active_at),
    }
