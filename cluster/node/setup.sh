#!/usr/bin/env bash
# Sets up a node: the package and its pinned dependencies in ~/reconbench/.venv. May be repeated.
# PYTHON names the interpreter; Ray wants the same minor version on every node and on yours.
set -euo pipefail
cd "$HOME/reconbench"
python=${PYTHON:-python3.11}
if [ ! .installed -nt pyproject.toml ] || [ ! .installed -nt constraints.txt ]; then
  if ! command -v "$python" >/dev/null; then
    echo "$(hostname): no $python; install it, or set PYTHON in the cluster file" >&2
    exit 1
  fi
  touch README.md LICENSE  # which the package names and a node has no use for
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    ${PIP_ARGS:-} -e '.[cluster]'
  touch .installed
fi
line='. ~/reconbench/node/env.sh'
grep -qsxF "$line" ~/.bashrc || echo "$line" >> ~/.bashrc
