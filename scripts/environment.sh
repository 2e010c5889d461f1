# Sourced by the other scripts: makes .venv with the pinned packages, or reuses it, and activates it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

pins_digest() { cat pyproject.toml constraints.txt | sha256sum | cut -d ' ' -f 1; }

make_environment() {
  local python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Python 3.11 or newer is needed; found $("$python" --version). Set PYTHON=..." >&2
    exit 1
  }
  echo "Installing into .venv (a few minutes the first time) ..."
  rm -f .venv/installed
  "$python" -m venv --clear .venv
  .venv/bin/python -m pip install -qq -c constraints.txt -e '.[dev]'
  pins_digest >.venv/installed
}

if [ ! -f .venv/installed ] || [ "$(cat .venv/installed)" != "$(pins_digest)" ]; then
  make_environment
fi
. .venv/bin/activate
