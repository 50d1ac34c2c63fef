#!/bin/bash
# init on a token that is there already: asks before it generates, generates only what is missing,
# takes the PIN from a file or a descriptor and from nowhere else.
. "$(dirname "$0")/lib.sh"
mkdir -p "$work/tokens"
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$work/tokens" >"$work/softhsm2.conf"
export SOFTHSM2_CONF=$work/softhsm2.conf
softhsm2-util --init-token --free --label prod --pin 4321 --so-pin 4321 >/dev/null
(umask 077 && echo 4321 >"$work/pin")
module=/usr/lib/softhsm/libsofthsm2.so
on_token() { mayfly init --dir "$1" --trust-domain test.example --token-uri pkcs11:token=prod --module $module "${@:2}" </dev/null 2>&1; }

refuses 2 "needs the PIN" on_token "$a"
refuses 2 "no option '--pin'" on_token "$a" --pin 4321
refuses 1 "a PIN is not named here" on_token "$a" --pin-file "$work/pin" --token-uri 'pkcs11:token=prod?pin-value=4321'
out=$(setsid mayfly init --dir "$a" --trust-domain test.example --token-uri pkcs11:token=prod --module $module --pin-file "$work/pin" </dev/null 2>&1) && fail "keys were generated without asking"
grep -q -- --yes <<<"$out" || fail "no word on --yes: $out"
pkcs11-tool --module $module --token-label prod --login --pin 4321 -O 2>/dev/null | has mayfly && fail "a key is there after a no"
pass "asks first"
on_token "$a" --pin-file "$work/pin" --yes >"$work/first" || fail "$(cat "$work/first")"
grep -q "mayfly-log: generating" "$work/first" || fail "keys were not generated"
on_token "$work/second" --pin-fd 7 7<"$work/pin" >"$work/again" || fail "$(cat "$work/again")"
grep -q generating "$work/again" && fail "keys were generated over those that are there"
cmp -s <(openssl x509 -in "$a/ca/issuing.pem" -noout -pubkey) <(openssl x509 -in "$work/second/ca/issuing.pem" -noout -pubkey) || fail "another key than the token's"
pass "generates only what is missing"

# The daemon finds that token without the shell's SOFTHSM2_CONF: init wrote down what it named.
unset SOFTHSM2_CONF
port=$(free_port)
url=https://localhost:$port
sed -i "s|^listen: .*|listen: 127.0.0.1:$port|" "$a/mayfly.yaml"
if [ "$(id -u)" = 0 ]; then
  user=$(sed -n 's/^  signer_user: "\(.*\)"/\1/p' "$a/mayfly.yaml")
  chown -R "$user" "$work/tokens"
fi
mkdir -p "$a/token" # where the fault points of test builds are looked for
start || fail "mayflyd did not become ready on a token of its own"
entry spiffe://test.example/web
mayfly-agent fetch --server "$url" --token "$(token spiffe://test.example/web)" --id spiffe://test.example/web --out "$work/web" >/dev/null || fail "no certificate from a token of its own"
openssl verify -CAfile "$a/ca/root.pem" -untrusted "$a/ca/issuing.pem" "$work/web/svid.pem" >/dev/null || fail "the SVID does not chain"
stop || fail "stop"
pass "serves from that token"
