#!/bin/bash
# What bad input gets at the command line and from the authority: a clear word, the right exit
# status, and nothing changed.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
id=spiffe://test.example/web
entry "$id"

refuses 2 "did you mean --selector" mayfly entry create --selektor x:y
refuses 2 "did you mean 'create'" mayfly entry craete
refuses 2 "did you mean 'status'" mayfly statsu
refuses 2 "needs a value" mayfly entry create --id
refuses 2 "not a duration" mayfly entry create --dir "$a" --id spiffe://test.example/x --ttl 5y
refuses 1 "no authority" mayfly status --dir "$work"
for bad in spiffe://other.example/web spiffe://test.example spiffe://test.example/ spiffe://test.example/a/../b \
  spiffe://test.example//a spiffe://test.example/a/ 'spiffe://test.example/a?b' 'spiffe://test.example/a#b' \
  spiffe://test.example/a%20b spiffe://user@test.example/a spiffe://test.example:80/a spiffe://TEST.example/a \
  https://test.example/a test.example/a spiffe:///a 'spiffe://test.example/a b' spiffe://test.example/ä spiffe://test.example/mayfly/server; do
  out=$(mayfly entry create --dir "$a" --id "$bad" 2>&1) && fail "an entry for '$bad' was made"
  [ -n "$out" ] || fail "'$bad' was refused without a word"
done
pass "malformed, foreign and reserved SPIFFE IDs"
mayfly entry create --dir "$a" --id "spiffe://test.example/$(head -c 2100 /dev/zero | tr '\0' a)" >/dev/null 2>&1 && fail "an over-long SPIFFE ID was taken"
mayfly entry create --dir "$a" --id "$id" >"$work/o" 2>&1 && fail "a second entry for one identity"
mayfly entry create --dir "$a" --id spiffe://test.example/long --ttl 2h >"$work/o" 2>&1 && fail "a lifetime over the maximum"
grep -qi "3600\|lifetime" "$work/o" || fail "no word on the lifetime: $(cat "$work/o")"
mayfly entry create --dir "$a" --id spiffe://test.example/dns --dns www.google.com >"$work/o" 2>&1 && fail "a DNS name outside what is permitted"
mayfly entry create --dir "$a" --id spiffe://test.example/dns --dns 127.0.0.1 >"$work/o" 2>&1 && fail "an IP address as DNS name"
mayfly token create --dir "$a" --id spiffe://test.example/nobody >"$work/o" 2>&1 && fail "a token for no entry"
mayfly entry update --dir "$a" "$id" --ttl 1m --revision 7 >"$work/o" 2>&1 && fail "an update of a revision that is not current"
[ "$(mayfly entry list --dir "$a" --json | jq '.entries | length')" = 1 ] || fail "a refused entry stayed"
pass "entries"

t=$(token "$id")
# The daemon hears of the log's size once a second.
size() { sleep 1.2; mayfly status --dir "$a" --json | jq .log_size; }
before=$(size)
fetch() { mayfly-agent fetch --server "$url" --id "$id" --out "$work/out" "$@"; }
unknown=$(python3 -c 'import base64,sys; t=sys.argv[1]; b=base64.urlsafe_b64decode(t[5:]+"=="); print(t[:5]+base64.urlsafe_b64encode(bytes(32)+b[32:]).decode().rstrip("="))' "$t")
refuses 4 "does not know the join token" fetch --token "$unknown"
refuses 4 "" mayfly-agent fetch --server "$url" --id spiffe://test.example/other --token "$t" --out "$work/out"
[ ! -e "$work/out/svid.pem" ] || fail "files appeared for a refused identity"
[ "$(size)" = "$before" ] || fail "a refused request reached the log"
fetch --token "$t" >/dev/null || fail "the token did not survive being refused for another identity"
refuses 4 "spent" mayfly-agent fetch --server "$url" --id "$id" --token "$t" --out "$work/out2"
short=$(mayfly token create --dir "$a" --id "$id" --ttl 1s --json | jq -r .token)
sleep 2.2
refuses 4 "expired" fetch --token "$short"
refuses 2 "" fetch --token not-a-token
refuses 3 "" mayfly-agent fetch --server "https://localhost:1" --id "$id" --token "$(token "$id")" --out "$work/out3"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -out "$work/foreign.pem" -subj /CN=foreign -days 1 2>/dev/null
out=$(mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --trust-bundle "$work/foreign.pem" --out "$work/out4" 2>&1) && fail "a foreign trust bundle was taken"
[ ! -e "$work/out4/svid.pem" ] || fail "files appeared under a foreign trust bundle"
pass "tokens and trust: $out"

# Fifty agents spend one token at once: exactly one wins.
t=$(token "$id")
before=$(size)
for i in $(seq 50); do
  (mayfly-agent fetch --server "$url" --id "$id" --token "$t" --out "$work/race/$i" >/dev/null 2>"$work/race.$i" && echo won || true) &
  racers[i]=$!
done >"$work/race.result"
wait "${racers[@]}"
[ "$(wc -l <"$work/race.result")" = 1 ] || fail "$(wc -l <"$work/race.result") of 50 spent one token"
[ "$(ls "$work"/race/*/svid.pem | wc -l)" = 1 ] || fail "more than one SVID from one token"
[ "$(size)" = $((before + 1)) ] || fail "the log grew by $(($(size) - before)) for one token"
pass "one of fifty"

# Plain HTTP misuse.
code() { curl -s -o "$work/body" -w '%{http_code}' --cacert "$a/ca/root.pem" "$@"; }
[ "$(code "$url/nothing")" = 404 ] || fail "unknown path"
[ "$(code -X DELETE "$url/acme/directory")" = 405 ] || fail "wrong method"
[ "$(code -H 'Content-Type: application/jose+json' --data-binary '{}' "$url/acme/new-account")" = 400 ] || fail "empty JWS"
[ "$(code -H 'Content-Type: application/json' --data-binary '{}' "$url/acme/new-account")" = 415 ] || fail "content type"
head -c 70000 /dev/zero | tr '\0' ' ' >"$work/big"
[ "$(code -H 'Content-Type: application/jose+json' --data-binary @"$work/big" "$url/acme/new-order")" = 413 ] || fail "big body: $(cat "$work/body")"
jq -e .type "$work/body" >/dev/null || fail "no problem document"
pass "HTTP"

# The clock steps back: no certificate until it is right again.
fetch --token "$(token "$id")" >/dev/null
echo -3600 >"$a/token/clock"
chmod 644 "$a/token/clock"
out=$(mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --timeout 3 --out "$work/clock" 2>&1) && fail "a certificate was issued by a clock that stepped back"
grep -qi clock <<<"$out" || fail "no word on the clock: $out"
rm "$a/token/clock"
fetch --token "$(token "$id")" >/dev/null || fail "issuance after the clock was right again"
pass "clock: $out"
stop || fail "stop"
