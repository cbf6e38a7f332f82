"""Providers, their credentials and models, aliases over them, and what they cost."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Max
from django.db.models.functions import Lower

from gateway.cookies import header
from gateway.engines.extras import problem_with
from gateway.models.keys import open_streams, per_minute
from gateway.network import check_base_url, check_proxy_url
from gateway.secrets import EncryptedField

CAPABILITIES = (
    "chat", "vision", "image", "audio", "video", "tools", "json", "reasoning", "embeddings", "speech", "transcription",
)  # fmt: skip

# What the gateway does in a model's place, where an operator says so.
EMULATIONS = ("emulate_tools", "emulate_json", "think_tags", "cache_answers")

# A name travels in paths (/api/NAME/...) and in `NAME/model`, so it holds no slash and no space.
provider_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
    "Use letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or digit.",
)
# Ids may hold slashes and colons (`org/model:tag`), but nothing that breaks a URL or a log line.
model_id = RegexValidator(
    r"^[^\s\x00-\x1f\x7f]{1,200}\Z", "Use no spaces or control characters, at most 200 characters."
)
HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def check_headers(value: Any) -> None:
    """Extra headers are a map of plain strings; CR, LF and NUL would let one header smuggle another."""
    if not isinstance(value, dict):
        raise ValidationError("Headers must be an object of names and values.")
    for name, text in value.items():
        if not HEADER_NAME.match(str(name)):
            raise ValidationError(f"{name!r} is not a header name.")
        if not isinstance(text, str) or re.search(r"[\x00\r\n]", text):
            raise ValidationError(f"The value of {name} must be text without CR, LF or NUL.")
        if name.lower() in {"host", "content-length", "transfer-encoding", "connection", "authorization", "cookie"}:
            raise ValidationError(f"{name} is set by the gateway; credentials belong to the provider's credentials.")


def next_priority() -> int:
    """One after the last, so that providers are tried in the order in which they were made; demo stays behind."""
    return (Provider.objects.exclude(adapter="demo").aggregate(last=Max("priority"))["last"] or 0) + 10


class Provider(models.Model):
    """A company or server that answers: where it is, which wire protocol it speaks, when it is tried."""

    class Auth(models.TextChoices):
        BEARER = "bearer", "Authorization: Bearer"
        HEADER = "header", "Named header"
        QUERY = "query", "Query parameter"
        COOKIES = "cookies", "Cookies"
        NONE = "none", "None"

    name = models.CharField(
        max_length=64, validators=[provider_name], help_text="In requests: `provider` or NAME/model."
    )
    label = models.CharField(max_length=100, blank=True, help_text="Shown to people. Empty: the name.")
    preset = models.CharField(max_length=64, blank=True, editable=False)
    adapter = models.CharField(max_length=32, help_text="The wire protocol it speaks.")
    base_url = models.CharField(
        max_length=500, blank=True, help_text="Up to and including the version, such as https://api.openai.com/v1"
    )
    auth_style = models.CharField(max_length=8, choices=Auth.choices, default=Auth.BEARER)
    auth_name = models.CharField(
        max_length=64, blank=True, help_text="Header or parameter that carries the credential."
    )
    headers = models.JSONField(
        default=dict, blank=True, validators=[check_headers], help_text="Sent with each request."
    )
    query = models.JSONField(default=dict, blank=True, help_text="Appended to each URL, such as api-version.")
    proxy = models.CharField(max_length=500, blank=True, help_text="HTTP proxy for this provider. Empty: G4F_PROXY.")
    allow_private = models.BooleanField(
        "private addresses allowed", default=False, help_text="Needed for servers on this machine or network."
    )
    asks_usage = models.BooleanField(
        "asks for usage in streams", default=True, help_text="Off for servers that refuse stream_options."
    )
    completions = models.BooleanField(
        "has legacy completions",
        default=False,
        help_text="POST /completions is there. Off: legacy completions are asked as chats.",
    )
    fetch_media = models.BooleanField(
        "fetches what addresses lead to",
        null=True,
        blank=True,
        help_text="Yes: pictures behind addresses are fetched here and sent as bytes. No: the provider gets them."
        " Unknown: fetched where private addresses are allowed, because that server may reach what callers must not.",
    )
    connect_timeout = models.PositiveIntegerField(default=5, validators=[MinValueValidator(1)], help_text="Seconds.")
    timeout = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Seconds for a plain answer. Empty: G4F_TIMEOUT.",
    )
    first_event_timeout = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Seconds until a stream says something."
    )
    gap_timeout = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Seconds that a stream may fall silent."
    )
    gguf = models.CharField(
        "GGUF file",
        max_length=500,
        blank=True,
        help_text="For the adapter “local”: the model file that this server runs with llama.cpp.",
    )
    gguf_context = models.PositiveIntegerField(
        "context of the GGUF model",
        null=True,
        blank=True,
        validators=[MinValueValidator(64)],
        help_text="Tokens. Empty: 4,096. More takes more memory.",
    )
    default_model = models.CharField(
        max_length=200, blank=True, help_text="Used when a request names only the provider."
    )
    docs_url = models.URLField(blank=True)
    enabled = models.BooleanField(default=True)
    priority = models.PositiveIntegerField(null=True, blank=True, help_text="Lower is tried first. Empty: last.")
    weight = models.PositiveIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Share among providers of the same priority."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("priority", "id")
        constraints = [
            models.UniqueConstraint(Lower("name"), name="provider_name", violation_error_message="That name is taken.")
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.priority is None:
            self.priority = next_priority()
        super().save(*args, **kwargs)

    def clean(self) -> None:
        from gateway.adapters import ADAPTERS

        if self.adapter not in ADAPTERS:
            raise ValidationError({"adapter": f"Unknown adapter. There are: {', '.join(sorted(ADAPTERS))}."})
        if not ADAPTERS[self.adapter].local:
            check_base_url(self.base_url, allow_private=self.allow_private)
        self._check_gguf()
        if self.proxy:
            check_proxy_url(self.proxy)
        if self.auth_style in (self.Auth.HEADER, self.Auth.QUERY) and not self.auth_name:
            raise ValidationError({"auth_name": "Name the header or parameter that carries the credential."})
        if self.auth_name and not HEADER_NAME.match(self.auth_name):
            raise ValidationError({"auth_name": "This is not a header name."})

    def _check_gguf(self) -> None:
        """Raises ValidationError. A file that has gone since is no reason to refuse another change."""
        if not self.gguf:
            return
        if self.adapter != "local":
            raise ValidationError({"gguf": "A GGUF file is for the adapter “local”."})
        if Provider.objects.filter(pk=self.pk, gguf=self.gguf).exists():
            return
        if problem := problem_with(self.gguf):
            raise ValidationError({"gguf": problem})

    @property
    def title(self) -> str:
        return self.label or self.name


class Credential(models.Model):
    """One key of a provider's; several are tried in order. The secret is encrypted and never shown again."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    label = models.CharField(max_length=100, blank=True)
    secret = EncryptedField()
    tail = models.CharField(max_length=4, blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.label or 'credential'} ...{self.tail}"

    def sent(self) -> str:
        """The secret as it is sent; empty when it is cookies of which none is for the base URL now.

        Raises SecretUnreadable.
        """
        plain = self.secret.reveal()
        return header(plain, self.provider.base_url) if self.provider.auth_style == Provider.Auth.COOKIES else plain

    def set_secret(self, plain: str) -> None:
        """Raises ValidationError for text that cannot stand in a header."""
        if not plain or re.search(r"[\x00-\x1f\x7f]", plain) or not plain.isascii():
            raise ValidationError("A credential is plain ASCII text without control characters.")
        self.secret = EncryptedField().to_python(plain)
        # Short secrets show nothing: four of eight letters would be half of it.
        self.tail = plain[-4:] if len(plain) >= 16 else ""


class ProviderModel(models.Model):
    """A model at a provider: the id that callers use, the name that the provider uses, what it can do.

    Each capability is yes, no or unknown; only an explicit no refuses a request.
    """

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    public_id = models.CharField(max_length=200, validators=[model_id])
    upstream_name = models.CharField(max_length=200, validators=[model_id], blank=True)
    enabled = models.BooleanField(default=True)
    chat = models.BooleanField(null=True, blank=True)
    vision = models.BooleanField(null=True, blank=True)
    image = models.BooleanField(null=True, blank=True)
    audio = models.BooleanField(null=True, blank=True)
    video = models.BooleanField(null=True, blank=True)
    tools = models.BooleanField(null=True, blank=True)
    json = models.BooleanField(null=True, blank=True)
    reasoning = models.BooleanField(null=True, blank=True)
    embeddings = models.BooleanField(null=True, blank=True)
    speech = models.BooleanField(null=True, blank=True)
    transcription = models.BooleanField(null=True, blank=True)
    emulate_tools = models.BooleanField(
        "tools by prompt", default=False, help_text="Where “tools” is no: they are described in an instruction."
    )
    emulate_json = models.BooleanField(
        "JSON by prompt", default=False, help_text="Where “json” is no: an instruction, a check and one repair."
    )
    think_tags = models.BooleanField(
        "<think> is reasoning", default=False, help_text="Text between <think> tags becomes reasoning."
    )
    cache_answers = models.BooleanField(
        "same answer again", default=False, help_text="Whoever asks exactly the same again gets the answer kept of it."
    )
    context_length = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens.")
    requests_per_minute = per_minute()
    tokens_per_minute = per_minute()
    max_streams = open_streams()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "model"
        ordering = ("provider__priority", "id")
        constraints = [models.UniqueConstraint(fields=("provider", "public_id"), name="model_of_provider")]
        indexes = [models.Index(fields=("public_id",))]

    def __str__(self) -> str:
        return f"{self.provider.name}/{self.public_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.upstream_name = self.upstream_name or self.public_id
        super().save(*args, **kwargs)


class ModelAlias(models.Model):
    """A public name for an ordered list of models: the fallback chain. `default` is one."""

    name = models.CharField(max_length=200, unique=True, validators=[model_id])
    enabled = models.BooleanField(default=True)

    class Meta:
        verbose_name = "alias"
        verbose_name_plural = "aliases"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class AliasTarget(models.Model):
    alias = models.ForeignKey(ModelAlias, on_delete=models.CASCADE, related_name="targets")
    model = models.ForeignKey(ProviderModel, on_delete=models.CASCADE)
    position = models.PositiveIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Share among targets of the same position."
    )

    class Meta:
        verbose_name = "target"
        ordering = ("position", "id")
        constraints = [models.UniqueConstraint(fields=("alias", "model"), name="target_once_per_alias")]

    def __str__(self) -> str:
        return f"{self.alias} → {self.model}"


class Price(models.Model):
    """What a million tokens (pictures, seconds of sound, characters) cost, in nano-dollars (a dollar is
    1,000,000,000), during a span of time."""

    model = models.ForeignKey(ProviderModel, on_delete=models.CASCADE, related_name="prices")
    input = models.BigIntegerField(validators=[MinValueValidator(0)])
    cached_input = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    output = models.BigIntegerField(validators=[MinValueValidator(0)])
    reasoning = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    image = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    audio_second = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    character = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("model", "-valid_from")

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"
