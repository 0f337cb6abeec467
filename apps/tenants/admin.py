"""The console's pages of what Django's parts bring along. Those of applications, keys and credentials are in
`console_pages`, those of operators, members and invitations in `accounts`, the audit log's in `audit`: all are
registered from here."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from unfold import widgets

from apps.tenants import started as _started  # noqa: F401, registers the first steps
from apps.tenants.accounts import admin as _accounts  # noqa: F401, registers its pages
from apps.tenants.audit import admin as _audit  # noqa: F401, registers its page
from apps.tenants.console.base import PlatformAdmin, ScopedAdmin
from apps.tenants.console_pages import applications, credentials, keys, notices  # noqa: F401  # registers their pages
from apps.tenants.operations import admin as _operations  # noqa: F401, registers its page


def _text(**attrs: Any) -> Any:
    return widgets.UnfoldAdminTextInputWidget(attrs)


# --- What Django's parts bring along -------------------------------------------------------------------------------


class ThirdPartyAdmin(PlatformAdmin):
    """Models without services of ours: Django saves them. Small tables, so any column may be sorted by."""

    sortable_by = None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.save()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        obj.delete()


class TaskSelect(widgets.UnfoldAdminSelectWidget, beat_admin.TaskSelectWidget):  # type: ignore[misc]
    pass


class ScheduleForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = _text()
        self.fields["regtask"].widget = TaskSelect()


class PeriodicTaskAdmin(ThirdPartyAdmin, beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]
    form = ScheduleForm
    change_form_template = None  # django-celery-beat's has a script in the page, which the content policy refuses
    actions = beat_admin.PeriodicTaskAdmin.actions
    date_hierarchy = None
    list_display = ("name", "enabled", "task", "scheduler", "last_run_at", "one_off")
    list_filter = ("enabled", "one_off")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    ordering = ("name",)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(Q(name__icontains=term) | Q(task__icontains=term))


class ScheduleAdmin(ThirdPartyAdmin):
    """Intervals, crontabs and moments of the schedules."""

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(pk=term) if term.isdecimal() and len(term) < 10 else queryset.none()


class SignInAdmin(ThirdPartyAdmin):
    """Refresh tokens by their id; what they could be used with is not stored, and the column for it not shown."""

    may_add = may_change = may_delete = False
    list_display: Any = ("user", "short_jti", "created_at", "expires_at")
    list_select_related: ClassVar[Any] = ("user",)
    fields: ClassVar[Any] = ("user", "short_jti", "created_at", "expires_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("token")

    @admin.display(description=gettext_lazy("token id"))
    def short_jti(self, row: Any) -> str:
        return f"{row.jti[:8]}…"

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(user__email=term.lower())


class EndedSignInAdmin(SignInAdmin):
    list_display: Any = ("user", "blacklisted_at")
    list_select_related: ClassVar[Any] = ("token__user",)
    fields: ClassVar[Any] = ("user", "blacklisted_at")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return PlatformAdmin.get_queryset(self, request).defer("token__token")

    @admin.display(description=gettext_lazy("operator"))
    def user(self, row: Any) -> str:
        return str(row.token.user)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(token__user__email=term.lower())


_REPLACED: dict[Any, type[ScopedAdmin]] = {
    PeriodicTask: PeriodicTaskAdmin,
    ClockedSchedule: ScheduleAdmin,
    CrontabSchedule: ScheduleAdmin,
    IntervalSchedule: ScheduleAdmin,
    SolarSchedule: ScheduleAdmin,
    OutstandingToken: SignInAdmin,
    BlacklistedToken: EndedSignInAdmin,
}
for _model, _model_admin in _REPLACED.items():
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
    admin.site.register(_model, _model_admin)
admin.site.unregister(Group)  # rights come from roles in applications
