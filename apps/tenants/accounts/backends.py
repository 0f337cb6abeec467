"""Who somebody is, by e-mail and password: the one place that the console and the API ask.

django-axes counts refusals by e-mail and address together, so that a stranger elsewhere cannot lock anybody out. While
a pair is locked, the answer is that of a wrong password, and takes as long.
"""

from __future__ import annotations

from typing import Any

from axes.backends import AxesBackend
from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from apps.tenants.access import client_address, network_of
from apps.tenants.models import Operator


class OperatorBackend(AxesBackend):  # type: ignore[misc]
    """Operators by e-mail in any case. `PermissionDenied` for who is locked out, which Django takes as a refusal."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        email: str | None = None,
        **kwargs: Any,
    ) -> Operator | None:
        name = (username or email or "").strip().lower()
        if not name or password is None or "\0" in name:
            return None
        if is_locked(request, name):
            Operator().set_password(password)  # as slow as looking
            raise PermissionDenied
        found = ModelBackend.authenticate(self, request, username=name, password=password)
        return found if isinstance(found, Operator) else None


def is_locked(request: HttpRequest | None, email: str) -> bool:
    """Whether this e-mail was refused too often from where the request comes."""
    return request is not None and not AxesProxyHandler.is_allowed(request, {"username": email.lower()})


def count_failure(request: HttpRequest | None, operator: Operator, reason: str) -> None:
    """A wrong code of the second factor counts like a wrong password."""
    credentials = {"username": operator.email, "reason": reason}
    user_login_failed.send(sender=__name__, credentials=credentials, request=request)


def forget_failures(request: HttpRequest | None, operator: Operator) -> None:
    """Somebody came in: what was counted of them at this place is forgotten."""
    if request is not None:
        AxesProxyHandler.reset_attempts(ip_address=axes_address(request), username=operator.email)


def axes_username(request: HttpRequest | None, credentials: dict[str, Any] | None = None) -> str:
    """For django-axes: the e-mail that was given, in one form."""
    given = credentials or {}
    return str(given.get("username") or given.get("email") or "").strip().lower().replace("\0", "")[:254]


def axes_address(request: HttpRequest) -> str | None:
    """For django-axes: what one party has in its hand, an IPv4 address or the first of a /64."""
    return as_ip(network_of(client_address(request)).split("/")[0])


def as_ip(text: str) -> str | None:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        return None
