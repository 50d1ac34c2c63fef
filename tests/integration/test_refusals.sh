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
no_entry() { # text options...: no entry is made, and the authority says why
  refuses 4 "$1" mayfly entry create --dir "$a" --id "${@:2}"
}
in=spiffe://test.example
no_entry "trust domain other.example is not ours" spiffe://other.example/web
no_entry "a workload needs a path" $in
no_entry "ends with a slash" $in/
no_entry "ends with a slash" $in/a/
no_entry 'segment "." or ".."' $in/a/../b
no_entry "empty segment" $in//a
no_entry "has a query" "$in/a?b"
no_entry "has a fragment" "$in/a#b"
no_entry "percent-encoding" $in/a%20b
no_entry "user information" spiffe://user@test.example/a
no_entry "has a port" spiffe://test.example:80/a
no_entry "upper-case letter" spiffe://TEST.example/a
no_entry "does not begin with spiffe://" https://test.example/a
no_entry "does not begin with spiffe://" test.example/a
no_entry "trust domain is empty" spiffe:///a
no_entry "byte 0x20" "$in/a b"
no_entry "byte 0xc3" $in/ä
no_entry "the authority's own" $in/mayfly/server
no_entry "longer than 2048 bytes" "$in/$(head -c 2100 /dev/zero | tr '\0' a)"
no_entry "at most 3600" $in/long --ttl 2h
no_entry "permitted_dns" $in/dns --dns www.google.com
no_entry "as in an IP address" $in/dns --dns 127.0.0.1
refuses 1 "is there already" mayfly entry create --dir "$a" --id "$id"
refuses 1 "no entry for $in/nobody" mayfly token create --dir "$a" --id $in/nobody
refuses 1 "revision is 1, not 7" mayfly entry update --dir "$a" "$id" --ttl 1m --revision 7
[ "$(mayfly entry list --dir "$a" --json | jq -c '[.entries[] | [.spiffe_id, .revision, .ttl]]')" = "[[\"$id\",1,0]]" ] || fail "a refused entry, or change of one, stayed"
pass "entries"

t=$(token "$id")
# Refusals are recorded, certificates are not made.
size() { signer issuing_signatures; }
before=$(size)
fetch() { mayfly-agent fetch --server "$url" --id "$id" --out "$work/out" "$@"; }
unknown=$(python3 -c 'import base64,sys; t=sys.argv[1]; b=base64.urlsafe_b64decode(t[5:]+"=="); print(t[:5]+base64.urlsafe_b64encode(bytes(32)+b[32:]).decode().rstrip("="))' "$t")
refuses 4 "does not know the join token" fetch --token "$unknown"
refuses 4 "no entry for spiffe://test.example/other" mayfly-agent fetch --server "$url" --id spiffe://test.example/other --token "$t" --out "$work/out"
[ ! -e "$work/out/svid.pem" ] || fail "files appeared for a refused identity"
[ "$(size)" = "$before" ] || fail "a refused request was signed"
fetch --token "$t" >/dev/null || fail "the token did not survive being refused for another identity"
refuses 4 "spent" mayfly-agent fetch --server "$url" --id "$id" --token "$t" --out "$work/out2"
short=$(mayfly token create --dir "$a" --id "$id" --ttl 1s --json | jq -r .token)
sleep 2.2
refuses 4 "expired" fetch --token "$short"
refuses 2 "not a join token" fetch --token not-a-token
refuses 3 "can not be reached" mayfly-agent fetch --server "https://localhost:1" --id "$id" --token "$(token "$id")" --out "$work/out3"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -out "$work/foreign.pem" -subj /CN=foreign -days 1 2>/dev/null
refuses 1 "not in the trust bundle" mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --trust-bundle "$work/foreign.pem" --out "$work/out4"
[ ! -e "$work/out4/svid.pem" ] || fail "files appeared under a foreign trust bundle"
# What can not be written is found out before the token is spent.
t=$(token "$id")
touch "$work/file"
refuses 1 "$work/file" mayfly-agent fetch --server "$url" --id "$id" --token "$t" --out "$work/file"
refuses 1 "/proc/self" mayfly-agent fetch --server "$url" --id "$id" --token "$t" --out /proc/self
fetch --token "$t" >/dev/null || fail "a folder that can not be written cost a token"
pass "tokens and trust"

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
[ "$(size)" = $((before + 1)) ] || fail "certificates were signed: $(($(size) - before)) for one token"
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
out=$(mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --timeout 8 --out "$work/clock" 2>&1) && fail "a certificate was issued by a clock that stepped back"
grep -qi clock <<<"$out" || fail "no word on the clock: $out"
rm "$a/token/clock"
fetch --token "$(token "$id")" >/dev/null || fail "issuance after the clock was right again"
pass "clock: $out"
stop || fail "stop"
