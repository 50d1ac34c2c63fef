#!/bin/bash
# The agent's keys in memory that systemd keeps: killed, it comes back without a join token, as long as its SVID or its
# session lives. And the session's end: evidence is shown again.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
host=spiffe://test.example/host/one web=spiffe://test.example/web
mkdir "$work/out"
init
sed -i 's/^session:.*//' "$a/mayfly.yaml"
grep -q '^session' "$a/mayfly.yaml" || echo 'session: {lifetime: 50}' >>"$a/mayfly.yaml"
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 12
entry "$web" --parent "$host" --selector "files:dir:$work/out/web" --ttl 10
agent_config "$host" "files: [{id: $web, dir: $work/out/web}]"
agent_token "$host"
began=$SECONDS
$python "$here/fake_systemd.py" "$work/run/notify" "$work/agent.log" mayfly-agent serve --config "$work/agent.yaml" >"$work/systemd.out" 2>&1 &
systemd=$!
until_true "READY=1" grep -q '^READY=1' "$work/systemd.out"
until_true "ready" ready
until_true "kept keys in the store" grep -q '^FDSTORE=1 FDNAME=mayfly-keep 1' "$work/systemd.out"
rm "$work/token"

kill -USR1 $systemd
until_true "the kept SVID" grep -q 'own SVID was kept' "$work/agent.log"
until_true "ready after kill -9" ready
[ "$(grep -c '^pid' "$work/systemd.out")" = 2 ] || fail "not started twice: $(cat "$work/systemd.out")"
pass "killed, and back with what systemd kept"

# Its SVID expires while it is stopped; the session lives on.
pid=$(awk '/^pid/ { p = $2 } END { print p }' "$work/systemd.out")
kill -STOP "$pid"
sleep 13
kill -USR1 $systemd
until_true "the kept SVID is over" grep -q 'serves no more' "$work/agent.log"
until_true "ready by its session" ready
pass "the session's authorization outlives the SVID"

# Beyond the session's fifty seconds: the agent proves itself by its SVID, and vouches for the workload again.
sleep $((began + 55 > SECONDS ? began + 55 - SECONDS : 0))
renewals() { metric 'mayfly_agent_renewals_total{outcome="ok"}'; }
before=$(renewals)
more() { [ "$(renewals)" -ge $((before + 4)) ]; }
until_true "renewals beyond the session" more
until_true "ready beyond the session" ready
mayfly log search -d "$a" --id "$web" --attestor agent --json >"$work/vouched" || fail "log search: $(cat "$work/vouched")"
jq -e '.entries | length > 1' "$work/vouched" >/dev/null || fail "not vouched for: $(cut -c1-300 "$work/vouched")"
pass "authorizations that lapse are renewed by evidence"

# Away for longer than SVID and session: said loudly, and a new token is taken when it comes.
pid=$(awk '/^pid/ { p = $2 } END { print p }' "$work/systemd.out")
kill -STOP "$pid"
sleep 66
kill -CONT "$pid"
until_true "it says what is needed" grep -q 'mayfly token create --id' "$work/agent.log"
not_ready || fail "ready without anything to prove itself with"
(umask 077; token "$host" >"$work/token.new"; mv "$work/token.new" "$work/token")
until_true "ready by the new token" ready
kill -TERM $systemd
wait $systemd || fail "the end"
pass "cut off for too long: a new join token, without a restart"
