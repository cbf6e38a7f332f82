"""Web search for chats whose model cannot search by itself: what an engine finds, read and cut to what matters."""
