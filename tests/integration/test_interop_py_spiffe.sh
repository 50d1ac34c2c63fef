#!/bin/bash
# The Workload API before py-spiffe (tests/interop/py-spiffe), which this project did not write: all that it can
# ask for, and mTLS between two workloads. Without pip's registry, or venv, it is skipped, but not in CI.
. "$(dirname "$0")/lib.sh"
. "$here/workload_users.sh"
/usr/bin/python3 -m venv "$work/venv" >"$work/venv.log" 2>&1 &&
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$root/tests/interop/py-spiffe/requirements.txt" >>"$work/venv.log" 2>&1 ||
  skipped "py-spiffe cannot be had here: $(tail -3 "$work/venv.log")"
export PYTHONDONTWRITEBYTECODE=1
cp "$root/tests/interop/py-spiffe/workload.py" "$work"
workload=("$work/venv/bin/python" "$work/workload.py")

agent_of_two

# --- whatever there is to ask for ------------------------------------------------------------------------
as server "${workload[@]}" ask "$td/server" >"$work/said" || fail "py-spiffe as the server"
expect_all "$td/server"
as client "${workload[@]}" ask "$td/server" >"$work/said" || fail "py-spiffe as the client"
expect_all "$td/client"
nobody_gets_anything "${workload[@]}" ask "$td/server"
pass "X.509 and JWT: SVIDs, bundles, validation: $(cat "$work/said")"
as client "${workload[@]}" ask "$td/server" rotated >"$work/said" 2>"$work/err" || fail "no rotation: $(cat "$work/err")"
jq -e '.rotated and .rotated != .serials[0]' "$work/said" >/dev/null || fail "rotated: $(cat "$work/said")"
pass "the stream brings the next SVID"

# --- mTLS ----------------------------------------------------------------------------------------------------
port=$(free_port)
as server "${workload[@]}" serve "$port" "$td/client" >"$work/server.log" 2>&1 &
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
eventually listens || fail "the server: $(cat "$work/server.log")"
[ "$(as client "${workload[@]}" connect "$port" "$td/server")" = "you said hello" ] || fail "mTLS: $(cat "$work/server.log")"
! as server "${workload[@]}" connect "$port" "$td/server" >"$work/out" 2>&1 || fail "the server took somebody else: $(cat "$work/out")"
! as client "${workload[@]}" connect "$port" "$td/another" >"$work/out" 2>&1 || fail "the client took somebody else: $(cat "$work/out")"
[ "$(as client "${workload[@]}" connect "$port" "$td/server")" = "you said hello" ] || fail "mTLS again: $(cat "$work/server.log")"
pass "mTLS between two workloads, and with nobody else"
agent_stop
