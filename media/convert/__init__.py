"""Files as Markdown. `markdown.py` is the door; `child.py` is the program in which strangers' files are opened.

What the child imports (`child`, `archive`, `confine`, `documents`, `simple`) needs nothing but Python: it may run under
an interpreter of its own (DOCUMENTS_PYTHON), where Django is not.
"""
