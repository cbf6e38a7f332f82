"""Conversations from files: our own exports, ChatGPT's, Claude's, Open WebUI's and g4f's.

`reading` takes a file apart into JSON objects, one per conversation; `forms` and its neighbours make a `Said` of
each, whatever is missing in it; `writing` keeps them, none twice.
"""
