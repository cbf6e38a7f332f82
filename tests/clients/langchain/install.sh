#!/bin/sh
# Makes .venv-langchain with LangChain's client and its published standard tests, which pin much that ours does not.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python3 -m venv "$root/.venv-langchain" || {
    echo "python3 -m venv failed (Debian: apt install python3-venv)" >&2
    exit 1
}
"$root/.venv-langchain/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
