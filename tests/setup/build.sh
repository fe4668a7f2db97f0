# The C++ build: configured once per profile, then always handed to ninja, which answers at once when nothing changed.

# Compiler processes at a time: one per core, but 2 GB of memory each (a torch header takes that).
autosp_jobs() {
  local cores memory
  cores="$(nproc)"
  memory="$(awk '/MemAvailable/ {print int($2 / 2000000)}' /proc/meminfo 2>/dev/null)"
  [[ -n "$memory" ]] && ((memory < cores)) && cores="$memory"
  echo "${AUTOSP_JOBS:-$((cores > 0 ? cores : 1))}"
}

# autosp_configure_build DIRECTORY ARGUMENT...: runs CMake, quietly unless it fails or the arguments are new.
autosp_configure_build() {
  local directory="$1" stamp generator="Unix Makefiles"
  shift
  command -v ninja >/dev/null && generator=Ninja
  stamp="$generator $*"
  [[ -f "$directory/CMakeCache.txt" && "$(cat "$directory/.autosp-configured" 2>/dev/null)" == "$stamp" ]] && return
  say "configuring ${directory#"$AUTOSP_ROOT"/}"
  mkdir -p "$directory"
  if ! cmake -S "$AUTOSP_ROOT" -B "$directory" -G "$generator" -DCMAKE_BUILD_TYPE=Release "$@" >"$directory/configure.log" 2>&1; then
    rm -f "$directory/.autosp-configured"
    cat "$directory/configure.log" >&2
    die "cmake could not configure the build: its message is above"
  fi
  echo "$stamp" >"$directory/.autosp-configured"
}

# autosp_run_build DIRECTORY [TARGET...]
autosp_run_build() {
  local directory="$1" targets=()
  shift
  (($#)) && targets=(--target "$@")
  NINJA_STATUS='[%f/%t %es] ' cmake --build "$directory" --parallel "$(autosp_jobs)" "${targets[@]}"
}

autosp_ensure_build() {
  local profile="$1" arguments=("-DPython_EXECUTABLE=$AUTOSP_PY") targets=()
  "${CXX:-g++}" -std=c++20 -fsyntax-only -x c++ - <<<'#include <concepts>' 2>/dev/null ||
    die "${CXX:-g++} does not compile C++20: install g++ 11 or newer (apt-get install g++) and run this again"
  if [[ "$profile" == train ]]; then
    # The passes, and the torch ops: fused exchanges on CPUs, and the meter of peak memory. A build directory made for the
    # tests serves as it is.
    targets=(_core autosp_torch)
    arguments+=(-DAUTOSP_BUILD_TESTS=OFF -DAUTOSP_WITH_TORCH=ON)
    grep -q AUTOSP_WITH_TORCH=ON "$AUTOSP_BUILD/.autosp-configured" 2>/dev/null ||
      autosp_configure_build "$AUTOSP_BUILD" "${arguments[@]}"
  else
    autosp_configure_build "$AUTOSP_BUILD" "${arguments[@]}" -DAUTOSP_BUILD_TESTS=ON -DAUTOSP_WITH_TORCH=ON
  fi
  autosp_run_build "$AUTOSP_BUILD" "${targets[@]}" ||
    die "the C++ build failed: the compiler's message is above"
}
