"""A library of prompts: texts with variables that their owner calls by a slash and a word."""
