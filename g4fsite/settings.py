"""Every setting, read from the environment once. `docs/configuration.md` has a row for each."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from cryptography.fernet import Fernet
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from g4fsite import __version__
from g4fsite.bootstrap import SHIPPED, data_dir
from g4fsite.env import env_bool, env_choice, env_int, env_list, env_secret, env_str

VERSION = __version__
DATA_DIR = data_dir()
DEBUG = env_bool("G4F_DEBUG")
TESTING = "pytest" in sys.modules

SECRET_KEY = env_secret("SECRET_KEY", DATA_DIR / "secret_key")
KEY_PEPPER = env_secret("KEY_PEPPER", DATA_DIR / "key_pepper")
ENCRYPTION_KEYS = [
    key for key in env_secret("ENCRYPTION_KEYS", DATA_DIR / "encryption_keys").replace("\n", ",").split(",") if key
]


def _refuse_bad_secrets() -> None:
    if not ENCRYPTION_KEYS:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty. `python -m g4fsite init` makes a good key.")
    for name, value in (("SECRET_KEY", SECRET_KEY), ("KEY_PEPPER", KEY_PEPPER)):
        if value.lower() in SHIPPED or "django-insecure" in value or len(value) < 32:
            raise ImproperlyConfigured(f"{name} is an example or shorter than 32 characters. Set a random value.")
    for key in ENCRYPTION_KEYS:
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                "ENCRYPTION_KEYS holds a value that is not a Fernet key (32 bytes, URL-safe base64). "
                "`python -m g4fsite init` makes a good one."
            ) from None
    if len({SECRET_KEY, KEY_PEPPER, *ENCRYPTION_KEYS}) != len(ENCRYPTION_KEYS) + 2:
        raise ImproperlyConfigured("SECRET_KEY, KEY_PEPPER and ENCRYPTION_KEYS must differ from each other.")


_refuse_bad_secrets()


def _origins(name: str) -> list[str]:
    found = env_list(name)
    for origin in found:
        scheme, separator, host = origin.partition("://")
        if scheme not in ("http", "https") or not separator or not host or "/" in host:
            raise ImproperlyConfigured(f"{name} must list origins such as https://app.example.com, not {origin!r}.")
    return found


def _fetch_ports() -> list[int]:
    found = env_list("FETCH_PORTS", "80,443")
    if not all(port.isascii() and port.isdigit() and 0 < int(port) < 65536 for port in found):
        raise ImproperlyConfigured("FETCH_PORTS must list ports such as 80,443.")
    return [int(port) for port in found]


# Where the server is and who may reach it.
PUBLIC_URL = env_str("PUBLIC_URL").rstrip("/")
if PUBLIC_URL and not PUBLIC_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(f"PUBLIC_URL must begin with http:// or https://, not {PUBLIC_URL!r}.")
if PUBLIC_URL.count("/") > 2:
    raise ImproperlyConfigured(f"PUBLIC_URL must be scheme, host and port without a path, not {PUBLIC_URL!r}.")
HTTPS = PUBLIC_URL.startswith("https://")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
if PUBLIC_URL:
    _host = PUBLIC_URL.split("://", 1)[1].split("/", 1)[0]
    _host = _host if _host.endswith("]") else _host.rsplit(":", 1)[0] if ":" in _host else _host
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, _host]
CSRF_TRUSTED_ORIGINS = _origins("CSRF_TRUSTED_ORIGINS") + ([PUBLIC_URL] if PUBLIC_URL else [])
TRUSTED_PROXIES = env_int("TRUSTED_PROXIES", 0, high=10)
CORS_ALLOWED_ORIGINS = _origins("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_CREDENTIALS = False
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "openai-processing-ms",
    "x-gateway-attempts",
    "x-gateway-cache",
    "idempotent-replayed",
    "age",
    "retry-after",
    "retry-after-ms",
    "x-conversation-id",
    "x-message-id",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-streams",
    "x-ratelimit-remaining-streams",
]
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "g4f-api-key",
    "idempotency-key",
    "x-api-key",
    "x-requested-with",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-beta",
    "anthropic-version",
    "anthropic-dangerous-direct-browser-access",
    "last-event-id",
    "user-agent",
]
CORS_PREFLIGHT_MAX_AGE = 600

# Requests.
MAX_BODY_BYTES = env_int("MAX_BODY_BYTES", 32 * 1024 * 1024, low=1024)
BODY_STALL_SECONDS = env_int("BODY_STALL_SECONDS", 30, low=1)
MAX_STREAMS_PER_KEY = env_int("MAX_STREAMS_PER_KEY", 64)
HEARTBEAT_SECONDS = env_int("HEARTBEAT_SECONDS", 15, low=1)
MAX_REQUESTS = env_int("MAX_REQUESTS", 5000)
DRAIN_SECONDS = env_int("DRAIN_SECONDS", 2)
STOP_GRACE_SECONDS = env_int("STOP_GRACE_SECONDS", 30)
ANONYMOUS_ACCESS = env_bool("ANONYMOUS_ACCESS")
GUI = env_bool("G4F_GUI", True)
CLIENT_REPORTS = env_bool("CLIENT_REPORTS")

# Providers.
DEFAULT_PROVIDER = env_str("G4F_PROVIDER")
DEFAULT_MODEL = env_str("G4F_MODEL")
UPSTREAM_PROXY = env_str("G4F_PROXY")
UPSTREAM_TIMEOUT = env_int("G4F_TIMEOUT", 600, low=1)
STREAM_FIRST_EVENT_SECONDS = env_int("STREAM_FIRST_EVENT_SECONDS", 300, low=1)
STREAM_GAP_SECONDS = env_int("STREAM_GAP_SECONDS", 120, low=1)
STREAM_TOTAL_SECONDS = env_int("STREAM_TOTAL_SECONDS", 3600, low=1)
MAX_CONNECTIONS_PER_PROVIDER = env_int("MAX_CONNECTIONS_PER_PROVIDER", 4000)
PROBE_SECONDS = env_int("PROBE_SECONDS", 15)
FAILOVER_CONTENT_POLICY = env_bool("FAILOVER_CONTENT_POLICY")
IGNORED_PROVIDERS = [name.lower() for name in env_list("G4F_IGNORED_PROVIDERS")]
G4F_API_KEY = env_str("G4F_API_KEY")
LOCAL_ENGINE_PYTHON = env_str("LOCAL_ENGINE_PYTHON") or sys.executable

# Answers that are given again to whoever asks the same.
ANSWER_CACHE_SECONDS = env_int("ANSWER_CACHE_SECONDS", 3600)
ANSWER_CACHE_BYTES = env_int("ANSWER_CACHE_BYTES", 64 * 1024 * 1024, low=1024 * 1024)

# Files behind addresses that callers give.
FETCH_PORTS = frozenset(_fetch_ports())
FETCH_MAX_BYTES = env_int("FETCH_MAX_BYTES", 25 * 1024 * 1024, low=1024)
FETCH_SECONDS = env_int("FETCH_SECONDS", 20, low=1)
FETCH_PRIVATE_HOSTS = frozenset(host.lower() for host in env_list("FETCH_PRIVATE_HOSTS"))


def _web_search() -> str:
    engine = env_choice("WEB_SEARCH", "", ("", "searxng", "ddgs"))
    if engine == "searxng" and not re.fullmatch(r"https?://[^/@\s?#]+(/[^@\s?#]*)?", SEARXNG_URL):
        raise ImproperlyConfigured("WEB_SEARCH=searxng needs SEARXNG_URL, such as https://search.example.com.")
    if engine == "ddgs" and find_spec("ddgs") is None:
        raise ImproperlyConfigured('WEB_SEARCH=ddgs needs a library. Install it with `make run EXTRAS="search"`.')
    return engine


# Searching the web for chats that ask for it.
SEARXNG_URL = env_str("SEARXNG_URL").rstrip("/")
WEB_SEARCH = _web_search()
WEB_SEARCH_RESULTS = env_int("WEB_SEARCH_RESULTS", 5, low=1, high=20)

# Documents that are read as text.
DOCUMENTS_PYTHON = env_str("DOCUMENTS_PYTHON")
DOCUMENTS_UNCONFINED = env_bool("DOCUMENTS_UNCONFINED")

# Recordings in buckets that are written down.
TRANSCRIPTION_MODEL = env_str("TRANSCRIPTION_MODEL")

# Answers in conversations.
GENERATION_SECONDS = env_int("GENERATION_SECONDS", 600, low=1)
SMALL_MODEL = env_str("SMALL_MODEL")

# What is kept, and for how long.
RESPONSES_RETENTION_DAYS = env_int("RESPONSES_RETENTION_DAYS", 30)
CONVERSATIONS_BIN_DAYS = env_int("CONVERSATIONS_BIN_DAYS", 30)
CONVERSATIONS_PER_USER = env_int("CONVERSATIONS_PER_USER", 10_000)

# Chats that are shared.
SHARE_MAX_BYTES = env_int("SHARE_MAX_BYTES", 2 * 1024 * 1024, low=1024)
SHARES_PER_USER = env_int("SHARES_PER_USER", 500)
SHARES_EXPIRED_DAYS = env_int("SHARES_EXPIRED_DAYS", 30)

# What is remembered of users.
MEMORY_ITEMS = env_int("MEMORY_ITEMS", 1000)
MEMORY_EMBEDDING_MODEL = env_str("MEMORY_EMBEDDING_MODEL")
MEMORY_MODEL = env_str("MEMORY_MODEL")

# Files that are kept.
MAX_FILE_BYTES = env_int("MAX_FILE_BYTES", 25 * 1024 * 1024, low=1024)
MEDIA_QUOTA_BYTES = env_int("MEDIA_QUOTA_BYTES", 2 * 1024 * 1024 * 1024)
MEDIA_QUOTA_FILES = env_int("MEDIA_QUOTA_FILES", 10_000)
MEDIA_URL_SECONDS = env_int("MEDIA_URL_SECONDS", 3600, low=1)
MEDIA_STORAGE = env_choice("MEDIA_STORAGE", "file", ("file", "s3"))
S3_BUCKET = env_str("S3_BUCKET")
S3_PREFIX = env_str("S3_PREFIX").strip("/")
S3_ENDPOINT = env_str("S3_ENDPOINT").rstrip("/")
S3_REGION = env_str("S3_REGION")
S3_ACCESS_KEY = env_str("S3_ACCESS_KEY")
S3_SECRET_KEY = env_str("S3_SECRET_KEY")


def _s3_options() -> dict[str, Any]:
    if find_spec("storages") is None or find_spec("boto3") is None:
        raise ImproperlyConfigured('MEDIA_STORAGE=s3 needs more libraries. Install them with `make run EXTRAS="s3"`.')
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", S3_BUCKET):
        raise ImproperlyConfigured(f"MEDIA_STORAGE=s3 needs S3_BUCKET, the name of a bucket, not {S3_BUCKET!r}.")
    if S3_ENDPOINT and not re.fullmatch(r"https?://[^/@\s?#]+", S3_ENDPOINT):
        # Not quoted: it may hold a password.
        raise ImproperlyConfigured("S3_ENDPOINT must be scheme, host and port, such as https://s3.example.com:9000.")
    if bool(S3_ACCESS_KEY) != bool(S3_SECRET_KEY):
        raise ImproperlyConfigured("Set both S3_ACCESS_KEY and S3_SECRET_KEY, or neither to use those of the machine.")
    return {
        "bucket_name": S3_BUCKET,
        "location": S3_PREFIX,
        "endpoint_url": S3_ENDPOINT or None,
        "region_name": S3_REGION or ("us-east-1" if S3_ENDPOINT else None),
        **({"access_key": S3_ACCESS_KEY, "secret_key": S3_SECRET_KEY} if S3_ACCESS_KEY else {}),
    }


def _media_storage() -> dict[str, Any]:
    if MEDIA_STORAGE == "s3":
        return {"BACKEND": "media.s3.ObjectStorage", "OPTIONS": _s3_options()}
    # What users store is for no other account of the machine.
    modes = {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700}
    return {"BACKEND": "media.storages.FolderStorage", "OPTIONS": modes}


# Operation.
METRICS_TOKEN = env_str("METRICS_TOKEN")
LOG_LEVEL = env_choice("LOG_LEVEL", "DEBUG" if DEBUG else "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_FORMAT = env_choice("LOG_FORMAT", "plain" if sys.stderr.isatty() else "json", ("json", "plain"))
SPOOL_DIR = DATA_DIR / "spool"
# A locked file for each process that makes answers of conversations.
WORKERS_DIR = DATA_DIR / "workers"
DATABASE_URL = env_str("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
REDIS_URL = env_str("REDIS_URL")
WORKERS = env_int("WORKERS", 1, low=1)


def _database() -> dict[str, Any]:
    config: dict[str, Any] = dict(dj_database_url.parse(DATABASE_URL))
    if config.get("ENGINE") == "django.db.backends.sqlite3":
        # IMMEDIATE: a deferred transaction that turns into a write fails at once with "database is locked".
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        }
        # Django gives each request a thread of its own, so that a connection that is kept is one that leaks.
        config["CONN_MAX_AGE"] = 0
        # A file, so that the threads of one test server see the same rows.
        config["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    elif config.get("ENGINE") == "django.db.backends.postgresql":
        options = config.setdefault("OPTIONS", {})
        options.setdefault("pool", {"min_size": 1, "max_size": 10, "timeout": 10})
        options.setdefault("connect_timeout", 5)
        config["CONN_MAX_AGE"] = 0
        # After a restart of the database the pool is full of dead connections: each is asked before it is lent.
        config["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:/// or postgres://.")
    return config


try:
    DATABASES = {"default": _database()}
except ValueError:
    # The library's own words may quote parts of the URL, and with them the password.
    raise ImproperlyConfigured(
        "DATABASE_URL cannot be read. It looks like postgres://user:password@host:5432/name, with special characters "
        "of the password percent-encoded, or sqlite:////folder/db.sqlite3."
    ) from None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _refuse_bad_redis() -> None:
    if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or unix://.")
    try:
        parts = urlsplit(REDIS_URL)
        readable = parts.scheme == "unix" or ((parts.port or 1) and (parts.path.strip("/") or "0").isdigit())
    except ValueError:
        readable = False
    if not readable:
        # Not quoted: it may hold a password.
        raise ImproperlyConfigured("REDIS_URL cannot be read. It looks like redis://:password@host:6379/0.")


if REDIS_URL:
    _refuse_bad_redis()
    CACHES: dict[str, Any] = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": "g4fsite",
            "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        }
    }
    CHANNEL_LAYERS: dict[str, Any] = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

INSTALLED_APPS = [
    # daphne replaces `runserver` and loads Twisted with it: nobody else pays for that.
    *(["daphne"] if "runserver" in sys.argv else []),
    # First, so that its templates come before those of Django's admin and of allauth.
    "g4fsite.apps.SiteConfig",
    "g4fsite.apps.GatewayAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "allauth",
    "allauth.account",
    "channels",
    "conversations.apps.ConversationsConfig",
    "gateway.apps.GatewayConfig",
    "media.apps.MediaConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "g4fsite.languages.PageLanguage",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "g4fsite.pages.GatewayErrors",
]
ROOT_URLCONF = "g4fsite.urls"
ASGI_APPLICATION = "g4fsite.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Signing in.
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SIGNUP_OPEN = env_bool("SIGNUP_OPEN")
ACCOUNT_ADAPTER = "g4fsite.accounts.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_RATE_LIMITS = {"login": "50/m/ip", "login_failed": "20/m/ip,5/5m/key"}
ACCOUNT_PREVENT_ENUMERATION = True
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGOUT_REDIRECT_URL = "/accounts/login/"
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS else "csrftoken"
EMAIL_BACKEND = env_str("EMAIL_BACKEND") or "django.core.mail.backends.console.EmailBackend"

# Headers.
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_SSL_REDIRECT = False  # the proxy in front redirects; health probes come over plain HTTP
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # it asks for that redirect
DEFAULT_EXCEPTION_REPORTER_FILTER = "g4fsite.logs.ReporterFilter"  # for the pages of G4F_DEBUG
CSRF_FAILURE_VIEW = "g4fsite.pages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "media-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "worker-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# Languages, files.
LANGUAGE_CODE = "en"
# Each has a catalogue of our own, so that no page is half in one language and half in another.
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("fr", "Français"), ("es", "Español"), ("zh-hans", "简体中文")]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
MEDIA_ROOT = DATA_DIR / "media"
STORAGES = {
    "default": _media_storage(),
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# Where requests wait while they arrive: on the same disk as the data, and swept.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "uploads"
WHITENOISE_USE_FINDERS = DEBUG or TESTING
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 50

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "gateway.authentication.ApiKeyAuthentication",
        "gateway.authentication.BrowserSessionAuthentication",
        "gateway.authentication.AnonymousAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["gateway.authentication.IsCaller"],
    "DEFAULT_THROTTLE_CLASSES": ["gateway.surfaces.throttle.RequestLimits"],
    "DEFAULT_RENDERER_CLASSES": ["gateway.surfaces.drf.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["gateway.surfaces.drf.OrjsonParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "gateway.surfaces.drf.JsonAlways",
    "EXCEPTION_HANDLER": "gateway.surfaces.drf.envelope",
    "DEFAULT_SCHEMA_CLASS": "g4fsite.schema.Schema",
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "g4fsite",
    "DESCRIPTION": "An OpenAI-compatible gateway to the providers that its operator connects.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["gateway.authentication.IsCaller"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["g4fsite.schema.add_streamed_routes"],
    "COMPONENT_SPLIT_REQUEST": True,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"mask": {"()": "g4fsite.logs.MaskSecrets"}},
    "formatters": {"json": {"()": "g4fsite.logs.JsonFormatter"}, "plain": {"()": "g4fsite.logs.PlainFormatter"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["mask"]},
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": "INFO"},
        "django.request": {"level": "ERROR"},
        "asyncio": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "uvicorn": {"handlers": [], "propagate": True, "level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
    },
}
