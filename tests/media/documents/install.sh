#!/bin/sh
# Makes .venv-documents, in which the tests' child reads documents: the extra is large and pins much that ours does not.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python3 -m venv "$root/.venv-documents" || {
    echo "python3 -m venv failed (Debian: apt install python3-venv)" >&2
    exit 1
}
"$root/.venv-documents/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements-documents.txt"
