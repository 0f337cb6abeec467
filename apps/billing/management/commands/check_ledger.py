"""`manage.py check_ledger`: whether quotas, ledger and messages agree."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.billing.checking import differences
from apps.tenants.models import Application


class Command(BaseCommand):
    help = (
        "Counts every figure of quotas and ledger once more from messages, campaigns and entries, and names each "
        "difference; the exit code is then 1. Sending may go on meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--application", type=UUID, help="the id of one application; all unless told")

    def handle(self, *args: Any, application: UUID | None, **options: Any) -> None:
        applications = Application.objects.order_by("id")
        if application is not None:
            applications = applications.filter(pk=application)
            if not applications:
                raise CommandError(f"there is no application {application}", returncode=2)
        found = 0
        for row in applications:
            for difference in differences(row):
                found += 1
                self.stdout.write(str(difference))
        if found:
            raise CommandError(f"{found} differences", returncode=1)
        self.stdout.write("The ledger equals the messages.")
