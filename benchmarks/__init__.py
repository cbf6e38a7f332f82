"""Measures what requests and chunks cost, ours beside others. See README.md."""
