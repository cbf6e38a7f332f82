"""What people keep: conversations, running answers, shared chats, memory, and the browser page."""
