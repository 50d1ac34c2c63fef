#!/bin/bash
# Hooks of mayfly-agent serve: one that does not end keeps no other set from changing and no other program from being told;
# one command of two sets never runs beside itself; SIGHUP while one is awaited ends nothing.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
host=spiffe://test.example/host/one
set_is() { printf 'spiffe://test.example/%s' "$1"; }

init
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 60
for n in slow quick twin1 twin2; do
  entry "$(set_is $n)" --parent "$host" --selector "files:dir:$work/out/$n" --ttl 10
done
mkdir "$work/out"
cat >"$work/twin" <<S
mkdir "$work/out/inside" || echo beside >>"$work/out/beside"
sleep 0.3
echo "\$MAYFLY_SPIFFE_ID" >>"$work/out/twins"
rmdir "$work/out/inside"
S
slow="echo began >>$work/out/slow-began; until [ -e $work/out/go ]; do echo held >>$work/out/slow-held; sleep 0.1; done; echo ended >>$work/out/slow-ended"
agent_config "$host" "files:
  - {id: $(set_is slow), dir: $work/out/slow, reload: \"$slow\", reload_timeout: 300}
  - {id: $(set_is quick), dir: $work/out/quick, reload: \"sha256sum <$work/out/quick/svid.pem >>$work/out/quick-told\"}
  - {id: $(set_is twin1), dir: $work/out/twin1, reload: \"sh $work/twin\"}
  - {id: $(set_is twin2), dir: $work/out/twin2, reload: \"sh $work/twin\"}"
agent_token "$host"
agent_start

until_true "the hook that does not end begins" test -s "$work/out/slow-began"
told() { [ "$(sort -u "$work/out/quick-told" 2>/dev/null | wc -l)" -ge "$1" ]; }
until_true "another set changes twice beside it, and its program is told" told 3
[ ! -e "$work/out/slow-ended" ] && [ "$(wc -l <"$work/out/slow-began")" = 1 ] || fail "the hook did not hang"
has 'its program is not told yet' <<<"$(health ready)" || fail "/ready does not say whose program is not told: $(health ready)"
twins() { [ "$(grep -c "$(set_is "$1")" "$work/out/twins")" -ge 2 ]; }
until_true "the first twin is told twice" twins twin1
until_true "the second twin is told twice" twins twin2
[ ! -e "$work/out/beside" ] || fail "the same command ran beside itself"
pass "a hook that does not end delays nobody else; one command never runs twice at once"

before=$(sha256sum <"$work/out/slow/svid.pem")
touch "$work/out/go"
moved() { [ "$(sha256sum <"$work/out/slow/svid.pem")" != "$before" ]; }
until_true "the slow set changes once its hook has ended" moved
until_true "ready, with all told" ready
pass "what waited for its own hook is written after it"

# --- SIGHUP waits for hooks; another one meanwhile ends nothing, and is obeyed
rm "$work/out/slow-held" "$work/out/go"
until_true "the hook that does not end begins again" test -s "$work/out/slow-held"
hears_hangup() { [ $((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$agent/status") & 1)) = 1 ]; }
deaf() { ! hears_hangup; }
hears_hangup || fail "it does not hear SIGHUP"
kill -HUP "$agent"
until_true "it is on its way down" deaf
kill -HUP "$agent"
touch "$work/out/go"
reloads() { [ "$(grep -c '"msg":"reloading"' "$work/agent.log")" = 2 ]; }
until_true "both are obeyed" reloads
until_true "ready after both" ready
pass "SIGHUP while another one is under way"

# --- both at once, as for a service that is reloaded and then stopped: it stops
kill -STOP "$agent"
kill -HUP "$agent"
kill -TERM "$agent"
kill -CONT "$agent"
over() { ! kill -0 "$agent" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$agent/status"; }
until_true "it stops" over
wait "$agent" || fail "it ended with $?"
[ ! -S "$agent_socket" ] || fail "it left its socket"
pass "SIGTERM with SIGHUP"
