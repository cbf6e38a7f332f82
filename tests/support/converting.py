"""The interpreter in which documents are read, where `tests/media/documents/install.sh` has made it."""

from __future__ import annotations

import os

import pytest

from tests.support.services import ROOT

PYTHON = os.environ.get("TEST_DOCUMENTS_PYTHON") or str(ROOT / ".venv-documents/bin/python")
needs_documents = pytest.mark.skipif(
    not os.access(PYTHON, os.X_OK), reason="documents: no .venv-documents (sh tests/media/documents/install.sh)"
)
