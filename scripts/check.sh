#!/usr/bin/env bash
# Lint, format, types and tests: what CI runs. `scripts/check.sh --fix` mends what ruff can mend first;
# `scripts/check.sh --static` leaves the tests out.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-2}"

if [ "${1:-}" = "--fix" ]; then
  ruff check --fix --quiet .
  ruff format --quiet .
fi
ruff check .
ruff format --check .
pyright
if [ "${1:-}" != "--static" ]; then
  python -m pytest
fi
