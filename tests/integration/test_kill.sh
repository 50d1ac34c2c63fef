#!/bin/bash
# Kills the signer at each numbered step under load. After each restart: every certificate that came
# back is signed, proven and published; no serial twice; the head never went back; nothing that a
# dead signer had logged was signed late. ROUNDS=n for more or fewer than two.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
points="issue-received issue-checked tlog-journal tlog-synced tlog-signed tlog-head issue-logged issue-tbs issue-signed issue-answered"
corridor_load run "$a/run/signer.sock" test.example 1800 "$work/certs" >"$work/load" &
load=$!
eventually test -s "$work/certs" || fail "no certificate"
grown() { [ "$(stat -c %s "$work/certs")" -gt "$1" ]; } # more certificates came
kills=0
for round in $(seq "${ROUNDS:-$(times 2 1)}"); do
  for point in $points; do
    old=$(child signer)
    fault "$point" kill $((RANDOM % 40))
    for _ in $(seq 600); do
      new=$(child signer)
      [ -n "$new" ] && [ "$new" != "$old" ] && break
      sleep 0.1
    done
    [ -n "$new" ] && [ "$new" != "$old" ] || fail "the fault at $point did not fire"
    kills=$((kills + 1))
    eventually grown "$(stat -c %s "$work/certs")" || fail "no certificate after the fault at $point"
  done
  # Steady again: the parent's backoff must not add up over what is one test's doing.
  wait_ready || fail "not ready after round $round"
done
kill -TERM $load
wait $load || { cat "$work/load"; fail "the load saw what must not be"; }
cat "$work/load"
[ "$(tail -1 "$work/load" | jq .restarts)" -ge $((kills / 2)) ] || fail "the load saw too few restarts"
published
stop || fail "stop"
mayfly log verify --dir "$a" || fail "log verify"
corridor_load verify "$work/certs" "$a/log" "$a/ca/issuing.pem" "$(tail -1 "$work/load" | jq .issued)" || fail "certificates"
truncate -s -1 "$work/certs"
corridor_load verify "$work/certs" "$a/log" "$a/ca/issuing.pem" "$(tail -1 "$work/load" | jq .issued)" >/dev/null && fail "a cut record was overlooked"
pass "$kills kills"
