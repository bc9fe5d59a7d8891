#!/usr/bin/env bash
# Sets everything up, then trains: bash scripts/train.sh [SETTING=VALUE ...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh ""  # without an argument it would see this script's own
exec .venv/bin/mfnet train "$@"
