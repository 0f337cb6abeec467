"""Everything that changes operators, applications, keys, credentials and roles.

`by` is who does it, for the history: `Caller.label` of an API key, the name of a command. Where an operator is
signed in, simple-history knows them from the request.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import available_timezones

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext

from apps.tenants.access import KEY_PREFIXES, key_digest
from apps.tenants.accounts.networks import is_within, networks_of
from apps.tenants.application_settings import check_settings
from apps.tenants.credentials.expiry import expiry_in
from apps.tenants.models import (
    ApiKey,
    Application,
    BreakerCause,
    ChannelCredential,
    Invitation,
    KeyKind,
    Membership,
    Operator,
    Provider,
    Role,
)
from apps.tenants.plan_rules import plan_rules
from apps.tenants.providers import Check, providers_that_reach, secret_rules, tell_breaker_closed
from apps.tenants.scopes import SCOPES
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, FieldProblem, Forbidden, ValidationFailed

KEY_RANDOM_BYTES = 24
"""192 bits, 32 characters."""
KEY_PREFIX_SHOWN = 12
KEY_OVERLAP_MAX = timedelta(days=90)
RATE_PER_MINUTE_MAX = 10_000_000
SECRET_MAX_BYTES = 32_768
POSITION_MAX = 32_767
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")


class _Unset:
    """Tells "leave it as it is" from None."""


UNSET = _Unset()


# --- Checks ------------------------------------------------------------------------------------------------------


@cache
def _time_zones() -> frozenset[str]:
    """Reading them walks the file system, so once is enough."""
    return frozenset(available_timezones())


def _name(value: str, field: str = "name") -> str:
    value = value.strip()
    if not value or len(value) > 200:
        raise ValidationFailed.of(field, "must have 1 to 200 characters")
    if "\0" in value:
        raise ValidationFailed.of(field, "holds a NUL character")
    return value


def _time_zone(value: str) -> str:
    if value not in _time_zones():
        raise ValidationFailed.of("time_zone", "is not a time zone such as Asia/Seoul")
    return value


def _language(value: str) -> str:
    if len(value) > 16 or not _LANGUAGE.fullmatch(value):
        raise ValidationFailed.of("default_language", "is not a language tag such as en or zh-Hant")
    return value


def _rate(value: int | None, field: str) -> int | None:
    if value is not None and not 1 <= value <= RATE_PER_MINUTE_MAX:
        raise ValidationFailed.of(field, f"must be from 1 to {RATE_PER_MINUTE_MAX}")
    return value


def _application_settings(value: Mapping[str, Any]) -> dict[str, Any]:
    problems = [
        FieldProblem(p.field if p.field == "settings" else f"settings.{p.field}", p.message[:300])
        for p in check_settings(value)
    ]
    if problems:
        raise ValidationFailed("The settings are not valid.", details=problems)
    return dict(value)


def _save(row: models.Model, by: str) -> None:
    """Save with the reason that simple-history keeps beside the new version."""
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.save()


# --- Applications --------------------------------------------------------------------------------------------------


@transaction.atomic
def application_create(
    *,
    name: str,
    owner: Operator | None = None,
    time_zone: str = "UTC",
    default_language: str = "en",
    settings: Mapping[str, Any] | None = None,
    by: str = "",
) -> Application:
    """Create an application; `owner`, if given, becomes its first owner.

    Raise `ValidationFailed`, and `Forbidden` for what the plan does not allow: settings, or one more application.
    """
    application = Application(
        name=_name(name),
        time_zone=_time_zone(time_zone),
        default_language=_language(default_language),
        settings=_application_settings(settings or {}),
    )
    plan_rules().refuse_settings(application, application.settings)
    _save(application, by)
    if owner is not None:
        membership_set(operator=owner, application=application, role=Role.OWNER, by=by)
    return application


@transaction.atomic
def application_update(
    *,
    application: Application,
    name: str | None = None,
    time_zone: str | None = None,
    default_language: str | None = None,
    settings: Mapping[str, Any] | None = None,
    is_active: bool | None = None,
    by: str = "",
    from_address: str = "",
) -> Application:
    """Change what is given. `settings` replaces all settings, so that what is left out is the default again.

    Networks that would shut out `from_address`, where who changes them is, are refused.

    Raise `ValidationFailed`, and `Forbidden` for a setting that the plan does not allow.
    """
    row = Application.objects.select_for_update().get(pk=application.pk)
    if name is not None:
        row.name = _name(name)
    if time_zone is not None:
        row.time_zone = _time_zone(time_zone)
    if default_language is not None:
        row.default_language = _language(default_language)
    if settings is not None:
        row.settings = _application_settings(settings)
        if from_address and not is_within(from_address, networks_of(row.settings)):
            raise ValidationFailed.of("settings.console_networks", f"would shut you out: you are at {from_address}")
        plan_rules().refuse_settings(row, row.settings)
    if is_active is not None:
        row.is_active = is_active
    _save(row, by)
    return row


# --- Keys --------------------------------------------------------------------------------------------------------


class NewKey(NamedTuple):
    key: ApiKey
    plaintext: str
    """Shown once; we keep only its digest."""


@transaction.atomic
def key_create(
    *,
    application: Application,
    name: str,
    kind: str,
    scopes: Collection[str] | None = None,
    expires_at: datetime | None = None,
    rate_per_minute: int | None = None,
    granted_by: Collection[str] | None = None,
    by: str = "",
) -> NewKey:
    """Create a key. A secret key has all scopes unless told, a publishable key has none to choose.

    `granted_by` are the scopes of who creates it: nobody can give more than they have (`Forbidden`), and it is
    what a secret key gets if `scopes` is None.
    """
    if kind not in KeyKind.values:
        raise ValidationFailed.of("kind", f"must be one of {', '.join(KeyKind.values)}")
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationFailed.of("expires_at", "is in the past")
    return _key_insert(
        application=application,
        name=_name(name),
        kind=kind,
        scopes=_key_scopes(kind, scopes, granted_by),
        expires_at=expires_at,
        rate_per_minute=_rate(rate_per_minute, "rate_per_minute"),
        by=by,
    )


def _key_scopes(kind: str, scopes: Collection[str] | None, granted_by: Collection[str] | None) -> list[str]:
    if kind == KeyKind.PUBLISHABLE:
        if scopes:
            raise ValidationFailed.of("scopes", "a publishable key has no scopes to choose")
        return []
    mine = set(SCOPES if granted_by is None else granted_by) & set(SCOPES)
    if scopes is None:
        return [scope for scope in SCOPES if scope in mine]
    if not scopes:
        raise ValidationFailed.of("scopes", "a secret key needs at least one scope")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise ValidationFailed.of("scopes", f"there is no scope {unknown[0][:40]!r}")
    _refuse_escalation(scopes, mine)
    return [scope for scope in SCOPES if scope in set(scopes)]


def _refuse_escalation(scopes: Collection[str], mine: Collection[str]) -> None:
    if missing := sorted(set(scopes) - set(mine)):
        raise Forbidden(f"You cannot give the scope {missing[0]}, which you do not have.")


def _key_insert(*, kind: str, by: str, **fields: Any) -> NewKey:
    plaintext = KEY_PREFIXES[KeyKind(kind)] + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    key = ApiKey(kind=kind, prefix=plaintext[:KEY_PREFIX_SHOWN], digest=key_digest(plaintext), **fields)
    _save(key, by)
    return NewKey(key, plaintext)


@transaction.atomic
def key_revoke(*, key: ApiKey, by: str = "") -> ApiKey:
    """End a key: `API_KEY_CACHE_S` later no process takes it. Revoking a revoked key changes nothing."""
    row = ApiKey.objects.select_for_update().get(pk=key.pk)
    if row.revoked_at is None:
        row.revoked_at = timezone.now()
        _save(row, by)
    return row


@transaction.atomic
def key_rotate(*, key: ApiKey, overlap: timedelta, granted_by: Collection[str] | None = None, by: str = "") -> NewKey:
    """Make a successor with the same name, scopes and rate; the old key works on for `overlap`.

    The successor keeps the old key's time to live, if that had an end. Raise `Conflict` for a key that is revoked,
    expired or already rotated, and `Forbidden` where `granted_by` has less than the key.
    """
    if not timedelta(0) <= overlap <= KEY_OVERLAP_MAX:
        raise ValidationFailed.of("overlap_s", f"must be from 0 to {int(KEY_OVERLAP_MAX.total_seconds())}")
    old = ApiKey.objects.select_for_update().select_related("application").get(pk=key.pk)
    now = timezone.now()
    if not old.is_usable:
        raise Conflict("The key is revoked or expired.", code="KEY_NOT_USABLE")
    if old.replaced_by_id is not None:
        raise Conflict("The key was rotated already; rotate its successor.", code="KEY_ALREADY_ROTATED")
    if granted_by is not None:
        _refuse_escalation(old.scopes, granted_by)
    new = _key_insert(
        application=old.application,
        name=old.name,
        kind=old.kind,
        scopes=list(old.scopes),
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        rate_per_minute=old.rate_per_minute,
        by=by,
    )
    old.replaced_by = new.key
    old.expires_at = min(now + overlap, old.expires_at or now + overlap)
    _save(old, by)
    return new


# --- Credentials -------------------------------------------------------------------------------------------------


@transaction.atomic
def credential_create(
    *,
    application: Application,
    provider: str,
    name: str,
    secret: Mapping[str, Any],
    position: int = 0,
    rate_per_minute: int | None = None,
    device_rate_per_minute: int | None = None,
    device_rate_per_hour: int | None = None,
    expires_at: datetime | None = None,
    check: Check | None = None,
    by: str = "",
) -> ChannelCredential:
    """Store what a provider knows the application by, encrypted.

    The rates are in messages; None leaves the provider's own limit. `expires_at` is when the provider stops taking the
    secret, unless that is told by the secret itself. `check` judges the secret instead of the rules that the provider's
    adapter registered (`providers.py`).
    """
    if provider not in Provider.values:
        raise ValidationFailed.of("provider", f"must be one of {', '.join(Provider.values)}")
    credential = ChannelCredential(
        application=application,
        provider=provider,
        name=_name(name),
        position=_position(position),
        rate_per_minute=_rate(rate_per_minute, "rate_per_minute"),
        device_rate_per_minute=_rate(device_rate_per_minute, "device_rate_per_minute"),
        device_rate_per_hour=_rate(device_rate_per_hour, "device_rate_per_hour"),
        expires_at=expires_at,
    )
    _set_secret(credential, secret, check)
    _save(credential, by)
    return credential


def credential_builtin(application_id: UUID, provider: str) -> ChannelCredential:
    """The credential of a provider that needs none, since it is ourselves; made on first use, once."""
    with transaction.atomic():
        application = Application.objects.select_for_update(no_key=True).get(pk=application_id)
        found = ChannelCredential.objects.filter(application=application, provider=provider).first()
        if found is not None:
            return found
        credential = ChannelCredential(application=application, provider=provider, name=provider, secret={})
        _save(credential, "system")
        return credential


@transaction.atomic
def credential_update(
    *,
    credential: ChannelCredential,
    name: str | None = None,
    secret: Mapping[str, Any] | None = None,
    position: int | None = None,
    is_active: bool | None = None,
    rate_per_minute: int | _Unset | None = UNSET,
    device_rate_per_minute: int | _Unset | None = UNSET,
    device_rate_per_hour: int | _Unset | None = UNSET,
    expires_at: datetime | _Unset | None = UNSET,
    check: Check | None = None,
    by: str = "",
) -> ChannelCredential:
    """Change what is given. Saving is somebody's word that it is right: the breaker closes, the error is forgotten."""
    row = _locked_credential(credential.pk)
    if name is not None:
        row.name = _name(name)
    if position is not None:
        row.position = _position(position)
    if is_active is not None:
        row.is_active = is_active
    if not isinstance(rate_per_minute, _Unset):
        row.rate_per_minute = _rate(rate_per_minute, "rate_per_minute")
    if not isinstance(device_rate_per_minute, _Unset):
        row.device_rate_per_minute = _rate(device_rate_per_minute, "device_rate_per_minute")
    if not isinstance(device_rate_per_hour, _Unset):
        row.device_rate_per_hour = _rate(device_rate_per_hour, "device_rate_per_hour")
    if not isinstance(expires_at, _Unset) and expires_at != row.expires_at:
        row.expires_at, row.expiry_told_days = expires_at, None
    if secret is not None:
        _set_secret(row, secret, check)
    _clear_trouble(row)
    _save(row, by)
    return row


def credential_deactivate(*, credential: ChannelCredential, by: str = "") -> ChannelCredential:
    """Stop using a credential; its history, and what was sent by it, stay explained."""
    return credential_update(credential=credential, is_active=False, by=by)


@transaction.atomic
def credential_move(*, credential: ChannelCredential, earlier: bool, by: str = "") -> ChannelCredential:
    """Use a credential one place earlier or later than the others that reach the same subscriptions.

    At the end of the row nothing changes. Trouble is not forgotten: nobody said that anything is right now.
    """
    Application.objects.select_for_update(no_key=True).get(pk=credential.application_id)
    reaches = secret_rules(credential.provider).reaches
    providers = providers_that_reach(reaches) if reaches else [credential.provider]
    rows = list(
        ChannelCredential.objects.filter(
            application_id=credential.application_id, provider__in=providers, is_active=True
        )
        .defer("secret")
        .order_by("position", "id")
    )
    place = next((index for index, row in enumerate(rows) if row.pk == credential.pk), None)
    other = None if place is None else place - 1 if earlier else place + 1
    if place is not None and other is not None and 0 <= other < len(rows):
        rows[place], rows[other] = rows[other], rows[place]
        for index, row in enumerate(rows):
            if row.position != index:
                row.position = index
                _save(row, by)
    return ChannelCredential.objects.defer("secret").get(pk=credential.pk)


def _locked_credential(credential_id: UUID) -> ChannelCredential:
    """Without the secret: one that cannot be decrypted any more must not keep anybody from replacing it."""
    return ChannelCredential.objects.select_for_update().defer("secret").get(pk=credential_id)


def _position(value: int) -> int:
    if not 0 <= value <= POSITION_MAX:
        raise ValidationFailed.of("position", f"must be from 0 to {POSITION_MAX}")
    return value


def _set_secret(credential: ChannelCredential, secret: Mapping[str, Any], check: Check | None) -> None:
    if not isinstance(secret, Mapping) or not secret:
        raise ValidationFailed.of("secret", "must be a JSON object that is not empty")
    if len(json.dumps(dict(secret)).encode()) > SECRET_MAX_BYTES:
        raise ValidationFailed.of("secret", f"is larger than {SECRET_MAX_BYTES} bytes")
    rules = secret_rules(credential.provider)
    problems: Sequence[FieldProblem] = (check or rules.check)(secret)
    if problems:
        details = [FieldProblem(f"secret.{p.field}" if p.field else "secret", p.message) for p in problems]
        raise ValidationFailed("The secret is not valid.", details=details)
    credential.secret = dict(secret)
    credential.summary = dict(rules.summarise(secret))
    credential.check_started_at = credential.checked_at = credential.check_ok = None
    credential.check_message = ""
    if (ends_at := expiry_in(secret)) is not None and ends_at != credential.expires_at:
        credential.expires_at, credential.expiry_told_days = ends_at, None


def _clear_trouble(credential: ChannelCredential) -> None:
    """Close the breaker, and let what waits for the next probe know."""
    if credential.breaker_opened_at is not None:
        application_id, provider, probe_at = credential.application_id, credential.provider, credential.breaker_probe_at
        transaction.on_commit(lambda: tell_breaker_closed(application_id, provider, probe_at), robust=True)
    credential.breaker_opened_at = None
    credential.breaker_reason = ""
    credential.breaker_cause = ""
    credential.breaker_probe_at = None
    credential.breaker_probing_until = None
    credential.breaker_failed_probes = 0
    credential.last_error = ""
    credential.last_error_at = None


@transaction.atomic
def breaker_open(credential_id: UUID, reason: str, *, cause: str = BreakerCause.MISMATCH) -> bool:
    """Stop sending by a credential. True for the one call that opened it, so that the alarm goes out once.

    One that has been open for longer than `BREAKER_COOLDOWN_S` opens anew.
    """
    now = timezone.now()
    cooled = now - timedelta(seconds=django_settings.BREAKER_COOLDOWN_S)
    row = (
        ChannelCredential.objects.select_for_update()
        .defer("secret")
        .filter(Q(breaker_opened_at=None) | Q(breaker_opened_at__lt=cooled), pk=credential_id)
        .exclude(breaker_cause=BreakerCause.HELD)
        .first()
    )
    if row is None:
        return False
    row.breaker_opened_at = now
    row.breaker_reason = reason[:200]
    row.breaker_cause = cause
    row.breaker_probe_at = now + _cool_down(cause, failed_probes=0)
    row.breaker_probing_until = None
    row.breaker_failed_probes = 0
    _save(row, "breaker")
    return True


def _cool_down(cause: str, failed_probes: int) -> timedelta:
    """The time to the next probe. An outage is probed soon and then ever more seldom; for the rest a person is
    needed, so a probe only finds out whether one was."""
    longest = django_settings.BREAKER_COOLDOWN_S
    first = django_settings.BREAKER_OUTAGE_COOLDOWN_S if cause == BreakerCause.OUTAGE else longest
    return timedelta(seconds=min(first * 2 ** min(failed_probes, 16), longest))


def breaker_take_probe(credential_id: UUID, *, for_s: float) -> bool:
    """Let the caller probe, if a probe is due: true for one caller, whose right lapses after `for_s` seconds."""
    now = timezone.now()
    cooled = now - timedelta(seconds=django_settings.BREAKER_COOLDOWN_S)
    due = ChannelCredential.objects.filter(
        Q(breaker_probe_at__lte=now) | Q(breaker_probe_at=None, breaker_opened_at__lte=cooled),
        Q(breaker_probing_until=None) | Q(breaker_probing_until__lte=now),
        pk=credential_id,
        breaker_opened_at__isnull=False,
    )
    return due.update(breaker_probing_until=now + timedelta(seconds=for_s)) == 1


@transaction.atomic
def breaker_end_probe(credential_id: UUID, *, works: bool | None, reason: str = "") -> None:
    """What a probe has shown: it works and the breaker closes; it does not, and the next probe is put off with
    `reason`; or None, nothing, and the next worker may probe."""
    rows = ChannelCredential.objects.select_for_update().defer("secret")
    row = rows.filter(pk=credential_id, breaker_opened_at__isnull=False).first()
    if row is None:
        return
    if row.breaker_cause == BreakerCause.HELD and row.breaker_probing_until is None:
        return  # an operator has held it since the probe began: what that shows counts no more
    if works:
        _clear_trouble(row)
        _save(row, "probe")
        return
    changes: dict[str, Any] = {"breaker_probing_until": None}
    if works is not None:
        failed = min(row.breaker_failed_probes + 1, 32_767)
        changes |= {
            "breaker_failed_probes": failed,
            "breaker_probe_at": timezone.now() + _cool_down(row.breaker_cause, failed),
            "breaker_reason": reason[:200] or row.breaker_reason,
        }
    ChannelCredential.objects.filter(pk=credential_id).update(**changes)


@transaction.atomic
def breaker_close(credential: ChannelCredential, *, by: str = "") -> ChannelCredential:
    """Let a credential send again."""
    row = _locked_credential(credential.pk)
    if row.breaker_opened_at is not None:
        _clear_trouble(row)
        _save(row, by)
    return row


HOLD_MAX = timedelta(days=90)


@transaction.atomic
def breaker_hold(credential: ChannelCredential, *, reason: str, until: datetime, by: str = "") -> ChannelCredential:
    """Keep a credential from sending until then, whatever its provider says; after it a probe decides. Messages wait,
    or go by the next credential. Raises `ValidationFailed` of `reason` or `until`."""
    now = timezone.now()
    reason = reason.strip()
    if not reason or "\0" in reason:
        raise ValidationFailed.of("reason", gettext("is missing"))
    if not now < until <= now + HOLD_MAX:
        raise ValidationFailed.of("until", gettext("must be within the next 90 days"))
    row = _locked_credential(credential.pk)
    row.breaker_opened_at = row.breaker_opened_at or now
    row.breaker_reason = reason[:200]
    row.breaker_cause = BreakerCause.HELD
    row.breaker_probe_at = until
    row.breaker_probing_until = None
    row.breaker_failed_probes = 0
    _save(row, by)
    return row


@transaction.atomic
def credential_rate_set(
    credential: ChannelCredential, *, rate_per_minute: int | None, by: str = ""
) -> ChannelCredential:
    """Limit how fast a credential sends, or take the limit away; unlike an edit it leaves the breaker as it is."""
    row = _locked_credential(credential.pk)
    row.rate_per_minute = _rate(rate_per_minute, "rate_per_minute")
    _save(row, by)
    return row


def credential_note_error(credential_id: UUID, error: str) -> None:
    """Keep the provider's last complaint about a credential, for the console. It is not history."""
    ChannelCredential.objects.filter(pk=credential_id).update(last_error=error[:500], last_error_at=timezone.now())


# --- Operators and roles -------------------------------------------------------------------------------------------


def check_email(value: str) -> str:
    value = value.strip().lower()
    try:
        validate_email(value)
    except ValidationError:
        raise ValidationFailed.of("email", "is not an e-mail address") from None
    if len(value) > 254:
        raise ValidationFailed.of("email", "is longer than 254 characters")
    return value


@transaction.atomic
def operator_create(
    *, email: str, password: str | None = None, name: str = "", is_superuser: bool = False, by: str = ""
) -> Operator:
    """Create an operator. Without a password, the way in is the link of `password_reset_send`."""
    email = check_email(email)
    if Operator.objects.filter(email=email).exists():
        raise ValidationFailed.of("email", "an operator with this address exists")
    operator = Operator(email=email, name=_name(name) if name else "", is_superuser=is_superuser)
    if password is not None:
        check_password_rules(password, operator)
    operator.set_password(password)
    _save(operator, by)
    return operator


@transaction.atomic
def operator_invite(
    *,
    email: str,
    application: Application,
    role: str,
    name: str = "",
    notify: Callable[[UUID], object] | None = None,
    by: str = "",
) -> Membership:
    """Give somebody a role, creating the operator if need be; a new one gets a link to choose a password by e-mail.

    `notify` takes the operator's id after the commit; it is the task that sends the link, unless told.
    """
    operator = Operator.objects.filter(email=check_email(email)).first()
    if operator is None:
        operator = operator_create(email=email, name=name, by=by)
        operator_id = operator.pk
        # robust: without Redis the operator is there all the same, and can ask for the link again.
        transaction.on_commit(lambda: (notify or _queue_password_link)(operator_id), robust=True)
    return membership_set(operator=operator, application=application, role=role, by=by)


def _queue_password_link(operator_id: UUID) -> None:
    send_tasks([Task("tenants.send_password_link", [str(operator_id)], "control")])


def check_password_rules(password: str, operator: Operator, field: str = "password") -> None:
    """Raise `ValidationFailed` with every rule that the password breaks."""
    from django.contrib.auth.password_validation import validate_password

    try:
        validate_password(password, operator)
    except ValidationError as error:
        details = [FieldProblem(field, message) for message in error.messages]
        raise ValidationFailed("The password is too weak.", details=details) from None


@transaction.atomic
def membership_set(*, operator: Operator, application: Application, role: str, by: str = "") -> Membership:
    """Give an operator a role in an application, in place of the one they had.

    Raise `ValidationFailed`, `Conflict` for the last owner, and `Forbidden` for an owner of as many applications as
    their plans allow.
    """
    if role not in Role.values:
        raise ValidationFailed.of("role", f"must be one of {', '.join(Role.values)}")
    _lock_members(application)
    membership = Membership.objects.filter(operator=operator, application=application).first()
    if membership is None:
        membership = Membership(operator=operator, application=application)
    elif membership.role == role:
        return membership
    elif membership.role == Role.OWNER:
        _refuse_last_owner(membership)
    if role == Role.OWNER:
        plan_rules().refuse_owner(operator, application)
    lets_in = membership.role == Role.OWNER
    membership.role = role
    _save(membership, by)
    if lets_in and not operator.is_superuser:
        _revoke_invitations_by(membership)
    return membership


@transaction.atomic
def membership_remove(*, membership: Membership, by: str = "") -> None:
    """End an operator's role. Raise `Conflict` for the last owner: somebody must be able to let others in."""
    _lock_members(membership.application)
    row = Membership.objects.filter(pk=membership.pk).first()
    if row is None:
        return
    if row.role == Role.OWNER:
        _refuse_last_owner(row)
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.delete()
    if not row.operator.is_superuser:
        _revoke_invitations_by(row)


def _revoke_invitations_by(membership: Membership) -> None:
    """Whoever may not invite any more comes back by no link that they have sent, to themselves or to a friend."""
    open_ones = Invitation.objects.filter(accepted_at=None, revoked_at=None)
    theirs = open_ones.filter(application_id=membership.application_id, invited_by_id=membership.operator_id)
    theirs.update(revoked_at=timezone.now(), digest=None)


def _lock_members(application: Application) -> None:
    """One change of members at a time, or two owners could remove each other at once."""
    Application.objects.select_for_update(no_key=True).get(pk=application.pk)


def _refuse_last_owner(membership: Membership) -> None:
    others = Membership.objects.filter(application_id=membership.application_id, role=Role.OWNER)
    if not others.exclude(pk=membership.pk).exists():
        raise Conflict("An application must keep an owner.", code="LAST_OWNER")
