#!/bin/sh
# What a container runs: secrets that are missing, migrations and static files, then the server.
# A first start prints an administrator's password and an API key, once.
set -eu
cd "$(dirname "$0")/.."
python -m g4fsite init
python manage.py firstrun
exec python manage.py api "$@"
