"""What is remembered of a user: kept, searched, and given to chats only where the user wants that."""
