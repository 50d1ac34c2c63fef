#!/bin/bash
# A registration store restored from an older copy: found against the log, refused, and taken when told.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
in=spiffe://test.example/in
entry $in/one
mayfly-agent fetch --server "$url" --id $in/one --token "$(token $in/one)" --out "$work/one" >/dev/null || fail "fetch"
stop || fail "stop"
copy() { rm -rf "$work/$1"; cp -a "$a/store" "$work/$1"; }
restore() { rm -rf "$a/store"; cp -a "$work/$1" "$a/store"; }
copy before
told() { mayfly revoke --dir "$a" --list --json | jq -e '.revocations | length > 0 and all(.log_index)' >/dev/null; } # the log was
start || fail "start again"
mayfly revoke --dir "$a" --id $in/one --reason keyCompromise >/dev/null || fail "revoke"
eventually told || fail "the log was not told"
stop || fail "stop"
copy after

# Back by one revocation, with and without the audit index of then.
for index in then now none; do
  restore before
  case $index in
  now) cp "$work/after"/audit.db* "$a/store" ;;
  none) rm -f "$a/store"/audit.db* ;;
  esac
  for attempt in first second; do
    start_expecting_exit
    [ "$code" != 0 ] || fail "served from an older store at the $attempt start"
    grep -q '"rule":"store-older"' "$work/refused.log" || fail "no word at the $attempt start: $(tail -3 "$work/refused.log")"
  done
  grep '"rule":"store-older"' "$work/refused.log" | has "revocation of $in/one.*--accept-older-store" || fail "not said what: $(grep older "$work/refused.log")"
done
pass "an older store is refused: $(grep -o 'the registration store is older[^;]*' "$work/refused.log")"

# A store that was deleted has forgotten all.
rm -rf "$a/store"
install -d -m 700 -o "$(stat -c %u "$work/before")" -g "$(stat -c %g "$work/before")" "$a/store"
start_expecting_exit
grep -q '"rule":"store-older"' "$work/refused.log" || fail "a deleted store: $(tail -3 "$work/refused.log")"
pass "so is a deleted one"

# A copy with a change on its way to the log: told again at the start, it hides nothing.
restore after
start || fail "start"
kill -STOP "$(child signer)"
entry $in/waiting
copy waiting
kill -CONT "$(child signer)"
mayfly revoke --dir "$a" --id $in/two --reason keyCompromise >/dev/null || fail "revoke"
eventually told || fail "the log was not told"
stop || fail "stop"
copy after
restore waiting
for attempt in first second; do
  start_expecting_exit
  grep '"rule":"store-older"' "$work/refused.log" | has "revocation of $in/two" || fail "the $attempt start with a waiting change: $code $(tail -3 "$work/refused.log")"
done
pass "and one with a change on its way, each time"

restore after
start || fail "the newest store is refused"
# The same change more than once in the log: the signer ends before it answers.
for i in 1 2 3; do
  old=$(child signer)
  fault issue-logged kill
  entry $in/again-$i
  eventually replaced signer "$old" || fail "the fault did not fire"
done
entry $in/two # and told to the log
crash frontend
stop || fail "stop"
pass "the newest one is served"

restore before
"${with_faults[@]}" mayflyd --config "$a" --accept-older-store 2>>"$work/mayflyd.log" &
daemon=$!
wait_ready || fail "not served though accepted"
for _ in $(seq 600); do grep -q "accepted by the operator" "$work/mayflyd.log" && break; sleep 0.1; done
grep -q "older than the log, accepted by the operator" "$work/mayflyd.log" || fail "no warning"
published
stop || fail "stop"
start || fail "not served though accepted before"
mayfly entry list --dir "$a" >/dev/null || fail "asked again"
stop || fail "stop"
pass "accepted once, for good"
