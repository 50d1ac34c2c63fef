#!/bin/bash
# CRLs in files: a set of a long-lived identity has those that OpenSSL and mayfly-proxy --identity need; a revocation
# reaches them, and the program is told; without long-lived certificates there are none.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
host=spiffe://test.example/host/one server=spiffe://test.example/server peer=spiffe://test.example/peer
mkdir "$work/out"

init
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 30 # each renewal of its own asks for CRLs, too
entry "$server" --parent "$host" --selector "files:dir:$work/out/server" --ttl 3600
entry "$peer" --parent "$host" --selector "files:dir:$work/out/peer" --ttl 3600
agent_config "$host" "files:
  - {id: $server, dir: $work/out/server, reload: \"echo told >>$work/told\"}
  - {id: $peer, dir: $work/out/peer}"
agent_token "$host"
agent_start
until_true "the agent becomes ready" ready

# --- whoever reads them
crls() { grep -c 'BEGIN X509 CRL' "$work/out/server/crl.pem"; }
has_crls() { [ "$(crls)" = 16 ]; }
until_true "a CRL of each shard" has_crls
openssl_takes() { # folder of a set: by the CRLs of the server's
  openssl verify -CAfile "$work/out/server/bundle.pem" -untrusted "$1/svid.pem" -CRLfile "$work/out/server/crl.pem" \
    -crl_check "$1/svid.pem" >"$work/verify" 2>&1
}
openssl_takes "$work/out/peer" || fail "OpenSSL refuses the peer: $(cat "$work/verify")"
[ "$(stat -Lc %a "$work/out/server/crl.pem")" = 644 ] || fail "mode of crl.pem"
pass "a set has the CRLs, and OpenSSL takes them"

# --- a proxy that has its identity from the set
echo_port=$(free_port) sport=$(free_port)
bench_proxy_load echo "$echo_port" &
mayfly-proxy server --listen "127.0.0.1:$sport" --to "127.0.0.1:$echo_port" --allow "$peer" \
  --identity "$work/out/server" 2>"$work/proxy.log" &
proxy=$!
let_in() { [ "$(try "$1")" = hello ]; }
until_true "a peer of an hour is let in" let_in "$work/out/peer"
grep -q crl-missing "$work/proxy.log" && fail "it missed a CRL at first: $(cat "$work/proxy.log")"
cp -rL "$work/out/peer" "$work/revoked"
before=$(wc -l <"$work/told")
mayfly revoke --dir "$a" --id "$peer" --reason keyCompromise --json >/dev/null
refused() { ! openssl_takes "$work/revoked" && grep -q 'certificate revoked' "$work/verify"; }
until_true "the revocation is in the set" refused
told() { [ "$(wc -l <"$work/told")" -gt "$before" ]; }
until_true "the program is told" told
shut_out() { ! let_in "$work/revoked"; }
until_true "the proxy refuses who was revoked" shut_out
eventually grep -q '"why":"revoked"' "$work/proxy.log" || fail "refused for another reason: $(tail -3 "$work/proxy.log")"
renewed() { [ "$(sha256sum <"$work/out/peer/svid.pem")" != "$(sha256sum <"$work/revoked/svid.pem")" ]; }
until_true "the peer has another certificate" renewed
until_true "which is let in" let_in "$work/out/peer"
kill -TERM $proxy
wait $proxy || fail "the proxy did not end well"
pass "a proxy lets a long-lived peer in, and refuses it once it is revoked"

# --- an agent that begins anew does not take them away until it has others
names=$(stat -c %Y.%i "$work/out/server/..data/crl.pem")
while sleep 0.01; do [ -s "$work/out/server/crl.pem" ] || { touch "$work/gap"; break; }; done &
watcher=$!
kill -HUP "$agent"
other() { [ "$(stat -c %Y.%i "$work/out/server/..data/crl.pem")" != "$names" ]; }
until_true "another set after the reload" other
until_true "ready after the reload" ready
has_crls || fail "CRLs after the reload: $(crls)"
kill $watcher 2>/dev/null || true
[ ! -e "$work/gap" ] || fail "there were no CRLs for a moment"
pass "a reload keeps them"

# --- no certificate names any: no file
echo 'crl: {short_limit: 3600}' >>"$a/mayfly.yaml"
stop
start || fail "the authority does not start again"
gone() { [ ! -e "$work/out/server/crl.pem" ] && [ ! -L "$work/out/server/crl.pem" ]; }
until_true "crl.pem is taken away" gone
[ -s "$work/out/server/svid.pem" ] || fail "and with it all"
agent_stop
pass "without such certificates there is none"
