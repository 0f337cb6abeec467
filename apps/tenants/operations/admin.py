"""The list of switches as rows, for who looks for one; they are turned on the page of operations, which asks why."""

from __future__ import annotations

from django.contrib import admin

from apps.tenants.console.base import PlatformAdmin, ReadOnlyAdmin
from apps.tenants.operations.models import PlatformSwitch


@admin.register(PlatformSwitch)
class PlatformSwitchAdmin(ReadOnlyAdmin, PlatformAdmin):
    list_display = ("name", "is_off", "reason", "changed_by", "changed_at")
    fields = ("name", "is_off", "reason", "changed_by", "changed_at")
    may_add = may_delete = may_change = False
