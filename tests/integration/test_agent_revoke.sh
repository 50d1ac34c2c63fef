#!/bin/bash
# Revocations and the real agent: one of its workloads disturbs neither the agent's session nor the others; what was
# revoked is renewed early, by the authority's advice; an agent that was revoked itself says what it needs, renews
# nothing, and goes on by a new token.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
stubs
in=spiffe://test.example me=$(id -u)
host=$in/host
init || fail "no authority"
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 300
entry $in/short --parent "$host" --selector "unix:uid:$me" --ttl 10
files=
for name in web db cache; do # renewed after 100 seconds at the earliest, unless advised; db after 270
  entry $in/$name --parent "$host" --selector "files:dir:$work/$name" --ttl $([ $name = db ] && echo 600 || echo 223)
  files="$files  - {id: $in/$name, dir: $work/$name}"$'\n'
done
agent_config "$host" "files:"$'\n'"$files"
agent_token "$host"
agent_start
until_true "the agent becomes ready" ready
for name in web db cache; do until_true "files of $name" test -s "$work/$name/svid.pem"; done

serial() { openssl x509 -in "$work/$1/svid.pem" -noout -serial | cut -d= -f2; }
differs() { [ "$(serial "$1")" != "$2" ]; }
revoke() { mayfly revoke --dir "$a" --json "$@" >"$work/revoked" || fail "not revoked: $*"; }
says() { grep -q -- "$1" "$work/agent.log"; }
count() { grep -c -- "$1" "$work/agent.log" || true; }
failures() { health metrics | awk '/^mayfly_agent_(renewals|issued|jwt_svids)_total\{outcome="failed"\}/ { n += $2 } END { print n }'; }
stream_start
until_true "an SVID by the API" seen svid 1
web=$(serial web) db=$(serial db) cache=$(serial cache)

# --- one workload
revoke --key "$(openssl x509 -in "$work/cache/svid.pem" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)"
revoke --id $in/web
jq -e '.ended.sessions == 0 and .ended.authorizations == 1' "$work/revoked" >/dev/null || fail "what ended? $(cat "$work/revoked")"
now=$(grep -c '^svid' "$work/stream.out")
until_true "the others' renewals" seen svid $((now + 3))
! grep '^failed' "$work/stream.out" || fail "another workload lost its stream"
[ "$(failures)" = 0 ] || fail "failures: $(health metrics | grep failed)"
ready || fail "not ready: $(health ready)"
pass "one workload revoked: nobody else noticed"

# --- by advice: those that were revoked, long before their time, and no others
until_true "the revoked workload's next SVID" differs web "$web"
openssl verify -CAfile "$work/web/bundle.pem" -untrusted "$work/web/svid.pem" "$work/web/svid.pem" >/dev/null || fail "the next SVID"
eventually differs cache "$cache" || until_true "the next SVID in place of a revoked key's" differs cache "$cache"
[ "$(serial db)" = "$db" ] || fail "one that was not revoked was renewed early"
web=$(serial web)
revoke --serial "$web"
jq -e '.ended.sessions == 0' "$work/revoked" >/dev/null || fail "what ended by a serial? $(cat "$work/revoked")"
until_true "the next SVID in place of one revoked by its serial" differs web "$web"
[ "$(count 'another begins')" = 0 ] || fail "another session"
[ "$(failures)" = 0 ] || fail "failures: $(health metrics | grep failed)"
pass "revoked SVIDs are renewed early, by the authority's advice"

# --- an entry that does not permit it any more
mayfly entry update --dir "$a" $in/short --selector unix:uid:65533 --json >/dev/null
revoke --id $in/short
until_true "it has nothing any more" seen 'failed [0-9.]* PERMISSION_DENIED' 1
wait "$stream" || true
until_true "ready without it" ready
mayfly entry update --dir "$a" $in/short --selector "unix:uid:$me" --json >/dev/null
stream_start --again
until_true "permitted again" seen svid 1
pass "a revoked workload comes back if its entry permits it"

# --- the agent itself
rm "$work/token"
sessions=$(count 'another begins') web=$(serial web)
revoke --agent "$host"
until_true "it says what it needs" says "mayfly token create --id $host"
says '"level":"error".*cut off' || fail "not said loudly"
not_ready || fail "ready, although it was revoked"
until_true "its workloads' SVIDs end" seen 'failed' 1
[ "$(count 'another begins')" -le $((sessions + 3)) ] || fail "a session for each refusal"
[ "$(serial web)" = "$web" ] || fail "a renewal by a revoked agent"
agent_token "$host"
until_true "ready by a new token" ready
: >"$work/stream.out"
until_true "SVIDs by the API again" seen svid 1
until_true "what it vouched for is renewed" differs web "$web"
pass "a revoked agent: no renewals, and a new token mends it"
kill -KILL "$stream"
wait "$stream" 2>/dev/null || true
agent_stop

# --- keys in a token: the session's is that of the session that was ended, when the agent starts again
softhsm=/usr/lib/softhsm/libsofthsm2.so
[ -e $softhsm ] || skipped "no SoftHSM"
mkdir "$work/hsm" "$work/hsm/tokens"
echo "directories.tokendir = $work/hsm/tokens" >"$work/hsm/conf"
SOFTHSM2_CONF=$work/hsm/conf softhsm2-util --init-token --free --label agent --pin 1234 --so-pin 5678 >/dev/null
(umask 077; echo 1234 >"$work/hsm/pin")
sed -i "s|^state_dir.*|state_dir: state2\nkey: {store: pkcs11, uri: \"pkcs11:token=agent\", module: $softhsm, pin_file: hsm/pin, softhsm_conf: hsm/conf}|" "$work/agent.yaml"
agent_token "$host"
agent_start
until_true "ready with keys in a token" ready
rm "$work/token"
revoke --agent "$host"
until_true "not ready without a token" not_ready
agent_token "$host"
until_true "ready by a new token" ready
rm "$work/token"
more_sessions() { [ "$(count 'another begins')" -gt "$sessions" ]; }
kill -KILL "$agent"; wait "$agent" 2>/dev/null || true
sessions=$(count 'another begins')
agent_start
until_true "another session after kill -9" more_sessions
until_true "ready by its SVID" ready
[ "$(failures)" = 0 ] || fail "failures: $(health metrics | grep failed)"
agent_stop
pass "keys in a token: after a revocation and its token, a restart needs none"
