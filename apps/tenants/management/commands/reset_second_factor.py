"""`manage.py reset_second_factor EMAIL`: for the only superuser, who has lost the phone and the recovery codes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.tenants.accounts.second_factor import second_factor_remove
from apps.tenants.audit.services import audit
from apps.tenants.models import Operator
from apps.tenants.sign_in import end_all_sign_ins

BY = "manage.py reset_second_factor"


class Command(BaseCommand):
    help = (
        "Take an operator's second factor and recovery codes away, and end all of their sign-ins. Others do so at the "
        "console; this is for when nobody is left who could. Be sure that it is them who ask."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    @transaction.atomic
    def handle(self, *args: Any, email: str, **options: Any) -> None:
        operator = Operator.objects.filter(email=email.strip().lower()).first()
        if operator is None:
            raise CommandError(f"nobody signs in as {email}")
        if not second_factor_remove(operator=operator):
            raise CommandError(f"{operator.email} has no second factor")
        end_all_sign_ins(operator)
        audit("operator.reset_second_factor", actor=BY, row=operator)
        self.stdout.write(f"{operator.email} has no second factor any more; all sign-ins have ended")
