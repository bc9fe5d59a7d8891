#!/usr/bin/env bash
# Sets everything up, then runs every check: bash scripts/test.sh [PYTEST OPTIONS ...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# a process a core, each on one thread
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
