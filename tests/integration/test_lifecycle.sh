#!/bin/bash
# One request's whole way, as a user walks it: init, start, entry, token, fetch, verify, renew,
# reload, stop; and that nothing is ever overwritten.
. "$(dirname "$0")/lib.sh"
init
for f in ca/root.pem ca/issuing.pem ca/bundle.json log/checkpoint mayfly.yaml; do [ -s "$a/$f" ] || fail "$f is missing"; done
[ "$(stat -c %a "$a/secret/pin")" = 400 ] || fail "the PIN can be read by others"
before=$(find "$a" -type f -exec sha256sum {} + | sort)
refuses 1 "already holds an authority" mayfly init --dir "$a" --trust-domain test.example
[ "$before" = "$(find "$a" -type f -exec sha256sum {} + | sort)" ] || fail "a second init changed something"
mayfly hsm check --dir "$a" >"$work/hsm" || fail "hsm check"
grep -q 'NEVER_EXTRACTABLE.*true.*ok' "$work/hsm" || fail "hsm check shows no attributes"
mayfly log verify --dir "$a" | has 'verified: 3 entries' || fail "a new log has the null entry and two CA certificates"
openssl verify -CAfile "$a/ca/root.pem" "$a/ca/issuing.pem" >/dev/null || fail "issuing does not chain to root"
pass "init"

start || fail "mayflyd did not become ready"
id=spiffe://test.example/web
entry "$id" --dns web.test.example --ttl 2m
t=$(token "$id")
mayfly-agent fetch --server "$url" --token "$t" --id "$id" --dns web.test.example --out "$work/web" >/dev/null || fail "fetch"
[ "$(stat -c %a "$work/web/svid.key")" = 600 ] || fail "svid.key is not 0600"
openssl verify -CAfile "$work/web/bundle.pem" -untrusted "$work/web/svid.pem" "$work/web/svid.pem" >/dev/null || fail "the SVID does not chain"
openssl x509 -in "$work/web/svid.pem" -noout -ext subjectAltName | has "URI:$id, DNS:web.test.example" || fail "SAN"
cmp -s <(openssl x509 -in "$work/web/svid.pem" -noout -pubkey) <(openssl pkey -in "$work/web/svid.key" -pubout) || fail "key and certificate differ"
openssl x509 -in "$work/web/svid.pem" -noout -checkend 100 >/dev/null || fail "lifetime too short"
! openssl x509 -in "$work/web/svid.pem" -noout -checkend 125 >/dev/null || fail "lifetime over the entry's"
pass "a workload got its identity"

published
serial=$(openssl x509 -in "$work/web/svid.pem" -noout -serial | cut -d= -f2)
index=$((16#${serial: -12}))
mayfly log show "$index" --dir "$a" --json | jq -e --arg id "$id" '.entries[0].spiffe_id == $id' >/dev/null || fail "its serial names no entry of its own"
mayfly log show "$index" --dir "$a" --json | jq -e '.entries[0].attestor == "join_token" and .entries[0].entry_revision == 1' >/dev/null || fail "the entry lacks its provenance"
mayfly log verify --dir "$a" >/dev/null || fail "log verify"
pass "it stands in the log at $index"

c="curl -sf --cacert $a/ca/root.pem"
[[ $($c "$url/log/checkpoint") == test.example/log1* ]] || fail "/log/checkpoint"
$c "$url/spiffe/bundle" | jq -e '.keys[0].use == "x509-svid" and (.keys[0].x5c | length) == 1 and .spiffe_refresh_hint > 0' >/dev/null || fail "bundle"
$c "$url/acme/directory" | jq -e '.newNonce and .newOrder' >/dev/null || fail "directory"
$c "$url/healthz" >/dev/null && $c "$url/readyz" >/dev/null || fail "health"
[ "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$a/ca/root.pem" --path-as-is "$url/log/../mayfly.yaml")" != 200 ] || fail "path escape"
[ "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/log/head")" = 404 ] || fail "/log/head is served"

mayfly-agent fetch --server "$url" --id "$id" --out "$work/web" >/dev/null || fail "coming back with its SVID alone"
[ "$(openssl x509 -in "$work/web/svid.pem" -noout -serial | cut -d= -f2)" != "$serial" ] || fail "no new certificate"
pass "came back without a token"

mayfly-agent fetch --server "$url" --token "$(token "$id")" --trust-bundle "$a/ca/root.pem" --id "$id" --out "$work/web2" >/dev/null || fail "--trust-bundle"
mayfly bundle show --dir "$a" --json >"$work/bundle.json"
mayfly-agent fetch --server "$url" --token "$(token "$id")" --trust-bundle "$work/bundle.json" --id "$id" --out "$work/web3" >/dev/null || fail "--trust-bundle with a SPIFFE bundle"

mayfly entry update --dir "$a" "$id" --ttl 1m | has 'revision *2' || fail "update"
mayfly entry list --dir "$a" | has "$id *2" || fail "list"
old=$(child frontend)
kill -HUP "$daemon"
for _ in $(seq 600); do [ -n "$(child frontend)" ] && [ "$(child frontend)" != "$old" ] && break; sleep 0.1; done
wait_ready || fail "not ready after SIGHUP"
[ "$(child frontend)" != "$old" ] || fail "SIGHUP restarted nothing"
mayfly-agent fetch --server "$url" --id "$id" --out "$work/web" >/dev/null || fail "renewal after a reload"
! openssl x509 -in "$work/web/svid.pem" -noout -checkend 65 >/dev/null || fail "the entry's new lifetime is not used"
pass "reload"

crash frontend
mayfly-agent fetch --server "$url" --id "$id" --out "$work/web" >/dev/null || fail "renewal after the frontend was killed"
mayfly entry delete --dir "$a" "$id" >/dev/null
refuses 4 "entr" mayfly-agent fetch --server "$url" --id "$id" --out "$work/web"
stop || fail "the daemon did not end with 0"
refuses 3 "mayflyd --config" mayfly status --dir "$a"
start || fail "second start"
mayfly status --dir "$a" --json | jq -e '.ready and .entries == 0' >/dev/null || fail "state after restart"
stop || fail "stop"
mayfly log verify --dir "$a" >/dev/null || fail "log verify at the end"
pass "lifecycle"
