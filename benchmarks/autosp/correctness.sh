#!/usr/bin/env bash
# The correctness matrix: sp,dp x (DeepSpeed ZeRO 0 and 1, plain PyTorch) for autosp, and DeepSpeed's own pass at sp=2
# for contrast; every run is compared with one process. Fails only when autosp fails.
#   ./benchmarks/autosp/correctness.sh                    the default: 2,1 4,1 2,2
#   ./benchmarks/autosp/correctness.sh 2,1 --steps 5      one configuration, five steps
#   ./benchmarks/autosp/correctness.sh 2,2 -- --mask left --model tiny-qwen3     the rest goes to run.py
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../tests/setup/setup.sh"
caller_directory="$PWD"
autosp_setup train
cd "$caller_directory" || exit 1
exec "$AUTOSP_PY" "$AUTOSP_ROOT/benchmarks/autosp/matrix.py" "$@"
