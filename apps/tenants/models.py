"""Who sends: operators, applications, their keys, credentials and roles."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar
from zoneinfo import available_timezones

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from apps.tenants.accounts.models import Invitation as Invitation
from apps.tenants.application_settings import check_settings
from apps.tenants.audit.models import AuditEvent as AuditEvent
from apps.tenants.operations.models import PlatformSwitch as PlatformSwitch
from automata_signal.encryption import EncryptedJSONField
from automata_signal.ids import new_id


class OperatorManager(BaseUserManager["Operator"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Operator:
        operator = self.model(email=self.normalize_email(email).lower(), **fields)
        operator.set_password(password)
        operator.save(using=self._db)
        return operator

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Operator:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> Operator:
        """By e-mail in any case: addresses are stored in lower case, so the unique index serves and there is one."""
        return self.get(email=(username or "").lower())


class Operator(AbstractBaseUser, PermissionsMixin):
    """A person at the console, known by e-mail. Superusers run the platform; others act by `Membership`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(_("e-mail"), unique=True)
    name = models.CharField(_("name"), max_length=200, blank=True)
    is_staff = models.BooleanField(_("may use the console"), default=True)
    is_active = models.BooleanField(_("active"), default=True)
    language = models.CharField(_("language"), max_length=8, blank=True)
    """Empty: as the browser asks."""
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True)
    """Empty: UTC."""
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = OperatorManager()
    history = HistoricalRecords(excluded_fields=["password", "last_login"])

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("operator")
        verbose_name_plural = _("operators")

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        """As the console greets them."""
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.get_full_name()

    def clean(self) -> None:
        super().clean()
        self.email = self.email.lower()


def default_settings() -> dict[str, Any]:
    return {}


class Application(models.Model):
    """One app or service whose users receive messages (specification 3.3, APPLICATION).

    The specification's single `api_key` column is `ApiKey`: keys can be several, scoped and rotated.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=200)
    settings = models.JSONField(_("settings"), default=default_settings, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    default_language = models.CharField(_("default language"), max_length=16, default="en")
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    members = models.ManyToManyField(Operator, through="Membership", related_name="applications")
    history = HistoricalRecords()

    class Meta:
        verbose_name = _("application")
        verbose_name_plural = _("applications")
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.time_zone not in available_timezones():
            raise ValidationError({"time_zone": _("is not a time zone such as Asia/Seoul")})
        if problems := check_settings(self.settings):
            raise ValidationError({"settings": [f"{p.field}: {p.message}" for p in problems]})


class Role(models.TextChoices):
    """What a member may do in an application; `apps.tenants.scopes` has the table."""

    OWNER = "owner", _("Owner")
    MANAGER = "manager", _("Manager")
    MARKETER = "marketer", _("Marketer")
    ANALYST = "analyst", _("Analyst")
    SUPPORT = "support", _("Support")


class Membership(models.Model):
    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    operator = models.ForeignKey(Operator, models.CASCADE, related_name="memberships")
    application = models.ForeignKey(Application, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    history = HistoricalRecords()

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = (models.UniqueConstraint(fields=("operator", "application"), name="one_role_per_application"),)

    def __str__(self) -> str:
        return f"{self.operator} · {self.application} · {self.get_role_display()}"


M = TypeVar("M", bound=models.Model)


class ScopedQuerySet(models.QuerySet[M]):
    """Rows of applications; every query for an application's data goes through `for_application`."""

    def for_application(self, application: Application) -> ScopedQuerySet[M]:
        return self.filter(application_id=application.pk)


class KeyKind(models.TextChoices):
    SECRET = "secret", _("Secret (app server)")
    PUBLISHABLE = "publishable", _("Publishable (SDK)")


class ApiKey(models.Model):
    """A key of an application. Only its SHA-256 is stored; the prefix tells keys apart.

    A rotated key names its successor and works on until `expires_at`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="api_keys")
    name = models.CharField(_("name"), max_length=200)
    kind = models.CharField(_("kind"), max_length=16, choices=KeyKind.choices)
    prefix = models.CharField(_("starts with"), max_length=16, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=40), verbose_name=_("scopes"), default=list)
    rate_per_minute = models.PositiveIntegerField(_("requests per minute"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    last_used_from = models.GenericIPAddressField(_("last used from"), null=True, blank=True, editable=False)
    replaced_by = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="replaces")

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["digest", "last_used_at", "last_used_from"])

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class Provider(models.TextChoices):
    APNS = "apns", "APNs"
    FCM = "fcm", "FCM"
    SMTP = "smtp", "SMTP"
    ANYMAIL = "anymail", _("E-mail provider (API)")
    SOLAPI = "solapi", "Solapi (SMS)"
    TWILIO = "twilio", "Twilio (SMS)"
    NHN_SMS = "nhn_sms", "NHN Cloud (SMS)"
    SOLAPI_KAKAO = "solapi_kakao", _("Solapi (Alimtalk)")
    NHN_KAKAO = "nhn_kakao", _("NHN Cloud (Alimtalk)")
    IN_APP = "in_app", _("In-app")


class BreakerCause(models.TextChoices):
    """Why sending by a credential was stopped; it decides what a probe must show for the breaker to close."""

    MISMATCH = "mismatch", _("Addresses do not fit")
    REFUSED = "refused", _("The provider refused the credential")
    OUTAGE = "outage", _("The provider does not answer")
    HELD = "held", _("An operator keeps it stopped")


class ChannelCredential(models.Model):
    """What a provider knows us by, encrypted. The lowest `position` of a provider is used first.

    The breaker opens when too many addresses do not fit this credential (that is more likely our mistake than an
    audience's end), when the provider refuses it, and when the provider fails. While it is open nothing is sent by
    the credential but a probe of a few messages from `breaker_probe_at` on, which closes the breaker or puts the next
    probe off. Refused or failing, its traffic goes to the next active credential of the provider, and back when it
    closes. For push a second credential helps only if it reaches the same app: another key of the same team and bundle
    id, another service account of the same Firebase project. Device tokens belong to the app, not to the key.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="credentials")
    provider = models.CharField(_("provider"), max_length=16, choices=Provider.choices)
    name = models.CharField(_("name"), max_length=200)
    secret = EncryptedJSONField(_("secret"))
    summary = models.JSONField(_("summary"), default=dict, editable=False)
    """What may be shown of the secret: key id, bundle id, project. Never the key."""
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    is_active = models.BooleanField(_("active"), default=True)
    breaker_opened_at = models.DateTimeField(_("stopped since"), null=True, blank=True, editable=False)
    breaker_reason = models.CharField(_("stopped because"), max_length=200, blank=True, editable=False)
    breaker_cause = models.CharField(
        _("kind of stop"), max_length=16, choices=BreakerCause.choices, default="", db_default="", editable=False
    )
    breaker_probe_at = models.DateTimeField(_("next probe"), null=True, blank=True, editable=False)
    breaker_probing_until = models.DateTimeField(null=True, blank=True, editable=False)
    """Until then one worker has the right to probe; it lapses if the worker dies."""
    breaker_failed_probes = models.PositiveSmallIntegerField(
        _("failed probes"), default=0, db_default=0, editable=False
    )
    rate_per_minute = models.PositiveIntegerField(_("messages per minute"), null=True, blank=True)
    """All workers together; null: the provider's own limit (`settings.RATE_PER_MINUTE`)."""
    device_rate_per_minute = models.PositiveIntegerField(_("messages per device and minute"), null=True, blank=True)
    device_rate_per_hour = models.PositiveIntegerField(_("messages per device and hour"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, editable=False)
    last_error_at = models.DateTimeField(_("last error at"), null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    """When the provider stops taking the secret, as somebody said or as the secret itself says; null: unknown."""
    expiry_told_days = models.PositiveSmallIntegerField(null=True, editable=False)
    """The owners were told so many days before; null: not yet, or not of this date."""
    check_started_at = models.DateTimeField(null=True, editable=False)
    """A check with the provider runs since then; null: none does."""
    checked_at = models.DateTimeField(_("checked with the provider"), null=True, blank=True, editable=False)
    check_ok = models.BooleanField(_("the provider takes it"), null=True, editable=False)
    """Null: never checked, or the provider could not be asked."""
    check_message = models.CharField(_("what the provider said"), max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(
        excluded_fields=[
            "secret",
            "last_error",
            "last_error_at",
            "breaker_probe_at",
            "breaker_probing_until",
            "breaker_failed_probes",
            "expiry_told_days",
            "check_started_at",
            "checked_at",
            "check_ok",
            "check_message",
        ]
    )

    class Meta:
        verbose_name = _("channel credential")
        verbose_name_plural = _("channel credentials")
        ordering = ("application", "provider", "position", "id")

    def __str__(self) -> str:
        return f"{self.get_provider_display()} · {self.name}"


class IdempotencyRecord(models.Model):
    """The answer to a POST that carried an `Idempotency-Key`, written in the transaction of its effect."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    route = models.CharField(max_length=200)
    request_digest = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("application", "key"), name="one_answer_per_idempotency_key"),)
        indexes = (models.Index(fields=("created_at",), name="idempotency_created"),)

    def __str__(self) -> str:
        return self.key
