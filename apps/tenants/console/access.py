"""Who may do what in the console: the scopes of `apps.tenants.scopes`, per application, read once per request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from django.http import HttpRequest

from apps.tenants.access import client_address
from apps.tenants.accounts.networks import is_within, networks_of
from apps.tenants.models import Application, Membership, Operator
from apps.tenants.scopes import ROLE_SCOPES, SCOPES


@dataclass(frozen=True)
class Grants:
    """The scopes of an operator by application; of a superuser, everything everywhere (`by_application` is None)."""

    by_application: dict[UUID, frozenset[str]] | None

    @property
    def is_platform(self) -> bool:
        return self.by_application is None

    def has(self, scope: str, application_id: UUID | None) -> bool:
        """Whether the operator has this scope in this application; in any, if None is given."""
        if self.by_application is None:
            return True
        if application_id is None:
            return any(scope in scopes for scopes in self.by_application.values())
        return scope in self.by_application.get(application_id, frozenset())

    def of(self, application_id: UUID) -> frozenset[str]:
        if self.by_application is None:
            return frozenset(SCOPES)
        return self.by_application.get(application_id, frozenset())

    def applications(self, scope: str) -> list[UUID]:
        """Where the operator has this scope, by id. For look-ups by an index that starts with the application."""
        if self.by_application is None:
            return self._all_applications
        return [key for key, scopes in self.by_application.items() if scope in scopes]

    @cached_property
    def _all_applications(self) -> list[UUID]:
        return list(Application.objects.order_by().values_list("pk", flat=True))


NOTHING = Grants({})


def grants_of(request: HttpRequest) -> Grants:
    """The grants of who is signed in; one query, kept on the request."""
    known: Grants | None = getattr(request, "_console_grants", None)
    if known is None:
        known = _read(request)
        request._console_grants = known  # type: ignore[attr-defined]
    return known


def memberships_of(request: HttpRequest) -> list[Membership]:
    """The memberships of who is signed in, with their applications; one query, kept on the request."""
    known: list[Membership] | None = getattr(request, "_console_memberships", None)
    if known is None:
        user = getattr(request, "user", None)
        mine = user.memberships.all() if isinstance(user, Operator) else Membership.objects.none()
        known = list(mine.select_related("application").order_by("application_id"))
        request._console_memberships = known  # type: ignore[attr-defined]
    return known


def is_open_here(request: HttpRequest, application: Application) -> bool:
    """Whether the application may be managed from where the request comes (its setting `console_networks`)."""
    networks = networks_of(application.settings)
    return not networks or is_within(client_address(request), networks)


def _read(request: HttpRequest) -> Grants:
    """An application that is not to be managed from this address is as if there were no role in it."""
    user = getattr(request, "user", None)
    if not isinstance(user, Operator) or not user.is_active or not user.is_staff:
        return NOTHING
    if user.is_superuser:
        return Grants(None)
    rows = memberships_of(request)
    return Grants({row.application_id: ROLE_SCOPES[row.role] for row in rows if is_open_here(request, row.application)})
