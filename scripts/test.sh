#!/usr/bin/env bash
# Sets everything up, then runs every check: bash scripts/test.sh [PYTEST OPTIONS ...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
