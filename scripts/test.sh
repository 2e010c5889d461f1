#!/usr/bin/env bash
# Makes .venv with the pinned packages and passes the tests, spread over the cores. Arguments go to pytest:
# scripts/test.sh -k hash_grid; with -n 0 they run in one process, where --pdb works.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-2}"
python -m pytest -n logical --maxprocesses 8 --dist worksteal "$@"
