# Sourced by the integration tests: an authority of one's own in a temporary folder, cleaned up.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${MAYFLY_BUILD:-$root/build/dev}
export PATH=$build:$build/tests:$PATH
unset MAYFLY_DIR
work=$(mktemp -d "${TMPDIR:-/tmp}/mayfly-test.XXXXXX")
chmod 755 "$work"
# Ports of this test's own, a block of 32 that a lock holds for as long as the test and what it started live:
# below those that the kernel gives to connections, so that nobody comes between free_port and bind.
port_locks=${TMPDIR:-/tmp}/mayfly-test-ports.$(id -u)
mkdir -p "$port_locks"
for block in $(shuf -i 0-374); do
  exec {port_lock}>"$port_locks/$block"
  flock -n "$port_lock" && break
  exec {port_lock}>&-
done
: >"$work/ports" # as long as there are ports given out
a=$work/authority
daemon=
# However the test ends: its loads and racers first, then the daemon, then the folder.
clean() {
  local code=$? job
  trap - EXIT
  set +e
  for job in $(jobs -p); do
    [ "$job" = "$daemon" ] && continue
    pkill -KILL -P "$job" # a subshell's program
    kill -KILL "$job" 2>/dev/null
    wait "$job" 2>/dev/null
  done
  if [ -n "$daemon" ]; then
    kill -TERM "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
  fi
  [ $code = 0 ] || [ $code = 77 ] || { echo "--- last lines of the daemon"; tail -25 "$work/mayflyd.log" 2>/dev/null; }
  if mountpoint -q "$work/small" 2>/dev/null; then umount -l "$work/small"; fi
  if [ "${KEEP:-}" ]; then echo "kept $work"; else rm -rf "$work"; fi
  exit $code
}
trap clean EXIT
trap 'exit 130' INT TERM

fail() { echo "FAILED: $*" >&2; exit 1; }
pass() { echo "ok: $*"; }
skipped() { # why: this machine lacks something; CI has it, or it is a failure
  [ -z "${CI:-}" ] || fail "$*"
  echo "skipped: $*"
  exit 77
}
# In a pipe, instead of grep -q: that one leaves at the first match, the writer before it then dies of
# SIGPIPE when it still has something to say, and pipefail calls the match a failure.
has() { grep "$@" >/dev/null; }
free_port() { # each once
  local p n
  while n=$(stat -c %s "$work/ports") && [ "$n" -lt 32 ]; do
    printf . >>"$work/ports"
    p=$((20000 + block * 32 + n))
    (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; } # a stranger's
  done
  return 1
}
eventually() { # command...: until it succeeds, for as long as a busy machine may take
  local end=$((SECONDS + 60))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}
times() { # many few: as often as that; few where another build's run does many ($MAYFLY_FEW, tests/CMakeLists.txt)
  if [ "${MAYFLY_FEW:-}" ]; then echo "$2"; else echo "$1"; fi
}
init() { # [mayfly init options...]
  port=$(free_port)
  url=https://localhost:$port
  mayfly init --dir "$a" --trust-domain "${trust_domain:-test.example}" --listen "127.0.0.1:$port" "$@" >"$work/init.log" 2>&1 || { cat "$work/init.log" >&2; return 1; }
}
# Faults and the shifted clock are the daemon's alone, not the clients'.
with_faults=(env "MAYFLY_FAULT_FILE=$a/token/fault" "MAYFLY_CLOCK_OFFSET_FILE=$a/token/clock")
start() { # until ready
  "${with_faults[@]}" mayflyd --config "$a" 2>>"$work/mayflyd.log" &
  daemon=$!
  wait_ready
}
wait_ready() {
  for _ in $(seq 600); do
    mayfly status --dir "$a" >/dev/null 2>&1 && curl -sf --cacert "$a/ca/root.pem" "$url/readyz" >/dev/null 2>&1 && return 0
    kill -0 "$daemon" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}
stop() { # exit status of the daemon
  local code=0
  kill -TERM "$daemon" 2>/dev/null || true
  wait "$daemon" || code=$?
  daemon=
  return $code
}
start_expecting_exit() { # sets code; the daemon must end by itself
  code=0
  "${with_faults[@]}" timeout 60 mayflyd --config "$a" 2>"$work/refused.log" || code=$?
  cat "$work/refused.log" >>"$work/mayflyd.log"
  [ $code != 124 ] || fail "the daemon went on where it should refuse"
}
refuses() { # exit-status text command...: the command ends so, saying so
  local want=$1 text=$2 got=0 out
  shift 2
  out=$("$@" 2>&1) || got=$?
  [ "$got" = "$want" ] || fail "'$*' ended with $got, not $want: $out"
  grep -qi -- "$text" <<<"$out" || fail "'$*' did not say '$text' but: $out"
  pass "refused: $text"
}
entry() { mayfly entry create --dir "$a" --id "$@" --json >/dev/null; }
token() { mayfly token create --dir "$a" --id "$@" --json | jq -r .token; }
signer() { corridor_load info "$a/run/signer.sock" | jq ".$1"; } # log_size, issuing_signatures: as of now
fill() { # size file: load without pauses, certificates into the file, until the log has so many entries
  while [ "$(signer log_size)" -lt "$1" ]; do
    corridor_load run "$a/run/signer.sock" test.example 1 "$2" full >/dev/null || return 1
  done
}
published() { # until all is published that the signer has logged by now
  local size
  size=$(signer log_size) || fail "the signer does not answer"
  eventually reaches "$size" || fail "the published log has not come to $size: $(mayfly log checkpoint --dir "$a" --json)"
}
reaches() { [ "$(mayfly log checkpoint --dir "$a" --json | jq .size)" -ge "$1" ]; }
child() { pgrep -P "$daemon" -f -- "--role $1" || true; }
replaced() { [ -n "$(child "$1")" ] && [ "$(child "$1")" != "$2" ]; } # role pid: another runs in its place
crash() { # role: killed; until another serves in its place
  local old
  old=$(child "$1")
  kill -KILL "$old"
  eventually replaced "$1" "$old" || fail "no $1 after one was killed"
  wait_ready || fail "not ready after the $1 was killed"
}
fault() { # name action [skip]: for the running signer
  echo "$*" >"$a/token/.fault.new"
  chmod 666 "$a/token/.fault.new"
  mv "$a/token/.fault.new" "$a/token/fault"
}
try() { # folder of an identity: what came back through the proxy at $sport, before an echo
  rm -f "$work/tried"
  { echo hello; for _ in $(seq 600); do [ -e "$work/tried" ] && break; sleep 0.05; done; } |
    { timeout 60 openssl s_client -connect "127.0.0.1:$sport" -cert "$1/svid.pem" -key "$1/svid.key" \
      -cert_chain "$1/svid.pem" -quiet -no_ign_eof 2>/dev/null || true; } |
    { read -r line || true; touch "$work/tried"; echo "$line"; }
}
