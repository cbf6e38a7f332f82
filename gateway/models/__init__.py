"""The gateway's tables, by topic: providers and their models, keys, usage, stored responses and answers."""

from gateway.models.idempotency import IdempotentAnswer
from gateway.models.keys import ApiKey, UserLimits, new_key
from gateway.models.providers import (
    CAPABILITIES,
    EMULATIONS,
    AliasTarget,
    Credential,
    ModelAlias,
    Price,
    Provider,
    ProviderModel,
)
from gateway.models.responses import ResponseEvents, StoredResponse
from gateway.models.usage import UsageEvent, UsageHour
from gateway.models.version import ConfigVersion

__all__ = [
    "CAPABILITIES",
    "EMULATIONS",
    "AliasTarget",
    "ApiKey",
    "ConfigVersion",
    "Credential",
    "IdempotentAnswer",
    "ModelAlias",
    "Price",
    "Provider",
    "ProviderModel",
    "ResponseEvents",
    "StoredResponse",
    "UsageEvent",
    "UsageHour",
    "UserLimits",
    "new_key",
]
