#!/bin/bash
# The token's troubles: each gets a clear word; a PIN is never tried twice; what hangs is ended and
# started again.
. "$(dirname "$0")/lib.sh"
init
id=spiffe://test.example/web
cp "$a/mayfly.yaml" "$work/mayfly.yaml"

sed -i 's|^  module: .*|  module: /nonexistent/module.so|' "$a/mayfly.yaml"
start_expecting_exit
grep -q /nonexistent/module.so "$work/refused.log" || fail "module missing: $(cat "$work/refused.log")"
pass "module missing"
cp "$work/mayfly.yaml" "$a/mayfly.yaml"

pin=$(cat "$a/secret/pin")
chmod 600 "$a/secret/pin"
echo 000000 >"$a/secret/pin"
chmod 400 "$a/secret/pin"
start_expecting_exit
[ "$code" = 71 ] || fail "a wrong PIN ended the daemon with $code"
[ "$(grep -c '"role":"signer".*started\|started.*signer' "$work/refused.log")" = 1 ] || fail "the signer was started again after a wrong PIN: $(cat "$work/refused.log")"
grep -qi pin "$work/refused.log" || fail "no word on the PIN"
chmod 600 "$a/secret/pin"
echo "$pin" >"$a/secret/pin"
chmod 644 "$a/secret/pin"
start_expecting_exit
grep -qi "secret/pin" "$work/refused.log" || fail "a PIN that everybody can read was taken"
chmod 400 "$a/secret/pin"
start || fail "the right PIN does not work any more: the token was locked?"
pass "wrong PIN, tried once"

entry "$id"
fetch() { mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --timeout 60 --out "$work/out" "$@" >"$work/fetch.log" 2>&1; }
fetch || fail "fetch: $(cat "$work/fetch.log")"
first=$(child signer)
fault hsm-lost fail
fetch || fail "an order during a lost token did not come through after the restart: $(cat "$work/fetch.log")"
[ "$(child signer)" != "$first" ] || fail "the signer went on with a lost token"
pass "token lost: a new signer, the waiting order answered"

# A call that hangs is ended by the watchdog.
stop || fail "stop"
sed -i 's|^token:|token:\n  call_timeout_ms: 3000|' "$a/mayfly.yaml"
start || fail "start"
first=$(child signer)
fault hsm-call hang
fetch || fail "an order during a hung call did not come through after the restart: $(cat "$work/fetch.log")"
[ "$(child signer)" != "$first" ] || fail "the signer went on with a hung call"
grep -q "exit status 75" "$work/mayflyd.log" || fail "the watchdog did not say why"
pass "a hung call"

# The token goes away mid-flight, and comes back.
mv "$a/token/tokens" "$work/away"
fetch --timeout 2 && fail "a certificate without a token"
not_ready() { code=$(curl -s -o "$work/ready" -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/readyz" || true); [ "$code" = 503 ]; }
eventually not_ready || fail "/readyz says $code without a token"
[ "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/log/checkpoint")" = 200 ] || fail "reads do not go on without a token"
mv "$work/away" "$a/token/tokens"
kill -HUP "$daemon"
wait_ready || fail "not ready after the token came back"
fetch || fail "fetch after the token came back: $(cat "$work/fetch.log")"
stop || fail "stop"
pass "token gone and back"

# A key that could leave the token.
export SOFTHSM2_CONF=$a/token/softhsm2.conf
p11() { pkcs11-tool --module /usr/lib/softhsm/libsofthsm2.so --token-label mayfly --login --pin "$pin" "$@" >"$work/p11.log" 2>&1 || { cat "$work/p11.log" >&2; return 1; }; }
cp -a "$a" "$work/keep"
p11 --delete-object --type privkey --label mayfly-issuing
start_expecting_exit
grep -q mayfly-issuing "$work/refused.log" || fail "missing key: $(cat "$work/refused.log")"
[ "$code" = 70 ] || fail "a missing key ended the daemon with $code"
p11 --delete-object --type pubkey --label mayfly-issuing || true
p11 --keypairgen --key-type EC:prime256v1 --label mayfly-issuing --extractable
[ "$(id -u)" != 0 ] || chown -R --reference="$a/token" "$a/token"
start_expecting_exit
grep -qi extractable "$work/refused.log" || fail "an extractable key: $(cat "$work/refused.log")"
refuses 1 "EXTRACTABLE" mayfly hsm check --dir "$a"
rm -rf "$a"
cp -a "$work/keep" "$a"
start || fail "start with the right key"
stop || fail "stop"
pass "forbidden attributes"
