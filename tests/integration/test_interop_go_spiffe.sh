#!/bin/bash
# The Workload API before a client that this project did not write, go-spiffe v2 (tests/interop/go-spiffe):
# all that it can ask for, and its own example programs, unmodified. Without a Go toolchain, or the registry to
# have it from, it is skipped, but not in CI.
. "$(dirname "$0")/lib.sh"
. "$here/workload_users.sh"
command -v go >/dev/null || skipped "no Go to build the workloads with"
cd "$root/tests/interop/go-spiffe"
go_build() { # options package
  go build -ldflags='-s -w' "$@" >"$work/go.log" 2>&1 || skipped "the workloads cannot be built here: $(tail -3 "$work/go.log")"
}
examples=github.com/spiffe/go-spiffe/v2/examples
go_build -o "$work/workload" .
for example in tls http jwt grpc; do go_build -o "$work/examples/$example/" $examples/spiffe-$example/...; done
go_build -o "$work/examples/watcher" $examples/spiffe-watcher
go mod verify >/dev/null || fail "these are not go-spiffe's own sources"

agent_of_two

# --- whatever there is to ask for ------------------------------------------------------------------------
as server "$work/workload" -audience "$td/server" >"$work/said" || fail "go-spiffe as the server"
expect_all "$td/server"
as client "$work/workload" -audience "$td/server" >"$work/said" || fail "go-spiffe as the client"
expect_all "$td/client"
jq -e '.refused == ["PermissionDenied", "InvalidArgument", "InvalidArgument"]' "$work/said" >/dev/null || fail "the statuses: $(cat "$work/said")"
nobody_gets_anything "$work/workload"
pass "X.509 and JWT: SVIDs, bundles, validation: $(jq -c 'del(.token)' "$work/said")"
as client "$work/workload" -rotated >"$work/said" 2>"$work/err" || fail "no rotation: $(cat "$work/err")"
jq -e '.rotated and .rotated != .serials[0]' "$work/said" >/dev/null || fail "rotated: $(cat "$work/said")"
pass "the stream brings the next SVID"

# --- its own examples --------------------------------------------------------------------------------------
# They name fixed ports and /tmp/agent.sock, so they have a network and a /tmp of their own.
unshare --net --mount "$here/go_examples.sh" "$work" "$agent_socket" "$server_user" "$client_user" || fail "go-spiffe's examples"
agent_stop
