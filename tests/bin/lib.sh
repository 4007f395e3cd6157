# shellcheck shell=bash
# What every script of this folder shares: where things are, and steps that show what they do.
#
# What must hold:
#   * a step's output goes to a log file; a person sees its title, its time and a sign of life;
#   * a step that fails ends the script, after its last lines, the log's path and what to do next
#     (with keep_going=yes it is counted, and the script ends as failed);
#   * Ctrl-C ends the step with everything that it started, then runs what `at_exit` was told.
# Steps are called plainly, never as `step ... || ...`: bash switches `set -e` off inside such a call.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
script=$(basename "$0")
# How a person calls it, from the top of the checkout.
self=tests/bin/$script
home=${HOME:-/root}
# Both toolchains install themselves where a fresh root shell does not look.
PATH="$PATH:$home/.cargo/bin:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"
export PATH HOME="$home" GOTOOLCHAIN=local GOFLAGS=

# Built once a machine, outside the checkout, so that a second clone starts fast.
TOOLS=${KVS_TOOLS:-${XDG_CACHE_HOME:-$home/.cache}/aryavarth-kvs/tools}
export TOOLS
# shellcheck disable=SC2034 # read by the scripts that source this file
target=$(uname -m)-unknown-linux-gnu
# shellcheck disable=SC2034
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# A cluster's name is taken once a machine, whatever checkout it was started from; so its lock is the machine's.
# shellcheck disable=SC2034
up_lock=/run/lock/aryavarth-kvs-up
# shellcheck disable=SC2034
test_lock=/run/lock/aryavarth-kvs-test

logs=.cluster/logs/$script
mkdir -p "$logs"
# Logs are read by people and by tests/bin/test.
export CARGO_TERM_COLOR=never

keep_going=no
passed=0
failed=0
# What to do when the next step fails; the script's very last line.
hint=""
final=""
running=""
steps=0
exit_commands=()

# Runs commands when the script ends, however it ends; the last one told is the first one run.
at_exit() { exit_commands=("$1" "${exit_commands[@]}"); }

finish() {
  local status=$? outcome=FAILED
  trap '' INT TERM HUP
  set +e
  if [ -n "$running" ]; then end_group "$running"; wait "$running" 2>/dev/null; fi
  for command in "${exit_commands[@]}"; do eval "$command"; done
  [ $status != 0 ] || outcome="all well"
  [ -n "${KVS_NESTED:-}" ] || printf '%s: %s, %s\n' "$script" "$outcome" "$(clock $SECONDS)"
  [ -z "$final" ] || say "$final"
  exit $status
}
interrupted() {
  [ ! -t 1 ] || printf '\r\033[K'
  [ -n "${KVS_NESTED:-}" ] || echo "interrupted; what is finished is kept: run $self again, or make down" >&2
  exit 130
}
trap finish EXIT
trap interrupted INT TERM HUP

# Ends a process group: politely, then for good after 15 s.
end_group() {
  kill -TERM -- "-$1" 2>/dev/null || return 0
  for _ in $(seq 150); do
    kill -0 -- "-$1" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$1" 2>/dev/null
}

say() { printf '%s\n' "$*"; }
stop() { # message, then what to do
  printf '\n%s: %s\n' "$script" "$1" >&2
  if [ -n "${2:-}" ]; then printf '\n    %s\n\n' "$2" >&2; fi
  exit 1
}
need_root() { # why
  [ "$(id -u)" = 0 ] || stop "$1; run" "sudo --preserve-env=PATH,HOME $self"
}
clock() { if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi; }

# One run of a script at a time (its run lock), one user of a shared folder at a time (lock, unlock). Both go with the
# script; no step inherits them, else a daemon that a step leaves behind would hold them.
run_lock() { # file
  mkdir -p "$(dirname "$1")"
  exec 8>"$1"
  wait_for_lock 8 "$1"
  rm -f "$logs"/*.log
}
lock() { # file
  mkdir -p "$(dirname "$1")"
  exec 9>"$1"
  wait_for_lock 9 "$1"
}
unlock() { exec 9>&-; }
wait_for_lock() { # descriptor, file
  if flock --nonblock "$1"; then return; fi
  say "waiting for another run to finish (it holds $2)"
  flock "$1"
}

# Runs another script of this folder as a part of this one.
nested() {
  local status=0
  set -m
  KVS_NESTED=1 "$@" </dev/null 8>&- 9>&- &
  running=$!
  set +m
  wait "$running" || status=$?
  running=""
  return $status
}

# step TITLE COMMAND...: runs the command (a function will do) and shows how it goes.
step() {
  local title=$1 log began line text width beat=10 status=0 marks="|/-\\" mark=0
  shift
  steps=$((steps + 1))
  log=$logs/$(printf '%02d' $steps)-$(tr -cs 'a-zA-Z0-9.' - <<<"$title" | sed 's/-*$//').log
  began=$SECONDS
  width=$(tput cols 2>/dev/null) || width=80
  [ -t 1 ] || printf '%s ...\n' "$title"
  # Job control for this one launch gives the step a process group of its own, which one signal ends with all in it.
  set -m
  "$@" >"$log" 2>&1 </dev/null 8>&- 9>&- &
  running=$!
  set +m
  while kill -0 "$running" 2>/dev/null; do
    if [ -t 1 ]; then
      mark=$(((mark + 1) % 4))
      line=$(tail -c 400 "$log" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | tr -d '\033\t') || true
      text="${marks:$mark:1} $title ($(clock $((SECONDS - began)))) $line"
      # A line that wraps could not be taken back.
      printf '\r\033[K%s' "${text:0:$((width - 1))}"
    elif [ $((SECONDS - began)) -ge $beat ]; then
      beat=$((beat + 10))
      line=$(tail -c 400 "$log" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | cut -c 1-120) || true
      printf '    %s: %s\n' "$(clock $((SECONDS - began)))" "$line"
    fi
    sleep 0.2
  done
  wait "$running" || status=$?
  running=""
  [ ! -t 1 ] || printf '\r\033[K'
  if [ $status = 0 ]; then
    passed=$((passed + 1))
    printf '  ok  %s (%s)\n' "$title" "$(clock $((SECONDS - began)))"
    hint=""
    return 0
  fi
  failed=$((failed + 1))
  {
    printf 'FAIL  %s (%s, exit status %s)\n' "$title" "$(clock $((SECONDS - began)))" $status
    # A test that failed in the middle of a long run would not be among the last lines.
    grep -anE '^(test|story) .*FAILED$|^FAIL |panicked at' "$log" | head -n 20 | cut -c 1-600 | sed 's/^/      line /' || true
    tail -n 30 "$log" | sed 's/^/      /'
    printf '      the whole log: %s\n' "$log"
    printf '      next: %s\n' "${hint:-repair what the log names, then run $self again; what is done is kept}"
  } >&2
  hint=""
  [ "$keep_going" = yes ] || exit 1
}

# Ends the script as failed if a step failed under keep_going.
settle() { [ "$failed" = 0 ] || exit 1; }
