#!/bin/bash
# Who may search the log by TLS: an auditor with an SVID that lives, and nobody else. What the authority tells
# the log of itself: its policy, and a clock that went back. Who asked for a certificate; who cosigned the head.
. "$(dirname "$0")/lib.sh"
with_faults=(env "MAYFLY_CLOCK_OFFSET_FILE=$a/log/clock") # where both processes may read
init
sed -i 's/^audit:.*//' "$a/mayfly.yaml"
cp "$a/mayfly.yaml" "$work/mayfly.yaml"
configure() { { cat "$work/mayfly.yaml"; printf 'audit: {access: mtls}\n%s\n' "$@"; } >"$a/mayfly.yaml"; }
configure
start || fail "mayflyd did not become ready"
td=spiffe://test.example
auditor=$td/auditor web=$td/web host=$td/host vouched=$td/vouched
entry $auditor --auditor
entry $web
entry $host
entry $vouched --selector x509pop:spiffe_id:$host
fetch() { mayfly-agent fetch --server "$url" --id "$1" --out "$work/${1##*/}" "${@:2}" >/dev/null; }
for id in $auditor $web $host; do fetch "$id" --token "$(token "$id")" || fail "fetch $id: a client without a certificate is kept out"; done
cp -r "$work/host" "$work/vouched"
fetch $vouched || fail "fetch with another's SVID"
asked() { # path curl-options...: sets status; the body in $work/answer
  status=$(curl -s --cacert "$a/ca/root.pem" -o "$work/answer" -w '%{http_code}' "${@:2}" "$url$1")
}
as() { # name [path]: with the files of mayfly-agent fetch
  asked "${2:-/audit/v1/entries?outcome=issued}" --cert "$work/$1/svid.pem" --key "$work/$1/svid.key"
}
denied() { # status words
  [ "$status" = "$1" ] || fail "$status, not $1: $(cut -c1-300 "$work/answer")"
  jq -r .detail "$work/answer" | has -- "$2" || fail "nobody says '$2': $(cat "$work/answer")"
}
served() { [ "$status" = 200 ] || fail "$1: $status $(cat "$work/answer")"; }

until_index() {
  for _ in $(seq 600); do
    curl -sf --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/stats" >/dev/null && return 0
    sleep 0.1
  done
  fail "no index"
}

# --- by certificate ------------------------------------------------------------------------------------
until_index
as auditor
served "an auditor"
as auditor /audit/v1/stats
served "an auditor, statistics"
curl -s --tls-max 1.2 --cacert "$a/ca/root.pem" --cert "$work/auditor/svid.pem" --key "$work/auditor/svid.key" "$url/audit/v1/stats" | jq -e .hours >/dev/null || fail "TLS 1.2"
asked /audit/v1/entries
denied 401 "--cert svid.pem"
as web
denied 403 "mayfly entry update $web --auditor"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext "subjectAltName=URI:$auditor" \
  -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=clientAuth \
  -keyout "$work/own.key" -out "$work/own.pem" 2>/dev/null
asked /audit/v1/entries --cert "$work/own.pem" --key "$work/own.key"
denied 401 "does not count here"
cat "$work/own.pem" "$work/auditor/svid.pem" >"$work/behind.pem" # a good one behind a foreign one
asked /audit/v1/entries --cert "$work/behind.pem" --key "$work/own.key"
denied 401 "does not count here"
for path in /healthz /ui/ /log/checkpoint /acme/directory; do
  asked $path
  served "$path without a certificate"
  as web $path
  served "$path with one"
done
mayfly entry update --dir "$a" $auditor --no-auditor --json | jq -e '.auditor == false' >/dev/null || fail "--no-auditor"
as auditor
denied 403 "is no auditor"
mayfly entry update --dir "$a" $auditor --ttl 4m --json | jq -e '.auditor == false' >/dev/null || fail "what was not named changed"
mayfly entry update --dir "$a" $auditor --auditor >/dev/null
mayfly entry update --dir "$a" $auditor --ttl 5m --json | jq -e '.auditor' >/dev/null || fail "what was not named changed"
as auditor
served "permitted again"
mayfly entry show --dir "$a" $auditor | has 'may search *yes' || fail "entry show"
pass "auditors, and nobody else"

# --- revoked, restarted, expired -----------------------------------------------------------------------------
mayfly revoke --dir "$a" --id $auditor >/dev/null || fail "revoke"
as auditor
denied 401 "was revoked"
stop || fail "stop"
start || fail "start again"
until_index
as auditor
denied 401 "was revoked"
fetch $auditor --token "$(token $auditor)" || fail "fetch anew"
as auditor
served "a new SVID after a restart"
echo 400 >"$a/log/clock"
as auditor
denied 401 "expired"
echo 0 >"$a/log/clock"
pass "revoked and expired ones are refused"

# --- what the log was told ----------------------------------------------------------------------------------------
ask() { curl -s --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?limit=1000&$1"; }
until_found() { # count query
  for _ in $(seq 600); do
    [ "$(ask "$2" | jq '.entries | length' 2>/dev/null)" = "$1" ] && return 0
    sleep 0.1
  done
  fail "$2: $(ask "$2" | cut -c1-300), not $1"
}
until_found 2 "agent=$host&outcome=issued" # itself, and what it vouched for
[ "$(ask "agent=$vouched" | jq '.entries | length')" = 0 ] || fail "the vouched one asked for nothing"
ask "agent=$host&spiffe_id=$vouched" | jq -e '.entries[0] | .requester == "'$host'" and .attestor == "x509pop"' >/dev/null || fail "who asked"
until_found 1 "agent=$web"
ask "spiffe_id=$auditor&outcome=changed&order=oldest" | jq -e '[.entries[] | .auditor // false] == [true, false, false, true, true]' >/dev/null ||
  fail "who became an auditor: $(ask "spiffe_id=$auditor&outcome=changed&order=oldest" | jq -c '[.entries[] | {what, auditor}]')"
ask "order=oldest" | jq -e '.entries[0] | .index == 0 and .outcome == "null"' >/dev/null || fail "the null entry"
policies() { ask "outcome=authority&order=oldest" | jq -c '[.entries[] | select(.what == "policy") | .value]'; }
[ "$(policies | jq length)" = 1 ] || fail "one policy, told once: $(policies)"
policies | jq -e '.[0] | test("^trust_domain=test.example max_lifetime=3600 rate=0 permitted_dns=test.example ")' >/dev/null || fail "$(policies)"
ask "outcome=authority" | jq -r '.entries[] | select(.what == "policy") | "\(.sha256) \(.value)"' | {
  read -r sha text
  [ "$(printf %s "$text" | sha256sum | cut -d' ' -f1)" = "$sha" ]
} || fail "the policy's digest"
crash signer
stop || fail "stop"
sed -i 's/max_lifetime: 3600/max_lifetime: 1800/' "$a/mayfly.yaml"
start || fail "start with another policy: $(tail -3 "$work/mayflyd.log")"
until_found 3 "outcome=authority" # two policies, and the key of JWT-SVIDs
policies | jq -e 'length == 2 and (.[1] | test(" max_lifetime=1800 "))' >/dev/null || fail "another policy: $(policies)"
pass "who asked, who may search, and the policy are in the log"

# --- a clock that had run ahead ---------------------------------------------------------------------------------------
verify() { mayfly log verify --dir "$a" "$@"; }
published
verify --json | jq -e '.ok and .clock_accepted == []' >/dev/null || fail "verify"
echo 7200 >"$a/log/clock"
entry $td/ahead
until_found 1 "spiffe_id=$td/ahead"
stop || fail "stop"
echo 0 >"$a/log/clock"
"${with_faults[@]}" mayflyd --config "$a" --accept-clock-back 2>>"$work/mayflyd.log" &
daemon=$!
wait_ready || fail "start with --accept-clock-back"
fetch $web --token "$(token $web)" || fail "issuance goes on"
until_found 2 "agent=$web&outcome=issued"
published
verify --json >"$work/out" || fail "verify: $(cat "$work/out")"
jq -e '.ok and (.clock_accepted | length) == 1' "$work/out" >/dev/null || fail "the step back is not excused: $(cat "$work/out")"
verify | has "operator accepted it" || fail "nobody tells of it"
at=$(jq '.clock_accepted[0]' "$work/out")
mayfly log show --dir "$a" "$at" | has "clock" || fail "log show: $(mayfly log show --dir "$a" "$at")"
pass "an accepted clock is in the log, and no finding"

# --- witnesses, as the operator sees them --------------------------------------------------------------------------------
vkey=$(mayfly status --dir "$a" --json | jq -r .vkey)
mayfly status --dir "$a" | has "witnesses *none" || fail "status without witnesses"
stop || fail "stop"
for n in w1 dead; do
  key=$(mayfly log witness --init --state "$work/$n" --key "$work/$n.key" --name $n.example.net) || fail "--init"
  declare "key_$n=$key"
done
wport=$(free_port)
mayfly log witness --listen "127.0.0.1:$wport" --state "$work/w1" --key "$work/w1.key" --log "$vkey" 2>"$work/w1.log" &
cat >>"$a/mayfly.yaml" <<EOF
witnesses:
  list:
    - {url: "http://127.0.0.1:$wport", vkey: "$key_w1"}
    - {url: "http://127.0.0.1:$(free_port)", vkey: "$key_dead"}
EOF
start || fail "start with witnesses"
# Whenever another head is published, its cosignatures are still to come: so both forms are asked for until they say it.
status_json() {
  mayfly status --dir "$a" --json >"$work/status"
  jq -e '.witnesses | .quorum == 0 and .size > 3 and (.list | length) == 2 and .list[0].name == "w1.example.net" and
    .list[0].cosigned and .list[0].age >= 0 and .list[0].age < 60 and .list[1].cosigned == false' "$work/status" >/dev/null
}
status_words() {
  mayfly status --dir "$a" >"$work/out"
  has "1 of 2 cosigned" <"$work/out" && has "cosigned by *w1.example.net" <"$work/out" && has "NOT by *dead.example.net" <"$work/out"
}
eventually status_json || fail "status: $(jq -c .witnesses "$work/status")"
eventually status_words || fail "$(cat "$work/out")"
pass "status shows the witnesses"
stop || fail "stop"
