"""The names of what is told, as an operator reads them: `membership.change` → "Members · changed"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.contrib import admin
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

AREAS: dict[str, Any] = {
    "sign_in": _("Signing in"),
    "sign_out": _("Signing out"),
    "second_factor": _("Second factor"),
    "password": _("Passwords"),
    "session": _("Sessions"),
    "account": _("Own account"),
    "invitation": _("Invitations"),
    "membership": _("Members"),
    "operator": _("Operators"),
    "application": _("Applications"),
    "apikey": _("API keys"),
    "key": _("New keys"),
    "channelcredential": _("Credentials"),
    "credential": _("Checks of credentials"),
    "messagecampaign": _("Campaigns"),
    "campaign": _("Steps of campaigns"),
    "segment": _("Segments"),
    "messagetemplate": _("Templates"),
    "template": _("Steps of templates"),
    "message": _("Messages"),
    "appuser": _("Users"),
    "user": _("Steps of users"),
    "subscription": _("Subscriptions"),
    "data_request": _("Data requests"),
    "import": _("Imports"),
    "export": _("Exports"),
    "webhookendpoint": _("Webhooks"),
    "schedule": _("Schedules"),
    "switch": _("Switches"),
    "audit": _("The audit log itself"),
}
VERBS: dict[str, Any] = {
    "add": _("added"),
    "create": _("made"),
    "change": _("changed"),
    "delete": _("deleted"),
    "done": _("done"),
    "refused": _("refused"),
    "locked": _("locked out"),
    "api": _("by the API"),
    "linked": _("linked to single sign-on"),
    "expired": _("ended by itself"),
    "remove": _("taken away"),
    "new_recovery_codes": _("new recovery codes"),
    "recovery_code": _("recovery code used"),
    "reset": _("set anew by a link"),
    "link_asked": _("link asked for"),
    "end": _("ended"),
    "end_all": _("all ended"),
    "accept": _("accepted"),
    "export": _("exported"),
    "file_taken": _("file downloaded"),
    "launch": _("launched"),
    "pause": _("paused"),
    "resume": _("resumed"),
    "cancel": _("canceled"),
    "approve": _("approved"),
}


def action_words(action: str) -> str:
    """The action in words; what has none of its own, in those of its button, or as it is."""
    area, _point, verb = action.partition(".")
    words = VERBS.get(verb) or _buttons().get((area, verb)) or verb.replace("_", " ")
    return f"{AREAS.get(area) or _models().get(area) or area} · {words}"


@cache
def _models() -> dict[str, Any]:
    return {area: capfirst(model._meta.verbose_name_plural) for area, model, _actions in _registered()}


@cache
def _buttons() -> dict[tuple[str, str], Any]:
    return {(area, action.name): action.label for area, _model, actions in _registered() for action in actions}


def _registered() -> Iterator[tuple[str, Any, list[Any]]]:
    """What each admin of ours is called in the log, with its model and buttons."""
    admins: dict[Any, Any] = dict(admin.site._registry)
    for model, model_admin in admins.items():
        if hasattr(model_admin, "_declared_actions"):
            yield model_admin.audit_area or model._meta.model_name, model, model_admin._declared_actions()
