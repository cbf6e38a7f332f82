"""The tables of what people keep, by topic."""

from conversations.models.conversations import Conversation, ConversationLimits, Generation, Message, State
from conversations.models.memory import Memory, MemoryItem
from conversations.models.prompts import Prompt
from conversations.models.shares import SharedChat

__all__ = [
    "Conversation",
    "ConversationLimits",
    "Generation",
    "Memory",
    "MemoryItem",
    "Message",
    "Prompt",
    "SharedChat",
    "State",
]
