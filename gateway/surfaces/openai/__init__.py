"""OpenAI's API under `/v1` and `/api/{provider}`."""
