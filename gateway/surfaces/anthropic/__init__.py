"""Anthropic's Messages API for callers: POST /v1/messages and /v1/messages/count_tokens, over any adapter."""
