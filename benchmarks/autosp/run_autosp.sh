#!/usr/bin/env bash
# Sets up what is missing (packages, .venv, the C++ build), then runs run.py with the given arguments.
#   ./benchmarks/autosp/run_autosp.sh --compile autosp --batch-size 1 --seq-length 64 --sp-size 2 --num-layers 1 --steps 1
# AUTOSP_TORCH and AUTOSP_PYTHON are described in tests/setup/setup.sh; --help lists the arguments.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../tests/setup/setup.sh"
caller_directory="$PWD"
autosp_setup train
# Relative paths among the arguments mean what they meant to the caller.
cd "$caller_directory" || exit 1
exec "$AUTOSP_PY" "$AUTOSP_ROOT/benchmarks/autosp/run.py" "$@"
