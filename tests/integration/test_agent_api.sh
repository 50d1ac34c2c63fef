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

for name in api db; do mayfly entry delete --dir "$a" spiffe://test.example/$name --json >/dev/null; done
for name in web web/two; do entry spiffe://test.example/$name --parent "$host" --selector "unix:uid:$me" --ttl 10; done
entry spiffe://test.example/other --parent "$host" --selector unix:uid:65533 --ttl 10
listed() { [ "$(metric mayfly_agent_entries)" = 3 ]; }
until_true "the other entries" listed
$python "$here/sds_client.py" --stubs "$work/stubs" --socket "$agent_socket" --id spiffe://test.example/web ||
  { tail -5 "$work/agent.log"; fail "sds_client.py"; }
pass "SDS as Envoy asks for it"
agent_stop
