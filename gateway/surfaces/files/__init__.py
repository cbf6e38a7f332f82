"""Buckets of files over HTTP: uploads as they arrive, texts as they are read."""
