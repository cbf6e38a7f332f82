"""Shared chats: a copy of a conversation that others read by an address, and go on from in a copy of their own."""
