#!/bin/bash
# SIGHUP takes along what is valid: with the authority away the same SVIDs are served on at once, and with it there
# nothing is issued twice; the list of entries is as new as ever.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
stubs
in=spiffe://test.example me=$(id -u)
host=$in/host web=$in/web files=$in/files

init
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 3600
entry "$web" --parent "$host" --selector "unix:uid:$me" --ttl 3600
entry "$files" --parent "$host" --selector "files:dir:$work/set" --ttl 3600
agent_config "$host" "files: [{id: $files, dir: $work/set}]"
agent_token "$host"
agent_start
until_true "the agent becomes ready" ready
stream_start
until_true "an SVID" seen svid 1
stream_stop
first=$(awk '/^svid/ { print $4; exit }' "$work/stream.out")
serial=$(openssl x509 -in "$work/set/svid.pem" -noout -serial)
rm "$work/token"

times=0
reload() { # and what a workload is told then
  times=$((times + 1))
  kill -HUP "$agent"
  taken() { [ "$(grep -c 'what is valid is served on","entries"' "$work/agent.log")" -ge $times ]; }
  until_true "what is valid is handed over, $1" taken
  stream_start
  until_true "an answer after SIGHUP, $1" test -s "$work/stream.out"
  [ "$(awk '{ print $1, $3, $4; exit }' "$work/stream.out")" = "svid $web $first" ] ||
    fail "not the SVID that it had, $1: $(cat "$work/stream.out")"
  stream_stop
}

# --- the authority is away; twice, so that what was handed over is handed on
stop
reload "the authority away"
reload "the authority away, again"
has '"entries":"2","SVIDs":"2"' "$work/agent.log" || fail "not all was taken over"
pass "SIGHUP in an outage: the same SVIDs are served at once"

# --- and back
start || fail "the authority does not come back"
until_true "the list of entries is asked for again" eval '[ "$(metric "mayfly_agent_entry_polls_total{outcome=\"ok\"}")" -ge 1 ]'
reload "the authority there"
until_true "ready after SIGHUP" ready
until_true "the list of entries is asked for at once" eval '[ "$(metric "mayfly_agent_entry_polls_total{outcome=\"ok\"}")" -ge 1 ]'
until_true "the set of files after SIGHUP" eval '[ "$(metric mayfly_agent_file_sets)" = 1 ]'
[ "$(openssl x509 -in "$work/set/svid.pem" -noout -serial)" = "$serial" ] || fail "the files' SVID was issued anew"
[ "$(metric 'mayfly_agent_issued_total{outcome="ok"}')" = 0 ] || fail "SVIDs were issued anew: $(health metrics | grep issued)"
mayfly entry create --dir "$a" --id $in/later --parent "$host" --selector "unix:uid:65533" --json >/dev/null
until_true "an entry that came later" eval '[ "$(metric mayfly_agent_entries)" = 3 ]'
pass "SIGHUP with the authority there: nothing is issued twice"

# --- another authority's address: nothing of the one before is served
stop
sed -i "s|^server:.*|server: https://127.0.0.1:$(free_port)|" "$work/agent.yaml"
kill -HUP "$agent"
until_true "what was handed over is another authority's" grep -q 'nothing of the one before is served' "$work/agent.log"
stream_start
until_true "an answer by another authority's agent" test -s "$work/stream.out"
has '^failed [0-9.]* UNAVAILABLE the agent has not learned its entries yet: its authority does not answer' "$work/stream.out" ||
  fail "something else is said: $(cat "$work/stream.out")"
wait "$stream" || true
agent_stop
! grep -q 'AddressSanitizer\|of no use' "$work/agent.log" || fail "$(grep 'of no use\|Sanitizer' "$work/agent.log")"
pass "another authority: nothing of the one before"
