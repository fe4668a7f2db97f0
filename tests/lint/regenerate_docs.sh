#!/usr/bin/env bash
# Writes the generated pages of docs/ with the given autosp-opt, or with --check says which of them are stale.
#   tests/lint/regenerate_docs.sh [--check] PATH_OF_AUTOSP_OPT
set -euo pipefail
check=0
if [[ "${1:-}" == "--check" ]]; then check=1; shift; fi
if [[ $# -ne 1 ]]; then
  echo "usage: tests/lint/regenerate_docs.sh [--check] PATH_OF_AUTOSP_OPT" >&2
  exit 2
fi
tool=$1
docs="$(cd "$(dirname "${BASH_SOURCE[0]}")/../../docs" && pwd)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
stale=0
for page in passes sharding-rules errors options; do
  "$tool" --docs="$page" > "$scratch/$page.md"
  if [[ $check -eq 0 ]]; then
    mv "$scratch/$page.md" "$docs/$page.md"
  elif ! diff -u "$docs/$page.md" "$scratch/$page.md"; then
    echo "docs/$page.md is stale: run tests/lint/regenerate_docs.sh $tool" >&2
    stale=1
  fi
done
if grep -n '|  |$' "$docs"/{passes,sharding-rules,errors,options}.md; then
  echo "a row without a description: a new rule function needs a line in src/tools/autosp_opt_docs.cpp" >&2
  stale=1
fi
exit $stale
