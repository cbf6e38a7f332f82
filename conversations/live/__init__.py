"""News for pages that are open: what changed in whose lists, and where answers begin and end."""
