#!/usr/bin/env bash
# Makes .venv with the pinned packages and passes the tests. Arguments go to pytest: scripts/test.sh -k hash_grid
set -euo pipefail
. "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-2}"
python -m pytest "$@"
