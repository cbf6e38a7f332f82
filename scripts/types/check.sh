#!/bin/sh
# Checks the types that the chat page's modules tell in JSDoc. Without Node there is nothing to check with.
set -eu
cd "$(dirname "$0")"
command -v npm >/dev/null || { echo "Without npm the chat page's types are not checked."; exit 0; }
[ node_modules/.package-lock.json -nt package-lock.json ] || sh ./install.sh >/dev/null
node node_modules/typescript/bin/tsc -p .
