"""Every address of the console with every role, by asking the site itself: nobody reads or changes what is not theirs.

The pages have tests of their own for what they do. This walk knows nothing of them but their addresses and each model's
scope, so that a page that somebody adds tomorrow is walked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver
from django.urls.converters import IntConverter, SlugConverter, UUIDConverter

from apps.tenants.console.base import ScopedAdmin
from apps.tenants.models import Role
from apps.tenants.scopes import ROLE_SCOPES
from tests.admin.pages import registered
from tests.admin.test_scope import READ

pytestmark = pytest.mark.timeout(400)

NOBODY = "0196f3d2-0000-7000-8000-000000000000"
OPEN_TO_ALL = ("login", "logout", "jsi18n", "console_language")
"""Names of addresses that need no sign-in."""
REFUSED = (302, 400, 403, 404, 405)
WORDS_OF = {
    "name": ("audience", "content", "schedule", "check", "launch", "variants", "stop_sending"),
    "what": ("close", "open", "rate"),
}
"""Values of an address's further parts, by their names; of others, a word that names nothing."""


MODEL_OF = {
    "application_id": "tenants.Application",
    "credential_id": "tenants.ChannelCredential",
    "key": "tenants.ChannelCredential",
    "message_id": "messaging.Message",
    "user_id": "subscriptions.AppUser",
}
"""Whose id a page about no model takes, by the name of the part."""


class Place(NamedTuple):
    """An address of the site, with what has to be filled in."""

    name: str
    route: str
    model: str
    """`app.Model`; empty: of no model."""
    arguments: dict[str, object]
    """Name → converter."""

    def filled(self, key: str, word: str = "") -> str:
        """With the id of a row, and a word, wherever one belongs."""
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: self._value(found[1], key, word), self.route)
        path = path.replace("^", "").removesuffix("$").replace("([^/]+)", key)  # django-simple-history's
        return f"/admin/{path.removeprefix('/')}"

    def _value(self, name: str, key: str, word: str) -> str:
        converter = self.arguments.get(name)
        if isinstance(converter, UUIDConverter) or name in ("object_id", "pk", "id"):
            return key
        if isinstance(converter, IntConverter):
            return "1"
        return word or "x"

    def rows(self, world) -> list[object]:
        """Whose ids may be asked for: the model's, else those that the parts are named after, else of every model."""
        labels = [self.model, *(MODEL_OF[name] for name in self.arguments if name in MODEL_OF)]
        return [world[label] for label in labels if label in world.rows] or list(world.rows.values())

    def words(self) -> list[str]:
        """What can stand for the parts that are no ids."""
        found: list[str] = []
        for name, converter in self.arguments.items():
            if name == "name" and "/do/" in self.route:
                found += registered()[self.model].row_actions
            elif isinstance(converter, SlugConverter) or name in WORDS_OF:
                found += WORDS_OF.get(name, ())
        return found or [""]


def places() -> list[Place]:
    return [place for place in _places(admin.site.get_urls(), "", "") if place.name not in OPEN_TO_ALL]


def _places(entries, prefix: str, model: str) -> Iterator[Place]:
    for entry in entries:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            of = {label.replace(".", "/").lower() + "/": label for label in registered()}
            yield from _places(entry.url_patterns, route, of.get(str(entry.pattern), model))
        elif isinstance(entry, URLPattern) and "(?P" not in route:  # the lists of apps, and whatever else there is not
            yield Place(entry.name or "", route, model, dict(entry.pattern.converters))


def has_row(place: Place) -> bool:
    return "<" in place.route or "(" in place.route


def fingerprint(application) -> dict[str, str]:
    """What the tables hold of an application, by model."""
    found = {}
    for label, model_admin in registered().items():
        if not isinstance(model_admin, ScopedAdmin) or label not in READ:
            continue
        path = "pk" if model_admin.application_path == "self" else f"{model_admin.application_path}_id"
        keys = [
            str(key) for key in model_admin.all_rows().filter(**{path: application.pk}).values_list("pk", flat=True)
        ]
        table = model_admin.model._meta.db_table
        key = model_admin.model._meta.pk.column
        sql = f"SELECT md5(string_agg(t::text, '' ORDER BY t.{key})) FROM {table} t WHERE t.{key}::text = ANY(%s)"
        with connection.cursor() as cursor:
            cursor.execute(sql, [keys])
            found[label] = cursor.fetchone()[0]
    return found


def asked(client: Client, method: str, address: str, data: dict | None = None):
    client.cookies.pop("messages", None)  # of the page before, with the id that it was asked for
    answer = getattr(client, method)(address, data)
    assert answer.status_code < 500, (method, address, answer.status_code)
    return answer


def leaks(answer, world) -> list[str]:
    """What a page tells of an application: texts that only its rows hold, its secrets, ids that the address has not."""
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    address = answer.wsgi_request.get_full_path()
    shown = content.decode(errors="replace").replace(address, "")
    ids = [str(row.pk) for row in world.rows.values() if str(row.pk) not in address]
    return [text for text in [*world.marks, *world.secrets, *ids] if text in shown]


@pytest.mark.parametrize("role", Role.values)
def test_no_address_leads_to_another_application(world, other, member, role):
    client, before = member(role), fingerprint(other.application)
    for place in places():
        rows = place.rows(other)
        # Whoever has fewer rights than an owner is refused the same row by the same look-up: one question is enough.
        words = place.words() if role == Role.OWNER else place.words()[:1]
        methods = ("get", "post") if role == Role.OWNER else ("get",)
        for key in {str(row.pk) for row in rows} if has_row(place) else {NOBODY}:
            for word in words:
                address = f"{place.filled(key, word)}?application={other.application.pk}"
                for answer in [asked(client, method, address) for method in methods]:
                    assert not leaks(answer, other), (address, leaks(answer, other))
                    if has_row(place) and place.model in READ:
                        assert answer.status_code in REFUSED, (address, answer.status_code)
    assert fingerprint(other.application) == before


@pytest.mark.parametrize("role", Role.values)
def test_what_a_role_may_not_read_it_gets_by_no_address(world, other, member, role):
    client, scopes = member(role), ROLE_SCOPES[role]
    before = fingerprint(world.application)
    for place in places():
        if READ.get(place.model, "") in scopes:
            continue
        if place.model and place.model not in READ:
            continue  # the platform's own: test_scope has them
        key = str(world[place.model].pk) if place.model in world.rows else NOBODY
        for number, word in enumerate(place.words()):
            address = place.filled(key, word)
            answers = [asked(client, "get", address)]
            if place.model and not number:
                answers.append(asked(client, "post", address))
            if place.model:
                assert all(answer.status_code in REFUSED for answer in answers), (address, answers)
            for answer in answers:
                assert not leaks(answer, other), address
    assert fingerprint(world.application) == before


@pytest.mark.parametrize("role", Role.values)
def test_a_button_is_for_who_has_its_scope(world, member, role):
    client, scopes = member(role), ROLE_SCOPES[role]
    before = fingerprint(world.application)
    for label, model_admin in registered().items():
        if label not in READ:
            continue
        for name in model_admin.row_actions:
            scope = getattr(model_admin, name).row_action.scope
            if READ[label] in scopes and scope in scopes:
                continue
            address = f"{_list_of(label)}{world[label].pk}/do/{name}/"
            for method in ("get", "post"):
                assert asked(client, method, address).status_code in (403, 404), (address, method)
    assert fingerprint(world.application) == before


def test_bulk_actions_do_nothing_to_another_applications_rows(world, other, member):
    owner, before = member(Role.OWNER), fingerprint(other.application)
    request = asked(owner, "get", "/admin/").wsgi_request
    for label, model_admin in registered().items():
        if label not in READ:
            continue
        for name in model_admin.get_actions(request):
            data = {"action": name, "_selected_action": [str(other[label].pk)], "post": "yes", "reason": "x"}
            answer = asked(owner, "post", _list_of(label), data)
            assert not leaks(answer, other), (label, name)
    assert fingerprint(other.application) == before


def test_nobody_gets_in_without_signing_in(world):
    client = Client()
    for place in places():
        key = str(world[place.model].pk) if place.model in world.rows else NOBODY
        for word in place.words():
            for method in ("get", "post"):
                answer = asked(client, method, place.filled(key, word))
                assert answer.status_code in REFUSED, (place.filled(key, word), answer.status_code)
                assert not leaks(answer, world), place.filled(key, word)


def test_the_walk_finds_the_pages():
    """It would be of no use if it walked past them."""
    found = places()
    assert {place.model for place in found if place.model} == set(registered())
    assert {"index", "statistics", "autocomplete"} <= {place.name for place in found}
    assert len(found) > 5 * len(registered())


def _list_of(label: str) -> str:
    return f"/admin/{label.replace('.', '/').lower()}/"
