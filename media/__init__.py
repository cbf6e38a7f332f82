"""Bytes: file buckets, uploads, generated media, and the one fetcher for addresses that users give."""
