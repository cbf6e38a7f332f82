#!/bin/sh
# Makes .venv-engine with llama.cpp's server: about three minutes on two cores; needs a C++ compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python3 -m venv "$root/.venv-engine" || {
    echo "python3 -m venv failed (Debian: apt install python3-venv)" >&2
    exit 1
}
"$root/.venv-engine/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
