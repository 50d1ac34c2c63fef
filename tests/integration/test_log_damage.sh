#!/bin/bash
# A damaged log: the daemon refuses to start, says what it found and what to do; nothing is made up.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
id=spiffe://test.example/web
entry "$id"
issued=0
issue() { # seconds
  corridor_load run "$a/run/signer.sock" test.example "$1" "$work/certs" full >"$work/load" || fail "the load saw what must not be: $(cat "$work/load")"
  issued=$((issued + $(tail -1 "$work/load" | jq .issued)))
}
issue 1
stop || fail "stop"
cp -a "$a/log" "$work/older"
start || fail "start"
issue 4
while [ "$(signer log_size)" -lt 300 ]; do issue 1; done # a full tile
stop || fail "stop"
cp -a "$a/log" "$work/good"
mayfly log verify --dir "$a" >/dev/null || fail "the log does not verify to begin with"

restore() { rm -rf "$a/log"; cp -a "$work/good" "$a/log"; }
damaged() { # what text
  start_expecting_exit
  [ "$code" = 70 ] || fail "$1: ended with $code: $(cat "$work/refused.log")"
  grep -qi -- "$2" "$work/refused.log" || fail "$1: does not say '$2': $(tail -3 "$work/refused.log")"
  pass "$1: $(grep -i "signer stops" "$work/refused.log" | tail -1 | cut -c1-220)"
  restore
}
flip() { # file offset
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# Restored from an older copy, the head kept (as a head in a file of its own is there for).
keep_head() { cp -a "$work/good/head" "$a/log/head"; }
rm -rf "$a/log"; cp -a "$work/older" "$a/log"; keep_head
damaged "older log, newer head" "newer\|older"
rm -rf "$a/log"; cp -a "$work/older" "$a/log"; cp -a "$work/good/checkpoint" "$a/log/checkpoint"
damaged "older log and head, newer published checkpoint" "newer\|older"
# Restored as a whole, published checkpoint and all, nothing here contradicts it, and the daemon
# starts: who saw a later head sees the log go back (SECURITY.md, "Whoever owns the disk").
size() { mayfly log checkpoint --dir "$a" --json | jq .size; }
seen=$(size)
rm -rf "$a/log"; cp -a "$work/older" "$a/log"
start || fail "a log restored as a whole was refused"
stop || fail "stop"
mayfly log verify --dir "$a" >/dev/null || fail "a log restored as a whole does not verify"
[ "$(size)" -lt "$seen" ] || fail "the log did not go back from $seen"
pass "a log restored as a whole goes back from $seen to $(size), in sight of who saw more"
restore
for j in "$a"/log/journal/*; do last=$j; done
truncate -s 40 "$last" # its header and no record
damaged "truncated journal" "journal\|truncated\|missing"
for j in "$a"/log/journal/*; do last=$j; done
flip "$last" 100 # in its first record
damaged "a bit flipped in the journal" "journal is damaged at entry"
flip "$a/log/head" 100; flip "$a/log/head" $(($(stat -c %s "$a/log/head") / 2 + 100))
damaged "a bit flipped in both slots of the head" "head"
rm "$a/log/head"
damaged "no head" "head"
rm -rf "$a/log/journal"
damaged "no journal" "journal is missing"
# A damaged tile is refused when it is all there is, and written again when the journal still has it.
damaged_tile() { # what file
  local oldest
  oldest=("$a"/log/journal/*)
  oldest=${oldest[0]##*/}
  flip "$2" 4000
  if [ $((10#$oldest)) -ge 256 ]; then
    damaged "$1" "tile"
    return
  fi
  start || fail "$1: not healed from the journal"
  stop || fail "stop"
  cmp -s "$2" "$work/good/${2#"$a/log/"}" || fail "$1: neither refused nor healed"
  pass "$1: written again from the journal"
  restore
}
damaged_tile "a bit flipped in a full hash tile" "$a/log/tile/0/000"
damaged_tile "a bit flipped in an entry bundle" "$a/log/tile/entries/000"
mv "$a/log" "$work/gone"; mkdir "$a/log"; chmod 755 "$a/log"; [ "$(id -u)" != 0 ] || chown --reference="$work/gone" "$a/log"
damaged "an empty log" "head is missing"

# The reader's side finds the same.
flip "$a/log/tile/entries/000" 200
refuses 5 "" mayfly log verify --dir "$a"
restore
start || fail "start with the good log"
[ "$(mayfly status --dir "$a" --json | jq .ready)" = true ] || fail "not ready with the good log"
issue 1
stop || fail "stop"
mayfly log verify --dir "$a" >/dev/null || fail "log verify at the end"
corridor_load verify "$work/certs" "$a/log" "$a/ca/issuing.pem" "$issued" || fail "certificates"

# Disk full, where this machine lets us make a small disk. The journal is written ahead in segments,
# so orders go on until the next one is needed; then the signer ends, saying why, and comes back
# when there is space.
if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=$(($(du -sm "$a/log" | cut -f1) + 24))m tmpfs "$work/small" 2>/dev/null; then
  cp -a "$a/log/." "$work/small/"
  chown --reference="$a/log" "$work/small"
  chmod 755 "$work/small"
  sed -i "s|^  dir: log\$|  dir: $work/small|" "$a/mayfly.yaml"
  start || fail "start on the small disk"
  before=$(mayfly status --dir "$a" --json | jq .log_size)
  dd if=/dev/zero of="$work/small/fill" bs=64k status=none 2>/dev/null || true
  corridor_load run "$a/run/signer.sock" test.example 600 "$work/certs" full >/dev/null & # as long as that takes
  load=$!
  for _ in $(seq 600); do grep -q "signer stops.*log-disk" "$work/mayflyd.log" && break; sleep 0.1; done
  grep "signer stops.*log-disk" "$work/mayflyd.log" | tail -1 | has -i "space\|full" || fail "no word on the full disk"
  out=$(mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --timeout 2 --out "$work/full" 2>&1) && fail "a certificate that could not be logged"
  kill -TERM $load
  rm "$work/small/fill"
  wait $load || fail "the load saw what must not be"
  wait_ready || fail "no recovery once there was space"
  mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --timeout 20 --out "$work/full" >/dev/null || fail "no certificate once there was space"
  stop || true
  mayfly log verify --dir "$a" >/dev/null || fail "the log after a full disk"
  [ "$(mayfly log checkpoint --dir "$a" --json | jq .size)" -gt "$before" ] || fail "no growth"
  pass "disk full: $out"
else
  echo "skipped: disk full (needs root and mount)"
fi
