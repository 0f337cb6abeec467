"""All settings, read from the environment. `docs/operations.md` has them as a table.

`AUTOMATA_ENV` is one of `development` (the default), `test`, `demo` and `production`. Production refuses to
start with a missing secret, with DEBUG, or with a provider address that is not the provider's own.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from kombu import Queue

from automata_signal.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

AUTOMATA_ENV: str = env.str("AUTOMATA_ENV", "development")
if AUTOMATA_ENV not in ("development", "test", "demo", "production"):
    raise ImproperlyConfigured(f"AUTOMATA_ENV is {AUTOMATA_ENV!r}: use development, test, demo or production")
IS_PRODUCTION = AUTOMATA_ENV == "production"
DEBUG: bool = env.bool("DEBUG", False)
if IS_PRODUCTION and DEBUG:
    raise ImproperlyConfigured("DEBUG shows secrets to strangers: it cannot be on in production")


def secret(name: str, development_value: str) -> str:
    """A secret from the environment; only outside of production is there a value for convenience."""
    value: str = env.str(name, "")
    if not value and IS_PRODUCTION:
        raise ImproperlyConfigured(f"{name} must be set in production")
    return value or development_value


def key_bytes(name: str, text: str) -> bytes:
    """32 bytes from base64."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ImproperlyConfigured(f"{name} must hold 32 bytes in base64 (openssl rand -base64 32)")
    return key


def key_table(name: str, text: str) -> dict[int, bytes]:
    """`id:base64,id:base64`, ids 1 to 255, the encrypting key first."""
    table: dict[int, bytes] = {}
    for part in text.split(","):
        key_id, _, key = part.strip().partition(":")
        if not key_id.isdigit() or not 1 <= int(key_id) <= 255:
            raise ImproperlyConfigured(f"{name}: {key_id!r} is not a key id from 1 to 255")
        table[int(key_id)] = key_bytes(name, key)
    return table


def networks(name: str, given: list[str]) -> list[str]:
    """`given` if each is a network in CIDR notation."""
    for network in given:
        try:
            ip_network(network)
        except ValueError:
            raise ImproperlyConfigured(f"{name}: {network!r} is not a network, such as 10.0.0.0/8") from None
    return given


_DEVELOPMENT_KEY = base64.b64encode(b"automata-development-only-key-32").decode()
SECRET_KEY = secret("SECRET_KEY", "development-only-not-a-secret-not-for-production-use")
ENCRYPTION_KEYS = key_table("ENCRYPTION_KEYS", secret("ENCRYPTION_KEYS", f"1:{_DEVELOPMENT_KEY}"))
TOKEN_DIGEST_KEY = key_bytes("TOKEN_DIGEST_KEY", secret("TOKEN_DIGEST_KEY", _DEVELOPMENT_KEY))

# --- Web ---------------------------------------------------------------------------------------------------------

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[] if IS_PRODUCTION else ["localhost", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
TRUSTED_PROXIES: int = env.int("TRUSTED_PROXIES", 0)
"""How many proxies stand before us and append to `X-Forwarded-For`."""
PUBLIC_URL: str = env.str("PUBLIC_URL", "http://localhost:8000")
ROOT_URLCONF = "automata_signal.urls"
WSGI_APPLICATION = "automata_signal.wsgi.application"
ASGI_APPLICATION = "automata_signal.asgi.application"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
REQUEST_BODY_MAX_BYTES: int = env.int("REQUEST_BODY_MAX_BYTES", 4 * 1024 * 1024)
IMPORT_FILE_MAX_BYTES: int = env.int("IMPORT_FILE_MAX_BYTES", 512 * 1024 * 1024)
FILE_UPLOAD_HANDLERS = [
    "automata_signal.uploads.LargestUpload",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]
DOWNLOAD_LINK_S: int = env.int("DOWNLOAD_LINK_S", 900)
"""How long a link to a file opens it, unless who made it says otherwise."""

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        # Alpine, which unfold's pages are written for, evaluates their attributes; no script stands in a page itself.
        "script-src": [SELF, UNSAFE_EVAL],
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:", "blob:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
"""Of every page. Nothing comes from another host; previews of e-mails are frames without scripts (`sandbox`)."""
SESSION_COOKIE_HTTPONLY = True
if IS_PRODUCTION:
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", True)
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 31_536_000)
    SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "unfold.contrib.import_export",
    "apps.tenants.console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "simple_history",
    "import_export",
    "django_fsm",
    "django_celery_beat",
    "django_structlog",
    "djmoney",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "axes",
    "apps.tenants",
    "apps.subscriptions",
    "apps.billing",
    "apps.messaging",
    "apps.analytics",
    "apps.campaigns",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "automata_signal.health.HealthMiddleware",
    "automata_signal.exposition.MetricsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "automata_signal.languages.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "automata_signal.request_logs.RequestLogMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apps.tenants.accounts.middleware.ConsoleMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.tenants.accounts.context.frame",
            ]
        },
    }
]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
_STATIC_FILES = "whitenoise.storage.CompressedManifestStaticFilesStorage"
PRIVATE_FILES_DIR: str = env.str("PRIVATE_FILES_DIR", str(BASE_DIR / ".local" / "files"))
"""Uploads and exports, encrypted (`private_files`): one folder for the web and the control workers."""
_PRIVATE = {"location": PRIVATE_FILES_DIR, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
MEDIA_FILES_DIR: str = env.str("MEDIA_FILES_DIR", str(BASE_DIR / ".local" / "media"))
"""Images and attachments of messages: one folder for the web and the sending workers."""
_MEDIA = {"location": MEDIA_FILES_DIR, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}


def bucket_or_folder(bucket: dict[str, Any], folder: dict[str, Any]) -> dict[str, Any]:
    """A bucket, by `automata_signal.buckets`, if it has a name; else a folder. The machine's role may have its key."""
    if not bucket["bucket_name"]:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": folder}
    given = {name: value for name, value in bucket.items() if value}
    fixed = {"signature_version": "s3v4", "file_overwrite": False, "querystring_auth": True, "default_acl": None}
    return {"BACKEND": "automata_signal.buckets.BucketStorage", "OPTIONS": given | fixed}


_PRIVATE_BUCKET = {
    "bucket_name": env.str("PRIVATE_S3_BUCKET", ""),
    "location": env.str("PRIVATE_S3_PREFIX", ""),
    "endpoint_url": env.str("PRIVATE_S3_ENDPOINT_URL", ""),
    "region_name": env.str("PRIVATE_S3_REGION", ""),
    "access_key": env.str("PRIVATE_S3_ACCESS_KEY_ID", ""),
    "secret_key": env.str("PRIVATE_S3_SECRET_ACCESS_KEY", ""),
    "addressing_style": env.str("PRIVATE_S3_ADDRESSING_STYLE", "auto"),
}
_MEDIA_BUCKET = {
    "bucket_name": env.str("MEDIA_S3_BUCKET", ""),
    "location": env.str("MEDIA_S3_PREFIX", ""),
    "endpoint_url": env.str("MEDIA_S3_ENDPOINT_URL", ""),
    "region_name": env.str("MEDIA_S3_REGION", ""),
    "access_key": env.str("MEDIA_S3_ACCESS_KEY_ID", ""),
    "secret_key": env.str("MEDIA_S3_SECRET_ACCESS_KEY", ""),
    "addressing_style": env.str("MEDIA_S3_ADDRESSING_STYLE", "auto"),
}
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": _STATIC_FILES if IS_PRODUCTION else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
    "private": bucket_or_folder(_PRIVATE_BUCKET, _PRIVATE),
    "media": bucket_or_folder(_MEDIA_BUCKET, _MEDIA),
}
WHITENOISE_USE_FINDERS = not IS_PRODUCTION
# Looked for when asked for: edits are seen at once, and a test's client does not list every file before its request.
WHITENOISE_AUTOREFRESH = AUTOMATA_ENV in ("development", "test")

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ko", "한국어")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = ["automata_signal.formats"]

# --- Operators ---------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "tenants.Operator"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_RESET_TIMEOUT = 3_600
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", "Automata-Signal <no-reply@localhost>")

# --- Sign-in to the console --------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["apps.tenants.accounts.backends.OperatorBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
REQUIRE_SECOND_FACTOR: list[str] = env.list("REQUIRE_SECOND_FACTOR", default=[])
"""Roles that must have a second factor, `superuser` among them; an application may ask for more."""
if _unknown := set(REQUIRE_SECOND_FACTOR) - {"superuser", "owner", "manager", "marketer", "analyst", "support"}:
    raise ImproperlyConfigured(f"REQUIRE_SECOND_FACTOR: there is no role {sorted(_unknown)[0]!r}")
CONSOLE_NETWORKS: list[str] = networks("CONSOLE_NETWORKS", env.list("CONSOLE_NETWORKS", default=[]))
"""From where operators may use the console and their tokens of the API; empty: from everywhere."""
CONSOLE_IDLE_MINUTES: int = env.int("CONSOLE_IDLE_MINUTES", 120)
"""After so long without a click a session ends."""
CONSOLE_SESSION_HOURS: int = env.int("CONSOLE_SESSION_HOURS", 12)
"""After so long it ends in any case."""
SESSION_COOKIE_AGE = CONSOLE_SESSION_HOURS * 3_600
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SIGN_IN_FAILURES_MAX: int = env.int("SIGN_IN_FAILURES_MAX", 10)
"""Refusals of one e-mail from one address, passwords and codes, after which nothing is looked at any more."""
SIGN_IN_LOCK_MINUTES: int = env.int("SIGN_IN_LOCK_MINUTES", 30)
"""How long that lasts."""
INVITATION_DAYS: int = env.int("INVITATION_DAYS", 7)
"""How long the link of an invitation works."""
AUDIT_KEEP_DAYS: int = env.int("AUDIT_KEEP_DAYS", 0)
"""Days after which the audit log is forgotten; 0 keeps it for ever."""

OIDC_ISSUER: str = env.str("OIDC_ISSUER", "").rstrip("/")
"""Who signs operators in by OpenID Connect, such as `https://accounts.google.com`; empty: nobody."""
OIDC_CLIENT_ID: str = env.str("OIDC_CLIENT_ID", "")
OIDC_CLIENT_SECRET: str = env.str("OIDC_CLIENT_SECRET", "")
OIDC_NAME: str = env.str("OIDC_NAME", "") or "OpenID Connect"
"""What the button says."""
if OIDC_ISSUER and not OIDC_CLIENT_ID:
    raise ImproperlyConfigured("OIDC_ISSUER is set without OIDC_CLIENT_ID")
if OIDC_ISSUER and IS_PRODUCTION and urlsplit(OIDC_ISSUER).scheme != "https":
    raise ImproperlyConfigured("OIDC_ISSUER must be an https address")

# django-allauth has the flows; which of them there are is said by `accounts.urls`.
ACCOUNT_ADAPTER = "apps.tenants.accounts.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
ACCOUNT_RATE_LIMITS = False  # ours, which do without Redis
ACCOUNT_FORMS = {
    "login": "apps.tenants.accounts.forms.LoginForm",
    "reauthenticate": "apps.tenants.accounts.forms.ReauthenticateForm",
}
MFA_ADAPTER = "apps.tenants.accounts.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "apps.tenants.accounts.forms.CodeForm",
    "reauthenticate": "apps.tenants.accounts.forms.ReauthenticateByCodeForm",
    "activate_totp": "apps.tenants.accounts.forms.ActivateForm",
}
MFA_TOTP_ISSUER = "Automata-Signal" if IS_PRODUCTION else f"Automata-Signal ({AUTOMATA_ENV})"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODE_DIGITS = 10
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
SOCIALACCOUNT_ADAPTER = "apps.tenants.accounts.adapters.OpenIdAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = True  # a link: a form may lead to no other host (`form-action`)
SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = ""
SOCIALACCOUNT_REQUESTS_TIMEOUT = 10
_OIDC_APP = {
    "provider_id": "oidc",
    "name": OIDC_NAME,
    "client_id": OIDC_CLIENT_ID,
    "secret": OIDC_CLIENT_SECRET,
    "settings": {"server_url": OIDC_ISSUER},
}
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [_OIDC_APP] if OIDC_ISSUER else []},
}

# django-axes counts refusals; `accounts.backends` asks it.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = SIGN_IN_FAILURES_MAX
AXES_COOLOFF_TIME = timedelta(minutes=SIGN_IN_LOCK_MINUTES)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_CALLABLE = "apps.tenants.accounts.backends.axes_username"
AXES_CLIENT_IP_CALLABLE = "apps.tenants.accounts.backends.axes_address"
AXES_SENSITIVE_PARAMETERS = ["login", "email", "code", "password1", "password2", "csrfmiddlewaretoken"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
SILENCED_SYSTEM_CHECKS = ["axes.W002"]  # no middleware: who is locked out gets the answer of a wrong password

# --- PostgreSQL --------------------------------------------------------------------------------------------------

# Threads of the web process share a pool; a worker process has one connection and keeps it across tasks.
DATABASE_POOL_MAX: int = env.int("DATABASE_POOL_MAX", 0)
DATABASE_STATEMENT_TIMEOUT_MS: int = env.int("DATABASE_STATEMENT_TIMEOUT_MS", 60_000)
"""For all; tasks of the control queue give themselves more, a transaction at a time (`time_limits`)."""
DATABASE_LOCK_TIMEOUT_MS: int = env.int("DATABASE_LOCK_TIMEOUT_MS", 30_000)
DATABASE_IDLE_TIMEOUT_MS: int = env.int("DATABASE_IDLE_TIMEOUT_MS", 60_000)
"""Ends a transaction whose process hangs in it: its locks would hold up everybody."""
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default="postgresql://postgres@localhost:5432/automata_signal")
}
DATABASES["default"]["HOST"] = unquote(DATABASES["default"].get("HOST") or "")  # %2Ftmp is a socket's folder
DATABASES["default"]["CONN_MAX_AGE"] = 0 if DATABASE_POOL_MAX else None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = not DATABASE_POOL_MAX
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "connect_timeout": 5,
        "application_name": env.str("APPLICATION_NAME", "automata-signal"),
        "options": (
            f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT_MS} -c lock_timeout={DATABASE_LOCK_TIMEOUT_MS}"
            f" -c idle_in_transaction_session_timeout={DATABASE_IDLE_TIMEOUT_MS}"
            " -c plan_cache_mode=force_generic_plan"  # of `automata_signal.prepared`: one plan for all parameters
        ),
    }
)
if DATABASE_POOL_MAX:
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": DATABASE_POOL_MAX, "timeout": 5}
DATABASE_REPLICA_URL: str = env.str("DATABASE_REPLICA_URL", "")
"""Where statistics and exports are read, as long as it is not too far behind (`replica`)."""
REPLICA_LAG_MAX_S: float = env.float("REPLICA_LAG_MAX_S", 10.0)
if DATABASE_REPLICA_URL:
    _replica = env.db_url("DATABASE_REPLICA_URL")
    _options = DATABASES["default"]["OPTIONS"]
    DATABASES["replica"] = {
        **_replica,
        "HOST": unquote(_replica.get("HOST") or ""),
        "CONN_MAX_AGE": 60,  # of its own, without a pool: one that does not answer is noticed at once
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **_replica.get("OPTIONS", {}),
            "connect_timeout": 2,
            "application_name": _options["application_name"],
            "options": f"{_options['options']} -c default_transaction_read_only=on",
        },
        "TEST": {"MIRROR": "default"},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis and Celery --------------------------------------------------------------------------------------------

REDIS_URL: str = env.str("REDIS_URL", "redis://localhost:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "automata",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}

CACHE_TTL_S: dict[str, int] = {
    "statistics": env.int("CACHE_STATISTICS_S", 60),
    "closed_statistics": env.int("CACHE_CLOSED_STATISTICS_S", 1_800),
    "audience_counts": env.int("CACHE_AUDIENCE_COUNTS_S", 30),
    "previews": env.int("CACHE_PREVIEWS_S", 300),
}
"""How long `caches` keeps what it holds; 0: it is made anew each time."""

CHANNELS = ("push", "email", "sms", "kakao", "in_app")
PRIORITIES = ("high", "medium", "low")
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
"""A full Redis refuses: a worker connects again instead of ending."""
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "queue_order_strategy": "priority",  # a worker with several queues empties the first before the second
    "visibility_timeout": 3_600,
    "socket_connect_timeout": 2,
    "socket_timeout": 30,
}
CELERY_TASK_QUEUES = [
    *(Queue(f"{channel}.{priority}") for priority in PRIORITIES for channel in CHANNELS),
    Queue("control"),
    Queue("webhooks"),
]
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
POST_USAGE_S: float = env.float("POST_USAGE_S", 60.0)
"""How often what was sent is posted to the ledger."""
CELERY_BEAT_SCHEDULE = {
    "queue what is due": {"task": "messaging.queue_due", "schedule": 1.0, "options": {"expires": 5}},
    "free abandoned batches": {"task": "messaging.free_abandoned", "schedule": 10.0, "options": {"expires": 30}},
    "continue cancels": {"task": "messaging.continue_cancels", "schedule": 10.0, "options": {"expires": 30}},
    "fail unanswered messages": {"task": "messaging.expire_unreceived", "schedule": 300.0},
    "forget unused media": {"task": "messaging.forget_media", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "make partitions": {"task": "messaging.make_partitions", "schedule": 3_600.0},
    "check partitions": {"task": "messaging.check_partitions", "schedule": 3_600.0},
    "drop old partitions": {"task": "messaging.drop_partitions", "schedule": 86_400.0},
    "delete old rows": {"task": "messaging.delete_old", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "route webhooks": {"task": "messaging.route_webhooks", "schedule": 1.0, "options": {"expires": 5}},
    "tell of disabled webhooks": {"task": "messaging.tell_webhooks", "schedule": 60.0, "options": {"expires": 60}},
    "forget webhook deliveries": {"task": "messaging.forget_webhooks", "schedule": 3_600.0},
    "forget inbox items": {"task": "messaging.forget_inbox", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "continue requeues": {"task": "messaging.continue_requeues", "schedule": 30.0, "options": {"expires": 30}},
    "follow up chains": {"task": "messaging.follow_up", "schedule": 2.0, "options": {"expires": 5}},
    "read opt-outs of gateways": {"task": "messaging.end_denied", "schedule": 600.0, "options": {"expires": 600}},
    "forget gateway requests": {"task": "messaging.forget_gateway_requests", "schedule": 3_600.0},
    "read Kakao templates": {"task": "messaging.sync_kakao", "schedule": 600.0, "options": {"expires": 600}},
    "ask gateways": {"task": "messaging.ask_for_reports", "schedule": 15.0, "options": {"expires": 30}},
    "launch scheduled campaigns": {"task": "campaigns.launch_due", "schedule": 5.0, "options": {"expires": 10}},
    "continue fan-outs": {"task": "campaigns.continue_fanouts", "schedule": 15.0, "options": {"expires": 30}},
    "decide A/B tests": {"task": "campaigns.decide_experiments", "schedule": 10.0, "options": {"expires": 20}},
    "finish campaigns": {"task": "campaigns.finish_done", "schedule": 2.0, "options": {"expires": 5}},
    "tell approvers": {"task": "campaigns.tell_approvers", "schedule": 60.0, "options": {"expires": 60}},
    "fill statistics": {"task": "analytics.fill", "schedule": 5.0, "options": {"expires": 10}},
    "count audiences": {"task": "analytics.take_audience_days", "schedule": 900.0, "options": {"expires": 900}},
    "forget old statistics": {"task": "analytics.forget_rollups", "schedule": 86_400.0},
    "send reports": {"task": "analytics.send_reports", "schedule": 60.0, "options": {"expires": 60}},
    "continue imports": {"task": "subscriptions.continue_imports", "schedule": 30.0, "options": {"expires": 30}},
    "forget imports": {"task": "subscriptions.forget_imports", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "continue data requests": {
        "task": "subscriptions.continue_data_requests",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "send consent notices": {"task": "subscriptions.send_notices", "schedule": 10.0, "options": {"expires": 10}},
    "learn active hours": {"task": "messaging.learn_hours", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "forget send counts": {"task": "messaging.forget_send_counts", "schedule": 86_400.0},
    "find consents to confirm": {
        "task": "subscriptions.find_confirmations",
        "schedule": 900.0,
        "options": {"expires": 900},
    },
    "continue exports": {"task": "analytics.continue_exports", "schedule": 10.0, "options": {"expires": 10}},
    "delete expired exports": {"task": "analytics.expire_exports", "schedule": 600.0, "options": {"expires": 600}},
    "post usage": {"task": "billing.post_usage", "schedule": POST_USAGE_S, "options": {"expires": POST_USAGE_S}},
    "close months": {"task": "billing.close_months", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "check the ledger": {"task": "billing.check_ledger", "schedule": 86_400.0, "options": {"expires": 86_400}},
    "billing alerts": {"task": "billing.alerts", "schedule": 60.0, "options": {"expires": 60}},
    "forget idempotency keys": {"task": "tenants.forget_idempotency_keys", "schedule": 3_600.0},
    "forget expired sign-ins": {"task": "tenants.forget_expired_sign_ins", "schedule": 86_400.0},
    "forget audit events": {"task": "tenants.forget_audit_events", "schedule": 86_400.0},
    "tell of credentials that expire": {"task": "tenants.tell_expiring", "schedule": 3_600.0},
}

# --- Messages ----------------------------------------------------------------------------------------------------

BATCH_SIZE: int = env.int("BATCH_SIZE", 2_000)
"""Recipients in one slice of a campaign."""
BATCH_LEASE_S: int = env.int("BATCH_LEASE_S", 120)
"""How long a worker may hold a slice without a sign of life before another takes it."""
RETRY_MAX_ATTEMPTS: int = env.int("RETRY_MAX_ATTEMPTS", 6)
MESSAGE_TTL_MAX_S = 28 * 24 * 3_600
PARTITION_MONTHS_AHEAD: int = env.int("PARTITION_MONTHS_AHEAD", 3)
RETENTION_DAYS_DEFAULT: int = env.int("RETENTION_DAYS_DEFAULT", 0)
"""Days after which whole partitions of messages are dropped; 0 keeps them for ever."""
ROLLUP_RETENTION_DAYS: int = env.int("ROLLUP_RETENTION_DAYS", 1_100)
"""Days after which statistics are deleted, whatever becomes of the messages; 0 keeps them for ever."""

IMPORT_KEEP_DAYS: int = env.int("IMPORT_KEEP_DAYS", 7)
"""Days after which the file and the rejects of an import are deleted; its record stays."""
IMPORT_DELETE_WHEN_DONE: bool = env.bool("IMPORT_DELETE_WHEN_DONE", True)
"""Whether the file goes as soon as it is applied. What was rejected stays to be looked at."""

OPT_IN_EXPIRE_HOURS: int = env.int("OPT_IN_EXPIRE_HOURS", 72)
"""Hours for which the link of a double opt-in confirms; then the address counts as never subscribed."""

MEDIA_IMAGE_MAX_BYTES: int = env.int("MEDIA_IMAGE_MAX_BYTES", 10 * 1024 * 1024)
MEDIA_IMAGE_MAX_PIXELS: int = env.int("MEDIA_IMAGE_MAX_PIXELS", 25_000_000)
"""Unpacked, of all frames of a moving one; each takes four bytes of memory, several times over."""
MEDIA_ATTACHMENT_MAX_BYTES: int = env.int("MEDIA_ATTACHMENT_MAX_BYTES", 10 * 1024 * 1024)
MEDIA_ATTACHMENTS_MAX: int = env.int("MEDIA_ATTACHMENTS_MAX", 10)
"""Of one e-mail."""
MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES: int = env.int("MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES", 7 * 1024 * 1024)
"""Of one e-mail, before base64 makes a third more of it: the strictest provider takes 10 MB with everything."""
MEDIA_QUOTA_BYTES: int = env.int("MEDIA_QUOTA_BYTES", 5 * 1024 * 1024 * 1024)
"""Of one application, variants too."""
MEDIA_UNUSED_DAYS: int = env.int("MEDIA_UNUSED_DAYS", 30)
"""Days after which an upload that nothing has named is deleted."""
MEDIA_KEEP_DAYS: int = env.int("MEDIA_KEEP_DAYS", 400)
"""Days for which a file stays after content that names it was accepted: e-mails are opened after months."""

# --- Billing -----------------------------------------------------------------------------------------------------

BILLING: bool = env.bool("BILLING", True)
"""Whether quotas are kept and the ledger is written; off is for measuring what that costs."""
DEFAULT_PLAN: str = env.str("DEFAULT_PLAN", "enterprise")
"""The code of the plan that a new application is on."""
ALERT_MAX_ATTEMPTS: int = env.int("ALERT_MAX_ATTEMPTS", 8)
"""Deliveries of a billing alert, with back-off; after them it is only in the console."""

# --- Outgoing requests to addresses that others chose ------------------------------------------------------------

OUTGOING_TIMEOUT_S: float = env.float("OUTGOING_TIMEOUT_S", 10.0)
OUTGOING_ALLOW_PRIVATE: bool = env.bool("OUTGOING_ALLOW_PRIVATE", False)
"""Whether webhooks may go to private, loopback and link-local addresses, and without TLS."""
WEBHOOK_ENDPOINTS_MAX: int = env.int("WEBHOOK_ENDPOINTS_MAX", 10)
"""Of one application."""
WEBHOOK_LANES: int = env.int("WEBHOOK_LANES", 4)
"""Into how many a new endpoint's events are parted, by message: POSTs to it at a time."""
WEBHOOK_POSTS_AT_ONCE: int = env.int("WEBHOOK_POSTS_AT_ONCE", 16)
"""Of one worker process."""
WEBHOOK_POSTS_PER_APPLICATION: int = env.int("WEBHOOK_POSTS_PER_APPLICATION", 8)
"""At once, of all workers: slow receivers of one application do not take the turns of the others."""
WEBHOOK_RETRY_HOURS: float = env.float("WEBHOOK_RETRY_HOURS", 24.0)
"""So long a delivery is tried; then its endpoint is disabled, or the delivery given up if others were taken."""
WEBHOOK_KEEP_DAYS: int = env.int("WEBHOOK_KEEP_DAYS", 7)
"""Days after which deliveries are deleted, those that could not be made as well."""

EXPORTS_OPEN_MAX: int = env.int("EXPORTS_OPEN_MAX", 3)
"""Exports of one application that may be waiting or running."""
EXPORT_STEPS_AT_ONCE: int = env.int("EXPORT_STEPS_AT_ONCE", 1)
"""Of all applications, in all control workers: each step keeps one of them for about two seconds."""
EXPORT_KEEP_HOURS: int = env.int("EXPORT_KEEP_HOURS", 72)
"""Hours after which the file of an export is deleted; its record stays."""
EXPORT_FILE_MAX_BYTES: int = env.int("EXPORT_FILE_MAX_BYTES", 10_737_418_240)

# --- Providers ---------------------------------------------------------------------------------------------------

_PROVIDER_DEFAULTS = {
    "APNS_URL": "https://api.push.apple.com:443",
    "APNS_SANDBOX_URL": "https://api.sandbox.push.apple.com:443",
    "FCM_URL": "https://fcm.googleapis.com",
    "FCM_TOKEN_URL": "https://oauth2.googleapis.com/token",
    "SOLAPI_URL": "https://api.solapi.com",
    "TWILIO_URL": "https://api.twilio.com",
    "NHN_SMS_URL": "https://sms.api.nhncloudservice.com",
    "NHN_KAKAO_URL": "https://kakaotalk-bizmessage.api.nhncloudservice.com",
}
_PROVIDER_DOMAINS = (".push.apple.com", ".googleapis.com", ".solapi.com", ".twilio.com", ".nhncloudservice.com")


def provider_url(name: str) -> str:
    """The provider's own address, or another one outside of production."""
    url: str = env.str(name, _PROVIDER_DEFAULTS[name])
    host = urlsplit(url).hostname or ""
    if urlsplit(url).scheme != "https":
        raise ImproperlyConfigured(f"{name} must be an https address")
    if IS_PRODUCTION and not f".{host}".endswith(_PROVIDER_DOMAINS):
        raise ImproperlyConfigured(f"{name} is {host!r}: in production only the provider's own address can be used")
    return url


APNS_URL = provider_url("APNS_URL")
APNS_SANDBOX_URL = provider_url("APNS_SANDBOX_URL")
FCM_URL = provider_url("FCM_URL")
FCM_TOKEN_URL = provider_url("FCM_TOKEN_URL")
SOLAPI_URL = provider_url("SOLAPI_URL")
TWILIO_URL = provider_url("TWILIO_URL")
NHN_SMS_URL = provider_url("NHN_SMS_URL")
NHN_KAKAO_URL = provider_url("NHN_KAKAO_URL")
EMAIL_API_URL: str = env.str("EMAIL_API_URL", "")
"""Where the APIs of e-mail providers are instead of at their own addresses: the stand-in's, for tests and the demo."""
if EMAIL_API_URL and IS_PRODUCTION:
    raise ImproperlyConfigured("EMAIL_API_URL is for stand-ins: production sends to the providers' own addresses")
PROVIDER_CA_FILE: str = env.str("PROVIDER_CA_FILE", "")
PROVIDER_CONNECTIONS: int = env.int("PROVIDER_CONNECTIONS", 8)
PROVIDER_STREAMS: int = env.int("PROVIDER_STREAMS", 100)
PROVIDER_TIMEOUT_S: float = env.float("PROVIDER_TIMEOUT_S", 15.0)
WORKER_GRACE_S: int = env.int("WORKER_GRACE_S", 60)
"""How long a worker has between SIGTERM and SIGKILL; `docker-compose.yml` and `fly.toml` give as much."""
if PROVIDER_TIMEOUT_S + 10 > WORKER_GRACE_S:
    raise ImproperlyConfigured(
        f"WORKER_GRACE_S is {WORKER_GRACE_S}: what is in flight takes up to PROVIDER_TIMEOUT_S, and 10 s to record"
    )
BREAKER_MIN_MISMATCHES: int = env.int("BREAKER_MIN_MISMATCHES", 50)
BREAKER_MISMATCH_SHARE: float = env.float("BREAKER_MISMATCH_SHARE", 0.3)
BREAKER_COOLDOWN_S: int = env.int("BREAKER_COOLDOWN_S", 900)
"""Between probes of a credential that was refused or does not fit; of a failing provider, the longest."""

SOFT_FAILURES_MAX: int = env.int("SOFT_FAILURES_MAX", 5)
"""Soft bounces, phones that are off and the like, in a row, that end a subscription."""
SOFT_FAILURE_DAYS: int = env.int("SOFT_FAILURE_DAYS", 30)
"""A failure that comes later than this after the last one is the first again."""
GATEWAY_ASK_AFTER_S: int = env.int("GATEWAY_ASK_AFTER_S", 120)
"""When a gateway is asked for reports of a request that have not come by webhook."""
GATEWAY_ASK_WAITS_S: list[int] = env.list("GATEWAY_ASK_WAITS_S", cast=int, default=[300, 900, 3_600, 14_400, 86_400])
"""The waits between further questions; after the last one it is not asked again."""
WEBHOOK_BODY_MAX_BYTES: int = env.int("WEBHOOK_BODY_MAX_BYTES", 2 * 1024 * 1024)
"""A provider's report; what is larger is refused."""

# --- Rates and outages -------------------------------------------------------------------------------------------

RATE_PER_MINUTE: dict[str, int] = {
    "apns": env.int("APNS_RATE_PER_MINUTE", 0),
    "fcm": env.int("FCM_RATE_PER_MINUTE", 600_000),
}
"""Messages by one credential unless it says otherwise; 0: as fast as the provider takes them."""
DEVICE_RATES: dict[str, tuple[int, int]] = {
    "fcm": (env.int("FCM_DEVICE_RATE_PER_MINUTE", 240), env.int("FCM_DEVICE_RATE_PER_HOUR", 5_000)),
}
"""Messages to one device per minute and per hour unless the credential says otherwise; 0: no limit."""
RATE_WAIT_MAX_S: float = env.float("RATE_WAIT_MAX_S", 2.0)
"""A batch that would have to wait longer for its rate goes back to waiting, so that the worker is free."""
RATE_LOCAL_SHARE: float = env.float("RATE_LOCAL_SHARE", 0.1)
"""The share of a limit that a worker process takes for itself while Redis does not answer: 1 by their number."""
BREAKER_OUTAGE_MIN_FAILURES: int = env.int("BREAKER_OUTAGE_MIN_FAILURES", 50)
BREAKER_OUTAGE_SHARE: float = env.float("BREAKER_OUTAGE_SHARE", 0.5)
BREAKER_OUTAGE_COOLDOWN_S: int = env.int("BREAKER_OUTAGE_COOLDOWN_S", 10)
"""To the first probe of a provider that failed; doubled by each probe that fails, up to `BREAKER_COOLDOWN_S`."""
BREAKER_PROBE_MESSAGES: int = env.int("BREAKER_PROBE_MESSAGES", 5)

# --- Streams of inboxes (the process `live`) ----------------------------------------------------------------------

LIVE_URL: str = env.str("LIVE_URL", "") or PUBLIC_URL
"""Where devices reach the process `live`; the same as PUBLIC_URL if the proxy sends `/api/v1/in-app/stream` there."""
LIVE_CONNECTIONS_MAX: int = env.int("LIVE_CONNECTIONS_MAX", 20_000)
"""Open streams of one process, some 30 kB of memory each."""
LIVE_CONNECTIONS_PER_SUBSCRIPTION: int = env.int("LIVE_CONNECTIONS_PER_SUBSCRIPTION", 3)
"""With one more the oldest is closed."""
LIVE_CONNECTIONS_PER_ADDRESS: int = env.int("LIVE_CONNECTIONS_PER_ADDRESS", 1_000)
"""Of one IPv4 address, or of one /64: a whole office, or a carrier's gateway."""
LIVE_QUEUE_MAX: int = env.int("LIVE_QUEUE_MAX", 100)
"""Events that wait for a client that takes them slowly; with more it is cut off, and resumes."""
LIVE_HEARTBEAT_S: float = env.float("LIVE_HEARTBEAT_S", 20.0)
LIVE_CHECK_S: float = env.float("LIVE_CHECK_S", 30.0)
"""How often it is looked whether who listens still may."""
LIVE_DATABASE_THREADS: int = env.int("LIVE_DATABASE_THREADS", 4)
"""Threads of one process, each with at most one connection to PostgreSQL."""

# --- API ---------------------------------------------------------------------------------------------------------

API_VERSION = "1.0"
API_RATE_PER_MINUTE = {
    "secret": env.int("API_RATE_SECRET_PER_MINUTE", 60_000),
    "publishable": env.int("API_RATE_PUBLISHABLE_PER_MINUTE", 600_000),
    "device": env.int("API_RATE_DEVICE_PER_MINUTE", 1_200),
    "operator": env.int("API_RATE_OPERATOR_PER_MINUTE", 6_000),
    "anonymous": env.int("API_RATE_ANONYMOUS_PER_MINUTE", 30),
    "unauthenticated": env.int("API_RATE_UNAUTHENTICATED_PER_MINUTE", 600),
    "sign_in": env.int("API_RATE_SIGN_IN_PER_MINUTE", 10),
    "link": env.int("API_RATE_LINK_PER_MINUTE", 60),
}
API_KEY_CACHE_S: float = env.float("API_KEY_CACHE_S", 1.0)
"""For how long a web process takes a key and its application as it last read them; 0: it reads them each time."""
IDEMPOTENCY_KEEP_HOURS = 24
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.tenants.access.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.tenants.access.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["apps.tenants.access.CallerThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["automata_signal.envelope.EnvelopeRenderer"],
    "DEFAULT_PARSER_CLASSES": ["automata_signal.envelope.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "automata_signal.openapi.EnvelopeSchema",
    "EXCEPTION_HANDLER": "automata_signal.api.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=30),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "UPDATE_LAST_LOGIN": True,
    "USER_ID_CLAIM": "sub",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Automata-Signal API",
    "VERSION": API_VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums"],
    "ENUM_NAME_OVERRIDES": {
        "SubscriptionTypeEnum": "apps.subscriptions.models.SubscriptionType",
        "ChannelTypeEnum": "apps.tenants.channels.ChannelType",
        "CampaignStatusEnum": "apps.campaigns.models.CampaignStatus",
        "MessageStatusEnum": "apps.messaging.models.MessageStatus",
        "KeyKindEnum": "apps.tenants.models.KeyKind",
        "ExportStateEnum": "apps.analytics.models.exports.ExportState",
        "ReportKindEnum": "apps.analytics.models.reports.ReportKind",
        "ReportRunStateEnum": "apps.analytics.models.reports.RunState",
        "ReceiptStatusEnum": "apps.messaging.api.receipts.RECEIPT_STATUSES",
        "ReceiptTypeEnum": "apps.messaging.api.receipts.RECEIPT_TYPES",
        "DeviceReportTypeEnum": "apps.messaging.inbox.services.REPORT_TYPES",
        "InboxViewEnum": "apps.messaging.inbox.selectors.STATES",
        "ImportKindEnum": "apps.subscriptions.imports.models.ImportKind",
        "ImportModeEnum": "apps.subscriptions.imports.models.ImportMode",
        "ImportStateEnum": "apps.subscriptions.imports.models.ImportState",
        "LedgerKindEnum": "apps.billing.models.TransactionKind",
        "AlertKindEnum": "apps.billing.models.AlertKind",
        "MediaKindEnum": "apps.messaging.media.models.MediaKind",
        "ImageOfChannelEnum": "apps.messaging.media.images.CHANNEL_IMAGES",
        "SuppressionReasonEnum": "apps.subscriptions.preferences.models.SuppressionReason",
        "SuppressionTypeEnum": "apps.subscriptions.preferences.suppressing.TYPES",
        "WebhookDeliveryStateEnum": "apps.messaging.webhooks.models.DeliveryState",
        "OnConflictEnum": "apps.subscriptions.imports.models.OnConflict",
        "ConsentEventTypeEnum": "apps.subscriptions.preferences.models.ConsentEventType",
        "ConsentSourceEnum": "apps.subscriptions.preferences.models.ConsentSource",
        "NoticeKindEnum": "apps.subscriptions.preferences.models.NoticeKind",
        "NoticeStateEnum": "apps.subscriptions.preferences.models.NoticeState",
    },
}

# --- Console -----------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Automata-Signal",
    "SITE_HEADER": "Automata-Signal",
    "SITE_SYMBOL": "notifications_active",
    "SITE_SUBHEADER": "apps.tenants.console.home.chosen_name",
    "SITE_DROPDOWN": "apps.tenants.console.home.switcher",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "SHOW_LANGUAGES": True,
    "LANGUAGES": {"action": "apps.tenants.console.site.language_address"},
    "ENVIRONMENT": "apps.tenants.console.site.environment",
    "ACCOUNT": {"navigation": "apps.tenants.accounts.pages.account_links"},
    "SIDEBAR": {"navigation": "apps.tenants.console.site.navigation"},
    "STYLES": [lambda request: static("console/console.css")],
    "SCRIPTS": [lambda request: static("console/console.js")],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/icon.svg")},
    ],
}

# --- Metrics -----------------------------------------------------------------------------------------------------

METRICS_TOKEN: str = env.str("METRICS_TOKEN", "")
"""Who sends it as a bearer token may read `/metrics`."""
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("METRICS_TOKEN is too short to be a secret (openssl rand -hex 32)")
METRICS_NETWORKS: list[str] = networks(
    "METRICS_NETWORKS",
    env.list("METRICS_NETWORKS", default=[] if IS_PRODUCTION else ["127.0.0.0/8", "::1/128"]),
)
"""Who calls from there needs no token."""
METRICS_ADDRESS: str = env.str("METRICS_ADDRESS", "")
"""`host:port` where a worker answers `/metrics`; empty: nowhere."""

# --- Flower ------------------------------------------------------------------------------------------------------

FLOWER_URL: str = env.str("FLOWER_URL", "")
"""Where operators of the platform reach Flower, which the console links to; empty: there is no link. The process asks
for a password of its own (`FLOWER_BASIC_AUTH`)."""

# --- Logs --------------------------------------------------------------------------------------------------------

LOGGING = logging_config(level=env.str("LOG_LEVEL", "INFO"), as_json=env.bool("LOG_JSON", IS_PRODUCTION))

# --- Error reports -----------------------------------------------------------------------------------------------

SENTRY_DSN: str = env.str("SENTRY_DSN", "")
SENTRY_SAMPLE_RATE: float = env.float("SENTRY_SAMPLE_RATE", 1.0)
"""The share of errors that is reported."""
SENTRY_TRACES_SAMPLE_RATE: float = env.float("SENTRY_TRACES_SAMPLE_RATE", 0.0)
"""The share of requests and tasks whose times are reported."""
SENTRY_RELEASE: str = env.str("SENTRY_RELEASE", "")
if SENTRY_DSN:
    from automata_signal.sentry import start_sentry  # a tenth of a second that nobody else pays for

    start_sentry(
        SENTRY_DSN,
        environment=AUTOMATA_ENV,
        release=SENTRY_RELEASE,
        sample_rate=SENTRY_SAMPLE_RATE,
        traces_sample_rate=SENTRY_TRACES_SAMPLE_RATE,
    )
