# What the user sees: one line per step, one sentence per failure, a sign of life during long steps.

say() { printf 'autosp: %s\n' "$*"; }

# die SENTENCE: what is wrong and what to do.
die() {
  printf 'autosp: %s\n' "$*" >&2
  exit 1
}

# with_heartbeat TEXT DIRECTORY COMMAND...: runs the command; where its own progress bar cannot be seen (no terminal), a
# line every 10 seconds says how long it has run and how large DIRECTORY has grown.
with_heartbeat() {
  local text="$1" directory="$2" status=0 ticker
  shift 2
  if [[ -t 1 ]]; then
    "$@"
    return
  fi
  (
    seconds=0
    while sleep 10; do
      seconds=$((seconds + 10))
      size="$(du -sm "$directory" 2>/dev/null | cut -f1)"
      say "$text: ${seconds} s, ${size:-0} MB"
    done
  ) &
  ticker=$!
  "$@" || status=$?
  kill "$ticker" 2>/dev/null
  wait "$ticker" 2>/dev/null
  return "$status"
}
