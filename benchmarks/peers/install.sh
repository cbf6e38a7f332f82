#!/bin/sh
# Installs what ours is compared with: nginx by apt, LiteLLM by pip into a virtual environment of its own.
# Usage: install.sh [nginx] [litellm]     BENCH_DIR: where the environment goes     PEER_PYTHON: which Python runs LiteLLM
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${BENCH_DIR:-$here/../.cache}
python=${PEER_PYTHON:-python3}

if_root=
[ "$(id -u)" = 0 ] || if_root=sudo

install_nginx() {
    command -v nginx >/dev/null || { $if_root apt-get update -qq && $if_root apt-get install -y -qq nginx-light >/dev/null; }
    nginx -v
}

install_litellm() {
    mkdir -p "$dir"
    "$python" -m venv "$dir/litellm"
    "$dir/litellm/bin/pip" install --quiet --disable-pip-version-check -r "$here/litellm.txt"
    # Without compiled files it compiles an optional module anew for every request, and looks slower than it is.
    env -u PYTHONDONTWRITEBYTECODE "$dir/litellm/bin/python" -m compileall -q -j 0 "$dir/litellm/lib" >/dev/null 2>&1 || true
    "$dir/litellm/bin/pip" show litellm 2>/dev/null | grep ^Version
}

for peer in "${@:-nginx litellm}"; do
    for name in $peer; do "install_$name"; done
done
