"""What the browser page and other clients ask of conversations: `/backend-api/v2/conversations` and `me`."""
