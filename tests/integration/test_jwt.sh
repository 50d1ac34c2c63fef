#!/bin/bash
# JWT-SVIDs from end to end: asked for through the API by a client that shares no code with the authority, verified
# by openssl against the bundle, found in the log, refused where they must be, killed at every step; and an
# authority that is older than the key of JWT-SVIDs.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || exit 77
init
td=spiffe://test.example
web=$td/web db=$td/db
client() { python3 "$here/jwt_client.py" "$work/${who:-one}" "$url" "$a/ca/root.pem" "$@"; }
ask() { # id audiences options...: sets status and body
  local out
  out=$(client ask "$@") || fail "the client: $out"
  status=$(jq -r .status <<<"$out") body=$(jq -c .body <<<"$out")
}
svid() { jq -r .svid <<<"$body"; }
gets() { ask "$@"; [ "$status" = 200 ] || fail "$*: $status $body"; }
refused() { # status rule ask-arguments...
  ask "${@:3}"
  [ "$status" = "$1" ] && [ "$(jq -r .rule <<<"$body")" = "$2" ] || fail "${*:3}: $status, not $1 $2: $body"
}
reconciled() { mayfly log reconcile --dir "$a" --json >"$work/reconcile" || fail "reconcile: $(cat "$work/reconcile")"; }

# --- made by init ----------------------------------------------------------------------------------------
[ "$(jq -r '.keys[1].use' "$a/ca/bundle.json")" = jwt-svid ] || fail "init's bundle has no JWT key"
kid=$(jq -r '.keys[1].kid' "$a/ca/bundle.json")
mayfly hsm check --dir "$a" | has "mayfly-jwt.*signs and verifies" || fail "hsm check leaves the JWT key out"
start || fail "mayflyd did not become ready"
entry $web
entry $db
curl -sf --cacert "$a/ca/root.pem" "$url/spiffe/bundle" >"$work/bundle"
[ "$(jq -r '.keys[1].kid' "$work/bundle")" = "$kid" ] || fail "another key is served"
[ "$(jq .spiffe_sequence "$work/bundle")" -ge "$(jq .spiffe_sequence "$a/ca/bundle.json")" ] || fail "the sequence went back"
curl -sf --cacert "$a/ca/root.pem" "$url/acme/directory" | jq -e '.newJwtSvid | endswith("/acme/new-jwt-svid")' >/dev/null || fail "directory"
mayfly log search --dir "$a" --outcome authority --json >"$work/search"
jq -e --arg kid "$kid" '[.entries[] | select(.what == "jwt_key" and .value == $kid)] | length == 1' "$work/search" >/dev/null || fail "the log was not told of the key"
pass "the key of JWT-SVIDs: in the token, the bundle and the log"

# --- given ------------------------------------------------------------------------------------------------
client new
refused 403 authorization $web '["payroll"]'
refused 400 evidence-binding $web '["payroll"]' --token "$(token $web)" --stale
gets $web '["payroll","Grüße \"und\" \\"]' --token "$(token $web)"
[ "$(jq -r .spiffe_id <<<"$body")" = $web ] && [ "$(jq '.expires - .issued' <<<"$body")" = 300 ] || fail "$body"
client verify "$(svid)" payroll >"$work/claims" || fail "openssl does not verify it"
index=$(jq .index <<<"$body")
jq -e --arg id $web --arg jti "1-$index" '.sub == $id and .jti == $jti and .aud == ["payroll","Grüße \"und\" \\"] and .exp - .iat == 300 and (keys | length) == 5' "$work/claims" >/dev/null || fail "$(cat "$work/claims")"
first=$(svid)
gets $web '["payroll"]' # warm
client verify "$(svid)" payroll >/dev/null
[ "$(jq .index <<<"$body")" -gt "$index" ] || fail "the index did not rise"
client verify "${first%?????}AAAAA" payroll >/dev/null 2>&1 && fail "the client verifies anything"
pass "given, and verified by openssl against the bundle"

# --- refused -----------------------------------------------------------------------------------------------
refused 400 audience $web '[]'
refused 400 audience $web '[""]'
refused 400 audience $web '["a\nb"]'
refused 400 audience $web "[\"$(printf 'a%.0s' $(seq 256))\"]"
refused 400 audience $web '["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]'
refused 400 audience $web '"payroll"'
refused 400 ttl $web '["payroll"]' --ttl 0
refused 403 authorization $db '["payroll"]'
refused 403 authorization $td/nobody '["payroll"]'
refused 403 authorization $td/mayfly/server '["payroll"]'
ask spiffe://elsewhere.example/web '["payroll"]'
[ "$status" -ge 400 ] || fail "a foreign trust domain: $body"
gets $web '["payroll"]' --ttl 7200
[ "$(jq '.expires - .issued' <<<"$body")" = 300 ] || fail "longer than the entry's certificates: $body"
gets $web '["payroll"]' --ttl 30
[ "$(jq '.expires - .issued' <<<"$body")" = 30 ] || fail "shorter was asked for: $body"
who=two client new
who=two refused 403 authorization $web '["payroll"]'
pass "refused: whom it is for, how long, whose it is"

# --- in the log ----------------------------------------------------------------------------------------------
published # all four
mayfly log show "$index" --dir "$a" >"$work/show" 2>&1 || fail "log show: $(cat "$work/show")"
for word in JWT-SVID $web payroll "$kid" join_token "inclusion verified"; do has -F -- "$word" <"$work/show" || fail "log show says no '$word': $(cat "$work/show")"; done
mayfly log search --dir "$a" --outcome jwt --id $web --oldest --json >"$work/search"
jq -e --argjson n "$index" '.entries | length == 4 and .[0].index == $n and all(.outcome == "jwt") and .[0].audiences[0] == "payroll" and .[0].jti == "1-\($n)"' "$work/search" >/dev/null || fail "search: $(cut -c1-600 "$work/search")"
mayfly log search --dir "$a" --outcome jwt | has "until .*, for several: payroll" || fail "search for people"
mayfly log export --dir "$a" --format csv | has ",jwt,.*$web.*payroll" || fail "CSV"
mayfly log export --dir "$a" --format jsonl | jq -se 'any(.[]; .outcome == "jwt" and .kid)' >/dev/null || fail "JSON lines"
mayfly log verify --dir "$a" --json | jq -e '.ok and .entries.jwt == 4' >/dev/null || fail "verify"
served() { curl -sf --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?outcome=jwt" | jq -e '.entries | length == 4' >/dev/null; }
eventually served || fail "the server's search"
mayfly log monitor --dir "$a" --state "$work/state" --from-start --once --allow "$td/mayfly/*" --allow $db >"$work/alerts" 2>/dev/null || true
has "jwt-key" <"$work/alerts" && has "outside-pattern.*JWT-SVID for $web" <"$work/alerts" || fail "monitor: $(cat "$work/alerts")"
accounted() { reconciled; jq -e '.ok and .jwts == 4 and .jwt_signatures == 4 and .jwt_difference == 0' "$work/reconcile" >/dev/null; }
eventually accounted || fail "$(cat "$work/reconcile")" # the signer's word on its counts is of a second ago
refuses 5 "signatures are not in the log" mayfly log reconcile --dir "$a" --signatures 0 --since 0 --jwt-signatures 5
pass "show, search, export, verify, monitor and reconcile know them"

# --- revoked ------------------------------------------------------------------------------------------------
mayfly revoke --dir "$a" --id $web >/dev/null
refused 401 session-revoked $web '["payroll"]'
who=three client new
who=three gets $web '["payroll"]' --token "$(token $web)" # made since
mayfly entry delete --dir "$a" $web >/dev/null
who=three refused 403 authorization $web '["payroll"]'
entry $web
who=three refused 403 authorization $web '["payroll"]' # another entry
pass "a revocation stops it, and so does the entry's end"

# --- killed at each step -------------------------------------------------------------------------------------
who=four client new
who=four gets $web '["payroll"]' --token "$(token $web)"
for point in issue-received issue-checked issue-logged issue-tbs jwt-signed issue-answered tlog-journal tlog-synced tlog-signed tlog-head; do
  fault $point kill 0
  who=four gets $web "[\"$point\"]" # asked again by the frontend
  [ ! -e "$a/token/fault" ] || fail "$point did not fire"
  client verify "$(svid)" $point >/dev/null || fail "$point: does not verify"
  svid >>"$work/svids"
done
wait_ready
stop || fail "the daemon ended badly"
mayfly log verify --dir "$a" >/dev/null || fail "the log"
mayfly log search --dir "$a" --outcome jwt --all --json | jq -r '.entries[] | "\(.jti) \(.spiffe_id) \(.audiences[0]) \(.not_before) \(.not_after)"' | sort >"$work/logged"
while read -r token; do # every token that anybody received is in the log, as it is
  part=${token#*.} && part=${part%.*}
  python3 -c 'import base64,json,sys; c=json.loads(base64.urlsafe_b64decode(sys.argv[1]+"=="));print(c["jti"],c["sub"],c["aud"][0],c["iat"],c["exp"])' "$part"
done <"$work/svids" | sort >"$work/received"
[ "$(wc -l <"$work/received")" = 10 ] && [ "$(sort -u -k1,1 "$work/received" | wc -l)" = 10 ] || fail "one identifier twice: $(cat "$work/received")"
[ -z "$(comm -13 "$work/logged" "$work/received")" ] || fail "not in the log: $(comm -13 "$work/logged" "$work/received")"
pass "killed at every step: no token that is not logged"

# --- an authority older than the key ---------------------------------------------------------------------------
if command -v pkcs11-tool >/dev/null; then
  module=$(sed -n 's/^ *module: "\(.*\)"$/\1/p' "$a/mayfly.yaml")
  for type in privkey pubkey; do
    SOFTHSM2_CONF=$a/token/softhsm2.conf pkcs11-tool --module "$module" --token-label mayfly --login --pin "$(cat "$a/secret/pin")" --delete-object --type $type --label mayfly-jwt >"$work/p11" 2>&1 || fail "$(cat "$work/p11") cannot remove the $type"
  done
  rm "$a/log/jwt-key"
  mayfly hsm check --dir "$a" >"$work/check" || fail "an authority without the key is refused: $(cat "$work/check")"
  was=$(jq .spiffe_sequence "$work/bundle")
  start || fail "an authority without the key does not start"
  has "had no key for JWT-SVIDs" <"$work/mayflyd.log" || fail "nobody says that a key was made"
  curl -sf --cacert "$a/ca/root.pem" "$url/spiffe/bundle" >"$work/bundle"
  [ "$(jq -r '.keys[1].kid' "$work/bundle")" != "$kid" ] || fail "the key is the old one"
  [ "$(jq .spiffe_sequence "$work/bundle")" -gt "$was" ] || fail "the sequence did not rise"
  who=five client new
  who=five gets $web '["payroll"]' --token "$(token $web)"
  client verify "$(svid)" payroll >/dev/null || fail "does not verify"
  mayfly hsm check --dir "$a" >/dev/null || fail "hsm check"
  stop || fail "the daemon ended badly"
  pass "an authority without the key gets one at its start, and says so"
fi
