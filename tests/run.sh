#!/usr/bin/env bash
# Sets up what is missing, then runs every check of this repository:
#   ./tests/run.sh                  lint, sanitized C++ tests, C++ tests, Python tests
#   ./tests/run.sh --quick          the quick C++ and Python tests only
#   ./tests/run.sh [--quick] -k X   C++ and Python tests whose names match X (no lint)
# Every part runs even when an earlier one failed; the exit status is that of all. AUTOSP_TORCH=2.11.0 tests with another
# torch, AUTOSP_PYTHON=/path/python with that interpreter and without installing anything.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup/setup.sh"

usage() { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

quick=0
pattern=""
while (($#)); do
  case "$1" in
    --quick) quick=1 ;;
    -k)
      (($# > 1)) || die "-k needs a pattern: ./tests/run.sh -k NAME"
      pattern="$2"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die "unknown argument '$1': known are --quick, -k PATTERN and --help" ;;
  esac
  shift
done

autosp_setup test
logs="$AUTOSP_BUILD/test_logs"
mkdir -p "$logs"
rm -f "$logs"/*
part_names=()
part_results=()

# part NAME COMMAND...: runs it, keeps its output in test_logs/NAME.log and its result for the table.
part() {
  local name="$1" start=$SECONDS result=passed
  shift
  say "--- $name"
  "$@" 2>&1 | tee "$logs/$name.log"
  ((PIPESTATUS[0] == 0)) || result=FAILED
  part_names+=("$name")
  part_results+=("$result in $((SECONDS - start)) s")
}

# The files of this project that match the given patterns, tracked or new.
project_files() {
  git ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null | while read -r file; do [[ -f "$file" ]] && echo "$file"; done
}

lint_format() {
  local files places
  files="$(project_files '*.h' '*.cpp')"
  [[ -n "$files" ]] || files="$(find include src passes python tests benchmarks -name '*.h' -o -name '*.cpp')"
  places="$(xargs -P "$(autosp_jobs)" -n 8 clang-format --dry-run -Werror <<<"$files" 2>&1)" && return
  sed -n 's/:[0-9]*:[0-9]*: error: .*//p' <<<"$places" | sort | uniq -c
  say "clang-format would change these files in so many places: run ${AUTOSP_VENV#"$AUTOSP_ROOT"/}/bin/clang-format -i on them"
  return 1
}

# Every program tests/lint/check_*.py is a check; it prints what it found and returns non-zero.
lint_checks() {
  local check status=0
  for check in tests/lint/check_*.py; do
    "$AUTOSP_PY" "$check" --build "$AUTOSP_BUILD" || status=1
  done
  return "$status"
}

lint_tidy() { "$AUTOSP_PY" tests/lint/run_tidy.py --build "$AUTOSP_BUILD" --jobs "$(autosp_jobs)"; }

sanitize() {
  local directory="$AUTOSP_ROOT/build-asan"
  autosp_configure_build "$directory" "-DPython_EXECUTABLE=$AUTOSP_PY" -DAUTOSP_SANITIZE=ON -DAUTOSP_BUILD_TESTS=ON || return 1
  autosp_run_build "$directory" || return 1
  ctest --test-dir "$directory" --output-on-failure --parallel "$(autosp_jobs)" --label-exclude plain_only
}

cxx_tests() {
  local arguments=(--test-dir "$AUTOSP_BUILD" --output-on-failure --parallel "$(autosp_jobs)")
  ((quick)) && arguments+=(-L quick)
  [[ -n "$pattern" ]] && arguments+=(-R "$pattern")
  ctest "${arguments[@]}"
}

python_tests() {
  local arguments=(-q -ra --durations=5) status=0
  [[ -t 1 ]] && arguments+=(--color=yes)
  ((quick)) && arguments+=(-m "not slow")
  [[ -n "$pattern" ]] && arguments+=(-k "$pattern")
  "$AUTOSP_PY" -m pytest "${arguments[@]}" || status=$?
  # 5: no test was selected, which is right when a pattern names C++ tests.
  [[ "$status" == 5 && -n "$pattern" ]] && status=0
  return "$status"
}

if ((!quick)) && [[ -z "$pattern" ]]; then
  # The tools come with the pins; an environment that is used as it is may lack them.
  if [[ -z "${AUTOSP_PYTHON:-}" ]] || command -v clang-format >/dev/null; then
    part lint-format lint_format
  fi
  part lint-checks lint_checks
  if [[ -z "${AUTOSP_PYTHON:-}" ]] || command -v clang-tidy >/dev/null; then
    part lint-tidy lint_tidy
  fi
  part sanitizers sanitize
fi
part ctest cxx_tests
part pytest python_tests

failed=0
say "--- summary (logs in ${logs#"$AUTOSP_ROOT"/})"
for i in "${!part_names[@]}"; do
  printf '  %-12s %s\n' "${part_names[$i]}" "${part_results[$i]}"
  [[ "${part_results[$i]}" == FAILED* ]] && failed=1
done
# The closing lines of ctest and pytest once more, where they are looked for.
grep -E 'tests passed,|No tests were found' "$logs/ctest.log" | tail -n 1 || echo "ctest did not finish"
grep -E '(passed|failed|error|errors|skipped|deselected|no tests ran).* in [0-9.]+s' "$logs/pytest.log" | tail -n 1 || echo "pytest did not finish"
exit "$failed"
