#!/bin/bash
# The Workload API and SDS of the real agent, with SVIDs of a real authority: the same client that holds workload_fake to
# the standard, then one that does as Envoy does while SVIDs rotate every few seconds.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
stubs
host=spiffe://test.example/host me=$(id -u)
init || fail "no authority"
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 60
# Two that do not rotate while they are compared with one another.
for name in api db; do entry spiffe://test.example/$name --parent "$host" --selector "unix:uid:$me" --dns $name.test.example --ttl 900; done
agent_config "$host"
agent_token "$host"
agent_start
until_true "the agent becomes ready" ready

$python "$here/workload_api.py" --stubs "$work/stubs" --socket "$agent_socket" || { tail -5 "$work/agent.log"; fail "workload_api.py"; }
ready || fail "not ready after bad bytes: $(health ready)"
pass "the standard, and bad bytes"

# An entry that is added takes nobody's default away, whatever its name.
t=spiffe://test.example
given() { awk '/^svid/ { print $3 }' "$work/stream.out" | tail -1 | grep -qxF "$1"; }
stream_start
until_true "both, the older one first" given "$t/api,$t/db"
entry $t/aaa --parent "$host" --selector "unix:uid:$me" --ttl 900
until_true "the third behind them" given "$t/api,$t/db,$t/aaa"
stop
start || fail "the authority does not start again"
mayfly entry update --dir "$a" $t/api --ttl 890 --json >/dev/null
entry $t/0 --parent "$host" --selector "unix:uid:$me" --ttl 900
until_true "the same order, and the next behind it" given "$t/api,$t/db,$t/aaa,$t/0"
awk -v first="$t/api," '/^svid/ && index($3, first) != 1 { exit 1 }' "$work/stream.out" ||
  { cat "$work/stream.out"; fail "the default moved"; }
stream_stop
pass "oldest first"

# Hints come with the SVIDs, a changed one without waiting for the renewal; of two alike ones the older entry's.
hints() { # each SVID's, then each JWT-SVID's
  $python - "$work/stubs" "$agent_socket" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import grpc, workload_pb2 as wl, workload_pb2_grpc
meta = (("workload.spiffe.io", "true"),)
with grpc.insecure_channel("unix://" + sys.argv[2]) as channel:
    stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
    for answer in (next(stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=meta, timeout=60)),
                   stub.FetchJWTSVID(wl.JWTSVIDRequest(audience=["a"]), metadata=meta, timeout=60)):
        print(",".join(s.spiffe_id.rsplit("/", 1)[1] + "=" + s.hint for s in answer.svids))
P
}
change() { mayfly entry update --dir "$a" "$@" --json; }
hinted() { [ "$(hints)" = "$1"$'\n'"$1" ]; }
until_true "no hints" hinted api=,db=,aaa=,0=
change $t/aaa --hint internal | jq -e '.hint == "internal"' >/dev/null || fail "--hint"
change $t/0 --hint internal >/dev/null
change $t/db --hint 'for all' >/dev/null
until_true "hints" hinted "api=,db=for all,aaa=internal,0="
change $t/aaa --hint '' >/dev/null
change $t/api --ttl 880 | jq -e '.hint == ""' >/dev/null || fail "a hint out of nothing"
until_true "the other one's hint" hinted "api=,db=for all,aaa=,0=internal"
mayfly entry show --dir "$a" $t/db | grep -q '^hint  *for all$' || fail "entry show"
change $t/db --ttl 880 | jq -e '.hint == "for all"' >/dev/null || fail "an update that does not name it took the hint"
refuses 4 "printable ASCII" mayfly entry update --dir "$a" $t/db --hint "$(printf '%065d' 0)"
pass "hints"

for name in api db aaa 0; do mayfly entry delete --dir "$a" spiffe://test.example/$name --json >/dev/null; done
for name in web web/two; do entry spiffe://test.example/$name --parent "$host" --selector "unix:uid:$me" --ttl 10; done
entry spiffe://test.example/other --parent "$host" --selector unix:uid:65533 --ttl 10
listed() { [ "$(metric mayfly_agent_entries)" = 3 ]; }
until_true "the other entries" listed
$python "$here/sds_client.py" --stubs "$work/stubs" --socket "$agent_socket" --id spiffe://test.example/web ||
  { tail -5 "$work/agent.log"; fail "sds_client.py"; }
pass "SDS as Envoy asks for it"
agent_stop
