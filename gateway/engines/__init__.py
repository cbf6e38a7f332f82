"""Engines that run on this machine: llama.cpp as a child process, speech and its recognition as optional libraries."""
