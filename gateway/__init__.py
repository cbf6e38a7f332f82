"""What answers: providers, credentials, models, prices, API keys, usage, and the `/v1` and `/api` surfaces."""
