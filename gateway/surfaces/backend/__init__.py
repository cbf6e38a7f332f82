"""`/backend-api/v2`: what the browser's pages ask, apart from conversations and what people keep."""
