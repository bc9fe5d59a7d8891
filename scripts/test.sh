#!/usr/bin/env bash
# Sets everything up, then runs every check: bash scripts/test.sh [--fast] [PYTEST OPTIONS ...]
# --fast leaves out the tests that are marked slow: what one runs while one works.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
if [ "${1:-}" = --fast ]; then
    shift
    set -- -m "not slow" "$@"
fi
# a process a core, each on one thread
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
