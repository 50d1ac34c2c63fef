#!/bin/bash
# The Workload API and SDS, against Debian's python3-grpcio with stubs made from our own .proto files: every RPC, every error,
# rotation, and bad bytes. The provider behind it is made up (workload_fake.c).
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3 # Debian's, that has its packages; not whatever comes first in PATH
$python -c 'import grpc_tools, grpc' 2>/dev/null || skipped "python3-grpcio or python3-grpc-tools is missing"
mkdir "$work/stubs"; : >"$work/fake.out"
$python -m grpc_tools.protoc -I "$root/workload" -I /usr/include --python_out="$work/stubs" \
  --grpc_python_out="$work/stubs" workload.proto sds.proto
socket=$work/api/agent.sock
workload_fake "$socket" >"$work/fake.out" 2>"$work/fake.log" &
fake=$!
eventually has '^ready' "$work/fake.out" || { cat "$work/fake.log"; fail "the fake does not start"; }
[ "$(stat -c %a "$socket")" = 666 ] || fail "the socket's mode is $(stat -c %a "$socket")"

# A second one finds the socket taken; one after a crash does not.
code=0; workload_fake "$socket" >/dev/null 2>"$work/second.log" || code=$?
[ $code = 1 ] && has socket-in-use "$work/second.log" || fail "the socket was taken from who answers on it"

$python "$here/workload_api.py" --stubs "$work/stubs" --socket "$socket" --fake $fake --fake-log "$work/fake.out" ||
  { tail -5 "$work/fake.log"; fail "workload_api.py"; }
kill -TERM $fake
code=0; wait $fake || code=$?
[ $code = 0 ] && has '^ended' "$work/fake.out" || { tail -5 "$work/fake.log"; fail "the fake ended with $code"; }

workload_fake "$socket" >"$work/fake.out" 2>"$work/fake.log" &
fake=$!
eventually has '^ready' "$work/fake.out" || { cat "$work/fake.log"; fail "the stale socket is in the way"; }
pass "the Workload API and SDS as the standard has them"
