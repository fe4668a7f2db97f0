# The virtual environment: created when missing, adopted when its packages satisfy the pins, stamped with their hash.

AUTOSP_DEFAULT_TORCH="$(sed -n 's/^torch==//p' "$AUTOSP_ROOT/python/requirements.txt")"
AUTOSP_TORCH_PIN="${AUTOSP_TORCH:-$AUTOSP_DEFAULT_TORCH}"

# Sets AUTOSP_BASE_PYTHON: the interpreter that makes the environment (empty: none found) and AUTOSP_VENV.
autosp_choose_python() {
  local candidate
  AUTOSP_VENV="$AUTOSP_ROOT/.venv"
  [[ "$AUTOSP_TORCH_PIN" == "$AUTOSP_DEFAULT_TORCH" ]] || AUTOSP_VENV="$AUTOSP_ROOT/.venv-$AUTOSP_TORCH_PIN"
  AUTOSP_BASE_PYTHON=""
  if [[ -n "${AUTOSP_PYTHON:-}" ]]; then
    AUTOSP_BASE_PYTHON="$(command -v "$AUTOSP_PYTHON")" || die "AUTOSP_PYTHON=$AUTOSP_PYTHON is not a program: give the path of a Python >= 3.10 that has torch"
    [[ "$AUTOSP_BASE_PYTHON" == /* ]] || AUTOSP_BASE_PYTHON="$PWD/$AUTOSP_BASE_PYTHON"
    return
  fi
  for candidate in "$AUTOSP_VENV/bin/python" python3 python3.12 python3.11 python3.13; do
    # Not all wheels of the pins exist for a newer Python; shims of version managers may exist and not run.
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      AUTOSP_BASE_PYTHON="$candidate"
      return
    fi
  done
}

# The pins of profile $1, one per line, without comments.
_pins() {
  local files=("$AUTOSP_ROOT/python/requirements.txt")
  [[ "$1" == test ]] && files+=("$AUTOSP_ROOT/python/requirements-test.txt")
  sed -E -e 's/#.*//' -e '/^[[:space:]]*$/d' -e "s/^torch==.*/torch==$AUTOSP_TORCH_PIN/" "${files[@]}"
}

# Prints the pins that the interpreter $1 does not satisfy (pins on standard input).
_unsatisfied() {
  "$1" -c '
import importlib.metadata as metadata, sys
for pin in sys.stdin.read().split():
    name, version = pin.split("==")
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = ""
    if found.split("+")[0] != version:
        print(pin)
'
}

autosp_ensure_python() {
  if [[ -n "${AUTOSP_PYTHON:-}" ]]; then
    AUTOSP_PY="$AUTOSP_BASE_PYTHON"
    "$AUTOSP_PY" -c 'import torch' 2>/dev/null || die "$AUTOSP_PY has no torch: install it there, or unset AUTOSP_PYTHON"
    # The entry point must be found without writing into an environment that is not ours.
    "$AUTOSP_PY" "$AUTOSP_ROOT/tests/setup/link_package.py" --dist-info-in "$AUTOSP_BUILD/site"
    export PYTHONPATH="$AUTOSP_ROOT/python:$AUTOSP_BUILD/site${PYTHONPATH:+:$PYTHONPATH}"
    return
  fi
  local profile="$1" pins stamp missing
  AUTOSP_PY="$AUTOSP_VENV/bin/python"
  export PATH="$AUTOSP_VENV/bin:$PATH" VIRTUAL_ENV="$AUTOSP_VENV"
  pins="$(_pins "$profile")"
  stamp="$(cat - "$AUTOSP_ROOT/python/pyproject.toml" "$AUTOSP_ROOT/tests/setup/link_package.py" <<<"$pins" | sha256sum)"
  [[ -x "$AUTOSP_PY" && "$(cat "$AUTOSP_VENV/.autosp-$profile" 2>/dev/null)" == "$stamp" ]] && return

  if ! "$AUTOSP_PY" -m pip --version >/dev/null 2>&1; then
    say "creating ${AUTOSP_VENV#"$AUTOSP_ROOT"/} with $("$AUTOSP_BASE_PYTHON" --version)"
    _check_disk
    "$AUTOSP_BASE_PYTHON" -m venv --clear "$AUTOSP_VENV" ||
      die "could not create $AUTOSP_VENV: install python3-venv, check that the directory can be written, and run this again"
  fi
  missing="$(_unsatisfied "$AUTOSP_PY" <<<"$pins")"
  if [[ -n "$missing" ]]; then
    grep -q '^torch==' <<<"$missing" && _check_disk
    say "installing Python packages into ${AUTOSP_VENV#"$AUTOSP_ROOT"/}: $(tr '\n' ' ' <<<"$missing")"
    # All pins, not only the missing: the resolver must see what else has to hold.
    echo "$pins" >"$AUTOSP_VENV/autosp-pins.txt"
    with_heartbeat "pip" "$AUTOSP_VENV" _pip_install "$AUTOSP_VENV/autosp-pins.txt" || _explain_pip_failure
  fi
  "$AUTOSP_PY" "$AUTOSP_ROOT/tests/setup/link_package.py" || die "could not register the package in $AUTOSP_VENV"
  echo "$stamp" >"$AUTOSP_VENV/.autosp-$profile"
}

_pip_install() {
  local command=("$AUTOSP_PY" -m pip install --disable-pip-version-check --retries 2 -r "$1")
  if [[ -t 1 ]]; then
    "${command[@]}"
  else
    # What was there already is no news.
    "${command[@]}" | grep --line-buffered -v '^Requirement already satisfied'
    return "${PIPESTATUS[0]}"
  fi
}

_check_disk() {
  local free_mb
  free_mb="$(df -Pm "$AUTOSP_ROOT" | awk 'NR == 2 {print $4}')"
  ((free_mb >= AUTOSP_REQUIRED_MB)) ||
    die "too little disk space: $free_mb MB free on the file system of $AUTOSP_ROOT, $AUTOSP_REQUIRED_MB MB needed; free some and run this again"
}

_explain_pip_failure() {
  # The index answers for a package that exists on every one of them: then it was not the network.
  if ! "$AUTOSP_PY" -m pip index versions --disable-pip-version-check --retries 0 --timeout 15 torch >/dev/null 2>&1; then
    die "the Python package index cannot be reached: check the network, or set PIP_INDEX_URL or HTTPS_PROXY, and run this again"
  fi
  die "pip could not install the pinned packages: its message is above; set them right and run this again (what is downloaded stays)"
}
