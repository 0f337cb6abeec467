"""`manage.py check_partitions`: whether every message lies in its month's partition, and the next month has one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.messaging import partitions


class Command(BaseCommand):
    help = (
        "Says in one line whether the partitions of messages and their events are as they should be; exit code 1 if "
        "not. With --repair it makes those that are missing and moves stray rows home, while nothing else can write."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repair", action="store_true")

    def handle(self, *args: Any, repair: bool, **options: Any) -> None:
        if repair:
            self.stdout.write(f"{partitions.repair()} stray rows were moved home")
        if found := partitions.problems():
            raise CommandError(f"Partitions: {'; '.join(found)}. Mend it by check_partitions --repair.")
        self.stdout.write("Partitions: as they should be")
