# Debian packages: only what is missing, only as root.

# Whether the C++ compiler finds a header.
_has_header() { echo "#include <$1>" | "${CXX:-g++}" -E -x c++ - >/dev/null 2>&1; }

# Prints the Debian packages that profile $1 lacks.
_missing_packages() {
  local profile="$1" missing=()
  command -v "${CXX:-g++}" >/dev/null || missing+=(g++)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ccache >/dev/null || missing+=(ccache)
  if [[ "$AUTOSP_BASE_PYTHON" == "" ]]; then
    missing+=(python3 python3-venv python3-dev)
  else
    "$AUTOSP_BASE_PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$AUTOSP_BASE_PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || missing+=(python3-dev)
  fi
  if ((${#missing[@]})) && [[ " ${missing[*]} " == *" g++ "* ]]; then
    # Without a compiler headers cannot be looked for; apt skips those that are there.
    missing+=(libfmt-dev)
    [[ "$profile" == test ]] && missing+=(libgtest-dev libgmock-dev)
  else
    _has_header fmt/format.h || missing+=(libfmt-dev)
    if [[ "$profile" == test ]]; then
      _has_header gtest/gtest.h || missing+=(libgtest-dev)
      _has_header gmock/gmock.h || missing+=(libgmock-dev)
    fi
  fi
  echo "${missing[*]}"
}

autosp_ensure_system_packages() {
  local profile="$1" missing
  missing="$(_missing_packages "$profile")"
  if [[ -n "${AUTOSP_PYTHON:-}" ]]; then
    # Nothing is installed there. ccache is a comfort, and fmt's headers come with the torch wheel.
    missing="$(tr ' ' '\n' <<<"$missing" | grep -vxE 'ccache|libfmt-dev|python3-venv' | tr '\n' ' ' | sed 's/ *$//')"
  fi
  [[ -z "$missing" ]] && return
  if [[ -n "${AUTOSP_PYTHON:-}" ]]; then
    die "AUTOSP_PYTHON is set, so nothing is installed, and these are missing: $missing; install them or unset AUTOSP_PYTHON"
  elif ! command -v apt-get >/dev/null; then
    die "these are missing (names of Debian packages): $missing; install them with this system's package manager and run this again"
  elif [[ "$(id -u)" != 0 ]]; then
    die "these packages are missing: $missing; run 'sudo apt-get install $missing', then this again (or run this as root)"
  fi
  say "installing Debian packages: $missing"
  local log
  log="$(mktemp)"
  # shellcheck disable=SC2086
  if ! with_heartbeat "apt-get" /var/cache/apt/archives _apt_install "$log" $missing; then
    tail -n 5 "$log" >&2
    if grep -qE 'Temporary failure resolving|Could not (connect|resolve)|Failed to fetch|Unable to (connect|locate package)' "$log"; then
      die "apt-get could not download $missing: check the network and /etc/apt/sources.list, then run this again"
    fi
    die "apt-get could not install $missing: its message is above; install them by hand, then run this again"
  fi
  rm -f "$log"
  hash -r
  [[ -n "$AUTOSP_BASE_PYTHON" ]] || autosp_choose_python
  [[ -n "$AUTOSP_BASE_PYTHON" ]] ||
    die "this system's python3 is older than 3.11, which the pinned torch needs: install Python 3.11 to 3.13 and run this again"
}

# MPI is optional: without it its communicator is neither built nor tested, and autosp.build_info() says so.
autosp_try_mpi() {
  command -v mpicxx >/dev/null && command -v mpirun >/dev/null && return
  [[ -z "${AUTOSP_PYTHON:-}" && "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 0
  say "installing Debian packages: libopenmpi-dev openmpi-bin"
  local log
  log="$(mktemp)"
  with_heartbeat "apt-get" /var/cache/apt/archives _apt_install "$log" libopenmpi-dev openmpi-bin ||
    say "no MPI: apt-get could not install it ($(tail -n 1 "$log")); going on without"
  rm -f "$log"
  hash -r
}

_apt_install() {
  local log="$1"
  shift
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 && return
  # Package lists may be missing or old.
  apt-get update >>"$log" 2>&1
  apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1
}
