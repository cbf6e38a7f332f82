"""OpenAI's Responses API under `/v1` and `/api/{provider}`, over any adapter."""
