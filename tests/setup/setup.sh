# Sourced by tests/run.sh and benchmarks/autosp/run_autosp.sh. `autosp_setup train|test` brings a bare machine to a built
# checkout and does nothing where nothing is missing. It leaves in the environment:
#   AUTOSP_ROOT   the checkout      AUTOSP_BUILD  the build directory     AUTOSP_PY  the Python to run
# Read from the environment:
#   AUTOSP_TORCH=2.11.0         another torch: its own .venv-2.11.0 and build-2.11.0
#   AUTOSP_PYTHON=/usr/bin/py   use this interpreter and its packages, install nothing (machines without a network)
#   AUTOSP_JOBS=4               compiler processes at a time

AUTOSP_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
AUTOSP_REQUIRED_MB=12000 # torch and the CUDA libraries it brings take 5 GB, their downloads and the build the rest

source "$AUTOSP_ROOT/tests/setup/messages.sh"
source "$AUTOSP_ROOT/tests/setup/system.sh"
source "$AUTOSP_ROOT/tests/setup/python.sh"
source "$AUTOSP_ROOT/tests/setup/build.sh"

autosp_setup() {
  local profile="$1" suffix=""
  autosp_choose_python
  cd "$AUTOSP_ROOT" || exit 1
  if [[ -n "${AUTOSP_PYTHON:-}" ]]; then
    suffix="-$("$AUTOSP_PYTHON" -c 'import sys; print("py%d.%d" % sys.version_info[:2])')"
  elif [[ "$AUTOSP_TORCH_PIN" != "$AUTOSP_DEFAULT_TORCH" ]]; then
    suffix="-$AUTOSP_TORCH_PIN"
  fi
  AUTOSP_BUILD="$AUTOSP_ROOT/build$suffix"
  autosp_ensure_system_packages "$profile"
  if [[ "$profile" == test ]]; then autosp_try_mpi; fi
  autosp_ensure_python "$profile"
  autosp_ensure_build "$profile"
  export AUTOSP_ROOT AUTOSP_BUILD AUTOSP_PY
}
