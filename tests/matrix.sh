#!/usr/bin/env bash
# The walls with every library, on each Python 3.11 to 3.14 of this machine: python3.x on PATH and
# pyenv's. Environments are made in build/matrix, apart from .venv. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

found() {
  local minor python
  for minor in 11 12 13 14; do
    for python in "$(command -v "python3.$minor")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python; do
      # A pyenv shim is on PATH for versions that are not chosen, too, and fails then.
      if [ -x "$python" ] && "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[1] != '"$minor"')' 2>/dev/null; then
        echo "$python"
        break
      fi
    done
  done
}

environment() { # PYTHON PLACE
  local pip=("$2/bin/python" -m pip install --quiet)
  if [ ! "$2/.requirements" -nt constraints/dev.txt ]; then
    rm -rf "$2"
    "$1" -m venv "$2" && "${pip[@]}" --require-hashes -r constraints/dev.txt && touch "$2/.requirements" || return
  fi
  if [ ! "$2/.package" -nt pyproject.toml ]; then
    "${pip[@]}" --no-deps --no-build-isolation -e . && touch "$2/.package"
  fi
}

mapfile -t pythons < <(found)
if [ ${#pythons[@]} = 0 ]; then
  echo "No Python 3.11 to 3.14 with venv found" >&2
  exit 1
fi
status=0
for python in "${pythons[@]}"; do
  version=$("$python" -c 'import platform; print(platform.python_version())')
  place="build/matrix/${version%.*}"
  echo "== Python $version"
  if environment "$python" "$place"; then
    "$place/bin/python" -m pytest -q --no-cov -p no:cacheprovider tests/sandbox tests/walls/test_libraries.py "$@" || status=1
  else
    echo "Python $version: its environment could not be made" >&2
    status=1
  fi
done
exit "$status"
