"""`manage.py bootstrap`: a first operator, an application and its keys; run again, it adds only what is missing."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.tenants import services
from apps.tenants.models import ApiKey, Application, KeyKind, Operator, Role
from automata_signal.errors import SignalError

BY = "manage.py bootstrap"


class Command(BaseCommand):
    help = (
        "Create a superuser, an application that they own, and a secret and a publishable key. What exists is left "
        "alone. The password is taken from OPERATOR_PASSWORD, or made and printed. Keys are printed once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--application", required=True, help="Its name.")
        parser.add_argument("--time-zone", default="UTC")
        parser.add_argument("--language", default="en")
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print one JSON object.")

    def handle(self, *args: Any, as_json: bool, **options: Any) -> None:
        try:
            made = bootstrap(
                email=options["email"],
                application_name=options["application"],
                time_zone=options["time_zone"],
                language=options["language"],
            )
        except SignalError as error:
            problems = [f"{p.field}: {p.message}" for p in error.details]
            raise CommandError("; ".join(problems) or error.message) from None
        if as_json:
            self.stdout.write(json.dumps(made))
        else:
            for name, value in made.items():
                self.stdout.write(f"{name:16} {'(exists)' if value is None else value}")


@transaction.atomic
def bootstrap(*, email: str, application_name: str, time_zone: str, language: str) -> dict[str, str | None]:
    """What there is now; `password` and keys only if they were made by this call, else None."""
    operator = Operator.objects.filter(email=email.strip().lower()).first()
    password = None
    if operator is None:
        password = os.environ.get("OPERATOR_PASSWORD") or secrets.token_urlsafe(12)
        operator = services.operator_create(email=email, password=password, is_superuser=True, by=BY)
    application = Application.objects.filter(
        name=application_name.strip(), memberships__operator=operator, memberships__role=Role.OWNER
    ).first()
    if application is None:
        application = services.application_create(
            name=application_name, owner=operator, time_zone=time_zone, default_language=language, by=BY
        )
    return {
        "operator": operator.email,
        "password": password,
        "application": application.name,
        "application_id": str(application.pk),
        "secret_key": _key(application, KeyKind.SECRET),
        "publishable_key": _key(application, KeyKind.PUBLISHABLE),
    }


def _key(application: Application, kind: KeyKind) -> str | None:
    keys = ApiKey.objects.for_application(application).filter(kind=kind)
    if any(key.is_usable for key in keys):
        return None
    return services.key_create(application=application, name="bootstrap", kind=kind, by=BY).plaintext
