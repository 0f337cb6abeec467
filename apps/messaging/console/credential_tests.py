"""A test from a credential's page: one message to somebody of ours, the whole way, watched until its end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.adapters.registry import adapters_for, types_reached_by
from apps.messaging.content import content_source
from apps.messaging.models import Message, MessageStatus
from apps.messaging.named import Recipients
from apps.messaging.services import messages_send
from apps.subscriptions.models import AppUser, Subscription
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.validation import normal_token
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment
from apps.tenants.console.forms import add_refusal
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.console.panels import Panel, panel_for
from apps.tenants.console_pages.hub import hub_of
from apps.tenants.models import Application, ChannelCredential
from automata_signal.errors import SignalError

READ, SEND, MESSAGES = "settings:read", "messages:send", "messages:read"
CHANNELS = {"iOSPush": "push", "AndroidPush": "push", "Email": "email", "SMS": "sms"}
"""What a test can be sent to: an Alimtalk needs an approved template, and an in-app message no provider."""
_OVER = (MessageStatus.FAILED, MessageStatus.RECEIVED, MessageStatus.CONVERTED)


class CredentialTestForm(forms.Form):
    whom = forms.CharField(
        label=gettext_lazy("To whom"),
        max_length=400,
        widget=widgets.UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text=gettext_lazy(
            "A user's external id, a subscription's id, or the address of a subscription: device token, e-mail, number."
        ),
    )
    title = forms.CharField(
        label=gettext_lazy("Title"), required=False, max_length=100, widget=widgets.UnfoldAdminTextInputWidget()
    )
    body = forms.CharField(
        label=gettext_lazy("Text"), max_length=500, widget=widgets.UnfoldAdminTextareaWidget({"rows": 3})
    )


def _credential(request: HttpRequest, credential_id: UUID) -> ChannelCredential:
    """For who may see it and send; 404 for anybody else, and for what no test can be sent by."""
    row = ChannelCredential.objects.select_related("application").defer("secret").filter(pk=credential_id).first()
    grants = grants_of(request)
    if row is None or not all(grants.has(scope, row.application_id) for scope in (READ, SEND)):
        raise Http404
    if _type_of(row) not in CHANNELS:
        raise Http404
    return row


def _type_of(row: ChannelCredential) -> str:
    return next(iter(types_reached_by(row.provider)), "")


@panel_for(ChannelCredential)
def test_panel(request: HttpRequest, row: ChannelCredential) -> Panel | None:
    """The way to the test, on the credential's page."""
    if _type_of(row) not in CHANNELS or not grants_of(request).has(SEND, row.application_id):
        return None
    context = {"address": reverse("admin:credential_test", args=[row.pk]), "is_active": row.is_active}
    return Panel(_("Send a test"), "admin/messaging/test_panel.html", context, before=True)


@console_page("credential_test", "credentials/<uuid:credential_id>/test/", scope=READ)
def credential_test_page(request: HttpRequest, credential_id: UUID) -> HttpResponse:
    """Ask whom, and on POST send it."""
    row = _credential(request, credential_id)
    initial = {
        "title": _("Test of %(name)s") % {"name": row.name},
        "body": _("If you can read this, messages of %(application)s arrive.") % {"application": row.application},
    }
    form = CredentialTestForm(request.POST) if request.method == "POST" else CredentialTestForm(initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            message_id = _send(row, **form.cleaned_data)
        except SignalError as refusal:
            add_refusal(form, refusal, {"recipients": "whom"})
        else:
            details = {"message": str(message_id)}
            audit("credential.test", request=request, application_id=row.application_id, row=row, details=details)
            return HttpResponseRedirect(reverse("admin:credential_test_sent", args=[row.pk, message_id]))
    return TemplateResponse(request, "admin/messaging/credential_test.html", _context(request, row) | {"form": form})


def _send(row: ChannelCredential, *, whom: str, title: str, body: str) -> UUID:
    """The id of the first message of the test. Raise as `messages_send`."""
    application, channel = row.application, CHANNELS[_type_of(row)]
    content = content_source(
        application=application, channel_type=channel, title=title if channel != "sms" else "", body=body
    )
    recipients = _recipients(application, _type_of(row), whom.strip())
    sent = messages_send(
        application=application, channel_type=channel, recipients=recipients, content=content, priority="high"
    )
    return sent.messages[0].id


def _recipients(application: Application, type_: str, whom: str) -> Recipients:
    """One user, or one subscription, as it was named. An index serves each look-up."""
    rows = Subscription.objects.filter(application=application, type=type_)
    user = AppUser.objects.filter(application=application, external_id=whom).values_list("pk", flat=True).first()
    if user is not None:  # of the user, what this credential reaches
        ids = list(rows.filter(user_id=user, subscription_status__gt=0).values_list("pk", flat=True)[:1])
        return Recipients(subscription_ids=ids) if ids else Recipients(external_ids=[whom])
    if key := as_uuid(whom):
        return Recipients(subscription_ids=[key])
    try:
        digest = token_digest(type_, normal_token(type_, whom))
    except SignalError:
        return Recipients(external_ids=[whom])
    found = rows.filter(token_digest=digest).values_list("pk", flat=True).first()
    return Recipients(subscription_ids=[found]) if found else Recipients(external_ids=[whom])


@console_page("credential_test_sent", "credentials/<uuid:credential_id>/test/<uuid:message_id>/", scope=READ)
def credential_test_sent(request: HttpRequest, credential_id: UUID, message_id: UUID) -> HttpResponse:
    """What became of it so far; with `?part=1` only that, which the page asks for again until it is over."""
    row = _credential(request, credential_id)
    message = Message.objects.filter(pk=message_id, application_id=row.application_id).first()
    if message is None:
        raise Http404
    state = {
        "message": message,
        "is_live": message.status not in _OVER and message.status != MessageStatus.SUCCESSFUL,
        "tone": {MessageStatus.FAILED: "bad", MessageStatus.PENDING: "", MessageStatus.ERRORED: "warning"}.get(
            message.status, "good"
        ),
        "steps": [
            (_("Accepted"), moment(message.created_at)),
            (_("Taken by the provider"), moment(message.sent_at)),
            (_("Received by the device"), moment(message.received_at)),
        ],
        "reason": message.error_reason or "",
        "live": f"{reverse('admin:credential_test_sent', args=[row.pk, message.pk])}?part=1",
        "message_address": reverse("admin:messaging_message_change", args=[message.pk])
        if grants_of(request).has(MESSAGES, row.application_id)
        else "",
    }
    if request.GET.get("part"):
        return render(request, "admin/messaging/credential_test_state.html", {"state": state})
    return TemplateResponse(request, "admin/messaging/credential_test.html", _context(request, row) | {"state": state})


def _context(request: HttpRequest, row: ChannelCredential) -> dict[str, Any]:
    from django.contrib import admin

    providers = [adapter.name for adapter in adapters_for(_type_of(row))]
    first = (
        ChannelCredential.objects.filter(
            application_id=row.application_id, provider__in=providers, is_active=True, breaker_opened_at=None
        )
        .defer("secret")
        .order_by("position", "id")
        .first()
    )
    return {
        **admin.site.each_context(request),
        "opts": ChannelCredential._meta,
        "original": row,
        "application": row.application,
        "hub": hub_of(request, row.application, "credentials"),
        "title": _("Send a test"),
        "subtitle": str(row),
        "credential": row,
        "back": reverse("admin:tenants_channelcredential_change", args=[row.pk]),
        "again": reverse("admin:credential_test", args=[row.pk]),
        "used_instead": first if first is not None and first.pk != row.pk else None,
    }
