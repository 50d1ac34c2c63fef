#!/bin/bash
# The auditor's way: a whole log replayed, then only what is new since a head that was kept.
. "$(dirname "$0")/lib.sh"
vkey=$(bench_loggen --out "$work/log" --entries 3000 --ids 200 2>/dev/null) || fail "bench_loggen"
verify=(mayfly log verify --log "$work/log" --vkey "$vkey")
"${verify[@]}" >"$work/out" || fail "a good log: $(cat "$work/out")"
grep -q 'verified: 3000 entries of bench.example/log/1' "$work/out" || fail "$(cat "$work/out")"
grep -q 'certificates of the authority itself: entries 1, 2$' "$work/out" || fail "$(cat "$work/out")"
for n in 1 2 5; do
  "${verify[@]}" --threads $n --json | jq -e '.ok and .size == 3000 and .entries_checked == 3000 and
    .findings_total == 0 and .ca_certificates == [1,2] and ([.entries[]] | add) == 3000' >/dev/null || fail "--json"
done

# A stricter auditor: the log has certificates of an hour.
rc=0
"${verify[@]}" --max-lifetime 5m >"$work/out" 2>"$work/err" || rc=$?
[ $rc = 5 ] || fail "exit status $rc"
grep -q '^NOT verified' "$work/out" && grep -q '\[entry-lifetime\] entry [0-9]*: .* 3610 s' "$work/err" || fail "$(cat "$work/out" "$work/err")"
rc=0
"${verify[@]}" --max-lifetime 5m --json >"$work/out" || rc=$?
[ $rc = 5 ] || fail "exit status $rc"
jq -e '.ok == false and .findings_total > 0 and .findings[0].rule == "entry-lifetime"' "$work/out" >/dev/null || fail "findings"
"${verify[@]}" --max-lifetime 1h >/dev/null || fail "an hour"

# From a head that was kept: here the present one.
cp "$work/log/checkpoint" "$work/kept"
"${verify[@]}" --from "$work/kept" | has 'consistent with the head of size 3000' || fail "--from"
"${verify[@]}" --from "$work/kept" --json | jq -e '.from == 3000 and .entries_checked == 0' >/dev/null || fail "--from --json"
other=$(bench_loggen --out "$work/other" --entries 3000 --ids 200 2>/dev/null) || fail "bench_loggen"
refuses 5 "signature" "${verify[@]}" --from "$work/other/checkpoint"
refuses 5 "checkpoint" mayfly log verify --log "$work/log" --vkey "$other"
refuses 1 "" "${verify[@]}" --from "$work/nothing"
: >"$work/empty"
refuses 5 "empty" "${verify[@]}" --from "$work/empty"
refuses 2 "--max-lifetime" "${verify[@]}" --max-lifetime soon
refuses 2 "--threads" "${verify[@]}" --threads 0

printf x | dd of="$work/log/tile/entries/003" bs=1 seek=1000 conv=notrunc status=none
refuses 5 "tile/0/003 does not agree with its entry bundle" "${verify[@]}"
pass "a log is replayed, from its first entry or from a kept head"
