#!/bin/bash
# RFC 9773 with the real thing: the directory's member, a certificate's window, a revocation that pulls it forward, what
# is unknown; and where the bundle says the CRLs are.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
in=spiffe://test.example
get() { curl -sf --cacert "$a/ca/root.pem" "$@"; }
info=$(get "$url/acme/directory" | jq -r .renewalInfo)
[ "$info" = "$url/acme/renewal-info" ] || fail "the directory's renewalInfo: $info"
get "$url/acme/directory" | jq -e '.meta.mayfly.evidence | index("application/vnd.mayfly.agent+json")' >/dev/null || fail "agent evidence is not advertised"
b64url() { printf "$(sed 's/../\\x&/g')" | base64 -w0 | tr '+/' '-_' | tr -d =; } # of hex
name() { # file: as RFC 9773 section 4.1 names a certificate
  local aki serial
  aki=$(openssl x509 -in "$1" -noout -ext authorityKeyIdentifier | grep -o '[0-9A-F][0-9A-F]\(:[0-9A-F][0-9A-F]\)*' | tail -1 | tr -d :)
  serial=$(openssl x509 -in "$1" -noout -serial | cut -d= -f2)
  [[ $serial == [89A-F]* && $((${#serial} % 2)) = 0 ]] && serial=00$serial
  [ $((${#serial} % 2)) = 0 ] || serial=0$serial
  echo "$(b64url <<<"$aki").$(b64url <<<"$serial")"
}
window() { # file: until it is published; sets start, end, again
  local code
  for _ in $(seq 100); do
    code=$(curl -s --cacert "$a/ca/root.pem" -D "$work/headers" -o "$work/window" -w '%{http_code}' "$info/$(name "$1")")
    [ "$code" = 503 ] || break
    sleep 0.1
  done
  [ "$code" = 200 ] || fail "$1: $code $(cat "$work/window")"
  start=$(date -d "$(jq -r .suggestedWindow.start "$work/window")" +%s)
  end=$(date -d "$(jq -r .suggestedWindow.end "$work/window")" +%s)
  again=$(grep -i '^retry-after:' "$work/headers" | tr -dc 0-9)
}
fetch() {
  mayfly entry create --dir "$a" --id "$in/$1" --ttl "$2" >/dev/null
  mayfly-agent fetch --server "$url" --id "$in/$1" --out "$work/$1" --token "$(token "$in/$1")" >/dev/null || fail "no certificate for $1"
}
fetch one 5m
fetch two 20m
fetch three 5m
from=$(date -d "$(openssl x509 -in "$work/one/svid.pem" -noout -startdate | cut -d= -f2)" +%s)
window "$work/one/svid.pem"
[ $start = $((from + 10 + 135)) ] && [ $end = $((from + 10 + 180)) ] && [ "$again" = 30 ] || fail "from $from: $start to $end, again in $again"
window "$work/two/svid.pem"
[ $((end - start)) = 180 ] && [ "$again" = 120 ] || fail "of 20 minutes: $start to $end, again in $again"
pass "windows"

mayfly revoke --dir "$a" --id $in/one >/dev/null
before=$(date +%s)
window "$work/one/svid.pem"
[ $start -ge $((before - 1)) ] && [ $start -le $((before + 30)) ] && [ $((end - start)) = 30 ] || fail "revoked, but $start to $end"
mayfly revoke --dir "$a" --serial "$(openssl x509 -in "$work/two/svid.pem" -noout -serial | cut -d= -f2)" >/dev/null
window "$work/two/svid.pem"
[ $((end - start)) = 60 ] || fail "revoked by serial, but $start to $end"
window "$work/three/svid.pem"
[ $((end - start)) = 45 ] || fail "not revoked, but $start to $end"
pass "revocations pull forward"

status() { curl -s --cacert "$a/ca/root.pem" -o /dev/null -w '%{http_code}' "$1"; }
aki=$(name "$work/one/svid.pem" | cut -d. -f1)
[ "$(status "$info/$aki.$(b64url <<<01000000000000)")" = 404 ] || fail "entry 0"
[ "$(status "$info/$aki.$(b64url <<<02000000000003)")" = 404 ] || fail "another log"
[ "$(status "$info/AAAA.$(name "$work/one/svid.pem" | cut -d. -f2)")" = 404 ] || fail "another issuer"
[ "$(status "$info/x")" = 400 ] || fail "no name"
# the server's own certificate is one, too
openssl s_client -connect "localhost:$port" -CAfile "$a/ca/root.pem" </dev/null 2>/dev/null | openssl x509 -out "$work/server.pem"
window "$work/server.pem"
pass "what is there and what is not"

get "$url/spiffe/bundle" | jq -e --arg base "$url/crl/" '.mayfly_crl == {base: $base, shards: 16}' >/dev/null || fail "$(get "$url/spiffe/bundle")"
echo 'crl: {short_limit: 3600}' >>"$a/mayfly.yaml"
stop
start || fail "mayflyd did not become ready"
get "$url/spiffe/bundle" | jq -e 'has("mayfly_crl") | not' >/dev/null || fail "CRLs where no certificate names one"
window "$work/three/svid.pem"
pass "the bundle, and a restart"
