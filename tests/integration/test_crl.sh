#!/bin/bash
# CRLs: short-lived certificates say that there is none, longer ones name theirs; a revocation appears in it
# soon, for OpenSSL too; a restart keeps it; validators; the log accounts for every CRL.
. "$(dirname "$0")/lib.sh"
init
cat >>"$a/mayfly.yaml" <<'YAML'
crl: {shards: 4}
YAML
start || fail "mayflyd did not become ready"
in=spiffe://test.example
fetch() { mayfly-agent fetch --server "$url" --id "$in/$1" --out "$work/$1" --token "$(token "$in/$1")" >/dev/null || fail "no certificate for $1"; }
text() { openssl x509 -in "$work/$1/svid.pem" -noout -text; }
serial() { openssl x509 -in "$work/$1/svid.pem" -noout -serial | cut -d= -f2; }
cdp() { text "$1" | grep -o 'URI:https://.*/crl/.*' | cut -c5-; }
get() { curl -sf --cacert "$a/ca/root.pem" "$@"; }
crl() { get "$1" >"$work/crl.der" || return 1; openssl crl -inform der -in "$work/crl.der" -out "$work/crl.pem"; }
check() { # name: by OpenSSL, with the CRL that the certificate names
  crl "$(cdp "$1")" || fail "no CRL at $(cdp "$1")"
  openssl verify -CAfile "$a/ca/root.pem" -untrusted "$a/ca/issuing.pem" -CRLfile "$work/crl.pem" -crl_check \
    -purpose sslserver "$work/$1/svid.pem" >"$work/verify" 2>&1
}
listed() { # name: within some seconds
  for _ in $(seq 600); do
    crl "$(cdp "$1")" && openssl crl -in "$work/crl.pem" -noout -text | has -i "Serial Number: 0*$(serial "$1")" && return
    sleep 0.1
  done
  fail "$1 is not in its CRL: $(openssl crl -in "$work/crl.pem" -noout -text)"
}
mayfly entry create --dir "$a" --id $in/short --ttl 5m >/dev/null
for name in one two three four five; do mayfly entry create --dir "$a" --id $in/$name --ttl 20m >/dev/null; done
for name in short one two three four five; do fetch $name; done
text short | has 'X509v3 No Revocation Available\|2.5.29.56' || fail "a short certificate without noRevAvail: $(text short)"
[ -z "$(cdp short)" ] || fail "a short certificate names a CRL"
text one | has 'No Revocation Available\|2.5.29.56' && fail "a longer certificate with noRevAvail"
[[ $(cdp one) == $url/crl/4-[0-3].crl ]] || fail "the CRL's name: $(cdp one)"
for name in one two three four; do check $name || fail "$name is good, but: $(cat "$work/verify")"; done
# Who fetched has all of them beside the identity, for whoever judges others by these files.
[ "$(grep -c 'BEGIN X509 CRL' "$work/one/crl.pem")" = 4 ] || fail "no CRLs beside one"
[ ! -e "$work/short/crl.pem" ] || fail "CRLs beside a certificate that names none"
openssl verify -CAfile "$work/one/bundle.pem" -untrusted "$work/one/svid.pem" -CRLfile "$work/one/crl.pem" -crl_check \
  "$work/two/svid.pem" >"$work/verify" 2>&1 || fail "OpenSSL refuses the CRLs of fetch: $(cat "$work/verify")"
pass "noRevAvail, or a CRL that OpenSSL takes"

openssl crl -in "$work/crl.pem" -noout -text >"$work/text"
grep -q "Only User Certificates" "$work/text" && grep -q "$(cdp four)" "$work/text" || fail "scope: $(cat "$work/text")"
openssl crl -in "$work/crl.pem" -noout -CAfile "$a/ca/issuing.pem" -verify 2>&1 | has "verify OK" || fail "signature"

mayfly revoke --dir "$a" --id $in/one --reason keyCompromise >/dev/null
listed one
openssl crl -in "$work/crl.pem" -noout -text | has "Key Compromise" || fail "the reason is not in the CRL"
check one && fail "OpenSSL takes a revoked certificate"
grep -q "certificate revoked" "$work/verify" || fail "refused for another reason: $(cat "$work/verify")"
check two || fail "two is good, but: $(cat "$work/verify")"
mayfly revoke --dir "$a" --serial "$(serial two)" >/dev/null
listed two
mayfly revoke --dir "$a" --key "$(openssl x509 -in "$work/three/svid.pem" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)" >/dev/null
listed three
check four || fail "four is good, but: $(cat "$work/verify")"
pass "a revocation is in the CRL, by SPIFFE ID, serial and key"

# Validators, and words for what is not there.
status() { get -o /dev/null -w '%{http_code}' "$@" || true; }
same() { # the list was not made anew between two requests
  get -D "$work/headers" -o "$work/a.der" "$(cdp one)"
  etag=$(grep -i ^etag: "$work/headers" | tr -d '\r' | cut -d' ' -f2)
  date=$(grep -i ^last-modified: "$work/headers" | tr -d '\r' | cut -d' ' -f2-)
  [ -n "$etag" ] && [ -n "$date" ] || fail "no validators: $(cat "$work/headers")"
  [ "$(status -H "If-None-Match: $etag" "$(cdp one)")" = 304 ] && [ "$(status -H "If-Modified-Since: $date" "$(cdp one)")" = 304 ]
}
eventually same || fail "If-None-Match, If-Modified-Since"
grep -qi "^content-type: application/pkix-crl" "$work/headers" && grep -qi "^cache-control: public, max-age=[0-9]" "$work/headers" || fail "$(cat "$work/headers")"
[ "$(status -H 'If-None-Match: "0"' -H "If-Modified-Since: $date" "$(cdp one)")" = 200 ] || fail "another tag"
[ "$(status -I "$(cdp one)")" = 200 ] || fail "HEAD"
for no in 4-4 3-0 04-1 4-1x 2048-0 4; do [ "$(status "$url/crl/$no.crl")" = 404 ] || fail "$no"; done
curl -s --cacert "$a/ca/root.pem" "$url/crl/4-4.crl" | has 'cRLDistributionPoints' || fail "words"
[ "$(status "$url/crl/1-0.crl")" = 200 ] || fail "another number of shards than the one configured"
pass "validators"

# The log has each CRL, and the count of signatures is exact.
accounted() { mayfly log reconcile --dir "$a" --json | jq -e '.ok and .difference == 0 and .crls >= 4' >/dev/null; }
eventually accounted || fail "$(mayfly log reconcile --dir "$a" --json)"
number=$(openssl crl -in "$work/crl.pem" -noout -crlnumber | cut -d= -f2)
mayfly log show --dir "$a" $((number)) >"$work/shown" || fail "no entry $number"
grep -q crl "$work/shown" || fail "the record: $(cat "$work/shown")"
mayfly log verify --dir "$a" >/dev/null || fail "the log does not verify"
pass "logged and reconciled"

# While the signer is away the old one is served.
kill -STOP "$(child signer)"
mayfly revoke --dir "$a" --id $in/four >/dev/null
[ "$(status "$(cdp one)")" = 200 ] || fail "not served without the signer"
kill -CONT "$(child signer)"
listed four
pass "without the signer"

# A frontend that dies right after it has said yes: the next one finds out by itself what is to be listed.
mayfly revoke --dir "$a" --id $in/five >/dev/null
kill -KILL "$(child frontend)"
wait_ready || fail "the frontend did not come back"
listed five
pass "a crash right after a revocation"

stop || fail "stop"
sed -i 's/^crl: .*/crl: {shards: 8}/' "$a/mayfly.yaml"
rm -f "$a"/store/audit.db*
start || fail "restart"
for name in one two three four five; do listed $name; done
fetch short
pass "a restart with other shards and without its index keeps them"
stop || fail "stop"
