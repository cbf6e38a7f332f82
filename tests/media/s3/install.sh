#!/bin/sh
# Makes .venv-s3 with a local S3 server, which brings much that ours does not need.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python3 -m venv "$root/.venv-s3" || {
    echo "python3 -m venv failed (Debian: apt install python3-venv)" >&2
    exit 1
}
"$root/.venv-s3/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
