"""`manage.py analytics_rebuild`: count the statistics anew from messages' and subscriptions' events."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.analytics import rebuild
from apps.analytics.clocks import zone_of
from apps.tenants.models import Application
from automata_signal.errors import SignalError


class Command(BaseCommand):
    help = (
        "Counts the statistics anew from the events. The old figures stay until the new ones are complete. Hours of "
        "which retention has deleted something stay as they are. Interrupted, it goes on where it was when it is run "
        "again with the same options."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--application", type=UUID, metavar="ID", help="only of this one")
        parser.add_argument("--since", metavar="TIME", help="only from this hour on (ISO 8601)")
        parser.add_argument(
            "--restored",
            action="store_true",
            help="after a dump was restored: counts all, and lets the fills go on. Sending waits for some seconds",
        )
        parser.add_argument("--discard", action="store_true", help="forget a rebuild that was begun")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["discard"]:
            self.stdout.write("discarded" if rebuild.rebuild_discard() else "there was none")
            return
        application = self._application(options["application"])
        since = self._since(options["since"], application)
        if options["restored"] and (application or since):
            raise CommandError("--restored counts everything: it takes neither --application nor --since")
        began = time.monotonic()
        try:
            row = rebuild.rebuild_start(application=application, since=since, restored=options["restored"])
        except SignalError as error:
            raise CommandError(error.message) from error
        for key, begins in row.begins.items():
            if datetime.fromisoformat(begins) > rebuild.BEGINNING:
                self.stdout.write(f"{key}: from {begins} on; older hours stay as they are")
        events = rebuild.rebuild_run(row)
        seconds = time.monotonic() - began
        self.stdout.write(f"{events:,} events of {len(row.begins):,} applications were counted in {seconds:.1f} s")

    def _application(self, key: UUID | None) -> Application | None:
        application = Application.objects.filter(pk=key).first() if key else None
        if key and application is None:
            raise CommandError(f"There is no application {key}")
        return application

    def _since(self, text: str | None, application: Application | None) -> datetime | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise CommandError(f"--since: {text!r} is not a time in ISO 8601") from None
        zone = zone_of(application.time_zone if application else "UTC")
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)
