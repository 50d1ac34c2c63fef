#!/bin/bash
# The signatures of the issuing key against the growth of the log, and records beside certificates.
. "$(dirname "$0")/lib.sh"
init && start
id=spiffe://test.example/web
entry "$id"
for i in 1 2 3; do
  mayfly-agent fetch --server "$url" --trust-bundle "$a/ca/root.pem" --token "$(token "$id")" --id "$id" --out "$work/out$i" >/dev/null
done
spent=$(token "$id")
mayfly-agent fetch --server "$url" --trust-bundle "$a/ca/root.pem" --token "$spent" --id "$id" --out "$work/out4" >/dev/null
for i in 1 2 3 4 5; do
  code=0
  mayfly-agent fetch --server "$url" --trust-bundle "$a/ca/root.pem" --token "$spent" --id "$id" --out "$work/none" >/dev/null 2>&1 || code=$?
  [ $code = 4 ] || fail "a spent token ended with $code"
done
[ "$(signer issuing_signatures)" = 5 ] || fail "$(signer issuing_signatures) signatures" # the server's own and four
published
accounted() { mayfly log reconcile --dir "$a" --json | jq -e '.ok and .signatures == 5 and .certificates == 5 and .difference == 0' >/dev/null; }
eventually accounted || fail "$(mayfly log reconcile --dir "$a" --json)"
mayfly log reconcile --dir "$a" | has 'Every signature is in the log' || fail "words"
pass "every signature is accounted for"
code=0
mayfly log reconcile --dir "$a" --signatures 6 --since 3 >"$work/rec" || code=$?
[ $code = 5 ] && grep -q '1 SIGNATURES ARE NOT IN THE LOG' "$work/rec" || fail "a signature too many: $code, $(cat "$work/rec")"
refuses 2 "belong together" mayfly log reconcile --dir "$a" --signatures 6
refuses 2 "only" mayfly log reconcile --dir "$a" --signatures 6 --since 4000
refuses 2 "no signer can be asked" mayfly log reconcile --log "$a/log"
pass "a signature too many is found"

# Refusals: the first at once; those alike within ten seconds become one, told at the latest when the daemon stops.
stop || fail "stop"
start
mayfly log export --dir "$a" --format jsonl >"$work/all.jsonl"
jq -es '[.[] | select(.outcome == "refused" and .rule == "token-spent") | .count] | add == 5' "$work/all.jsonl" >/dev/null || fail "refusals: $(grep refused "$work/all.jsonl" || true)"
jq -es '[.[] | select(.outcome == "changed" and .what == "created" and .spiffe_id == "'$id'" and (.actor | startswith("uid:")))] | length == 1' "$work/all.jsonl" >/dev/null || fail "the entry's creation is not recorded once"
index=$(jq -s '[.[] | select(.outcome == "refused")][0].index' "$work/all.jsonl")
mayfly log show "$index" --dir "$a" | has 'token-spent' || fail "show"
mayfly log verify --dir "$a" >/dev/null || fail "verify"
pass "refusals and changes stand in the log"
stop || fail "stop at the end"
