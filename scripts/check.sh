#!/usr/bin/env bash
# Lint, format, types and tests: what CI runs. `scripts/check.sh --fix` mends what ruff can mend first;
# `scripts/check.sh --static` leaves the tests out.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

if [[ " $* " == *" --fix "* ]]; then
  ruff check --fix --quiet .
  ruff format --quiet .
fi
ruff check .
ruff format --check .
pyright
if [[ " $* " != *" --static "* ]]; then
  bash scripts/test.sh
fi
