"""Speech and transcripts: OpenAI's audio routes, and `synthesize` of the browser surface."""
