"""Which adapter serves a request that its protocol does not take as it is."""

from __future__ import annotations

from gateway.adapters.base import Adapter
from gateway.adapters.calls import Calls
from gateway.calls import CallRequest
from gateway.chat import ChatRequest
from gateway.targets import Target


def adapted(adapter: Adapter, target: Target, chat: ChatRequest) -> Adapter:
    """For requests or targets that are not `plain`; all others go to their adapter directly."""
    if isinstance(chat, CallRequest):
        return Calls(adapter)
    return adapter
