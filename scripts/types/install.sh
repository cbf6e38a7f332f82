#!/bin/sh
# Installs the type checker of the chat page's modules, at the version and checksum of the lock file.
set -eu
cd "$(dirname "$0")"
command -v node >/dev/null && command -v npm >/dev/null || {
    echo "node and npm are not installed (Debian: apt install nodejs npm; version 20 or later)" >&2
    exit 1
}
npm ci --no-audit --no-fund --ignore-scripts --omit-lockfile-registry-resolved
