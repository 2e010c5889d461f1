# Sourced by the other scripts: makes .venv with the pinned packages, or reuses it, and activates it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

pins_digest() { cat pyproject.toml constraints.txt | sha256sum | cut -d ' ' -f 1; }

# With 3.11 and 3.12 every package is a wheel; for a newer Python some have to be compiled.
python_with_wheels() {
  local each
  for each in python3 python3.12 python3.11; do
    if "$each" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      echo "$each"
      return
    fi
  done
  echo python3
}

make_environment() {
  local python="${PYTHON:-$(python_with_wheels)}"
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
