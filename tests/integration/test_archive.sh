#!/bin/bash
# Old tiles moved to an archive beside a running daemon: killed at each step, nothing is lost, every URL,
# proof, search and start is as before; and an archive that is away is named.
. "$(dirname "$0")/lib.sh"
init
export XDG_CACHE_HOME=$work/cache
start || fail "mayflyd did not become ready"
oldest() { find "$a/log/journal" -name '0*' -printf '%f\n' | sort | head -1 | sed 's/^0*//'; }
for _ in $(seq 60); do
  corridor_load run "$a/run/signer.sock" test.example 3 "$work/certs" full >/dev/null || fail "load"
  for _ in $(seq 15); do [ "$(oldest)" ] && break; sleep 0.1; done # the journal lets go of its first part
  [ "$(oldest)" ] && break
done
[ "$(oldest)" ] || fail "the journal never began a second segment"
to=$work/archive
move=(mayfly log archive --dir "$a")

# --- who must know --------------------------------------------------------------------------------------
refuses 2 "to is needed" "${move[@]}"
refuses 2 "not both" "${move[@]}" --to "$to" --keep 1 --older-than 1d
refuses 1 "does not name $to" "${move[@]}" --to "$to"
sed -i "s,^log:.*{,&archive: [$to]\, ,; t; /^log:/a\\  archive: [$to]" "$a/mayfly.yaml"
refuses 1 "the running daemon cannot read $to" "${move[@]}" --to "$to"
[ ! -e "$to" ] || fail "a refused command made the folder"
stop || fail "the daemon's end"
start || fail "not ready with an archive that is not there"
mkdir "$to" # too late for the sandbox of what runs
if grep -q '"role":"frontend","seccomp":"allow list","landlock":"[1-9]' "$work/mayflyd.log"; then
  refuses 1 "the running daemon cannot read $to" "${move[@]}" --to "$to"
fi
stop || fail "the daemon's end"
start || fail "not ready with an archive"

# --- what is served, before ---------------------------------------------------------------------------------
cp -a "$a/log" "$work/whole"
(cd "$work/whole" && find tile -type f ! -path '*.p/*' | sort) >"$work/names"
same() { # every full tile under /log, as it was
  while read -r name; do
    curl -sf --cacert "$a/ca/root.pem" "$url/log/$name" | cmp -s - "$work/whole/$name" || fail "/log/$name is not what it was"
  done < <(awk 'NR % 3 == 1 || /000$/' "$work/names")
}
stays() { # whatever was and is: the log is whole, with its archive
  mayfly log verify --dir "$a" --json | jq -e '.ok' >/dev/null || fail "the log does not verify $1"
}
"${move[@]}" --to "$to" --keep 5000 --dry-run --json >"$work/dry"
jq -e '.dry_run and .bundles > 8 and .tiles == 0 and .entries_below == .bundles * 256' "$work/dry" >/dev/null || fail "$(cat "$work/dry")"
[ -z "$(ls "$to")" ] || fail "a dry run wrote something"
jq -e '.bundles == 0' <<<"$("${move[@]}" --to "$to" --older-than 1d --dry-run --json)" >/dev/null || fail "nothing is a day old"

# --- moved, and killed meanwhile -----------------------------------------------------------------------------
if [ "$(nm -C "$build/mayfly" 2>/dev/null | grep -c fault_at)" -gt 0 ]; then
  exec 4>&2 2>"$work/killed" # where the shell says whom it saw killed
  for point in "archive-copied kill 3" "archive-synced kill" "archive-removing kill 2" "archive-copied kill" "archive-removing kill 5"; do
    echo "$point" >"$work/fault"
    got=0; MAYFLY_FAULT_FILE=$work/fault "${move[@]}" --to "$to" >/dev/null 2>&1 || got=$?
    [ $got = 137 ] || fail "'$point' did not kill it: $got"
    stays "after '$point'"
  done
  exec 2>&4
fi
"${move[@]}" --to "$to" --keep 5000 --json >"$work/moved"
"${move[@]}" --to "$to" >"$work/out"
grep -q "^of [0-9]* entries, those below [0-9]* are there" "$work/out" || fail "$(cat "$work/out")"
jq -e '.bundles == 0' <<<"$("${move[@]}" --to "$to" --json)" >/dev/null || fail "there was more to move"
"${move[@]}" --to "$to" --keep 5000 >"$work/out" # more is there already
grep -q "^of [0-9]* entries, at least those below [0-9]* are there" "$work/out" || fail "--keep after more was moved: $(cat "$work/out")"
archives=(); for i in $(seq 9); do archives+=(--archive "$to"); done
refuses 2 "at most 8" mayfly log verify --dir "$a" "${archives[@]}"
[ ! -e "$a/log/tile/entries/000" ] && cmp -s "$to/tile/entries/000" "$work/whole/tile/entries/000" || fail "bundle 0 was not moved"
[ -e "$a/log/tile/0/000" ] || fail "a tile of level 0 that a start needs was moved"
[ -z "$(find "$to" -path '*.p/*')" ] || fail "a partial tile was moved"
pass "old entries are moved, whenever it is killed"

# --- as before -------------------------------------------------------------------------------------------------
same
stays "with its archive"
mayfly log show --dir "$a" 7 | has "^entry 7 of .*inclusion verified" || fail "show"
mayfly log export --dir "$a" --format csv | has -c '^7,' || fail "export"
mayfly log search --dir "$a" --id spiffe://test.example/mayfly/server --oldest --json | jq -e '.entries[0].index < 10' >/dev/null || fail "search"
curl -s --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?outcome=issued&order=oldest&limit=1" | jq -e '.entries[0].index == 1' >/dev/null || fail "search by the socket"
refuses 5 "tile/entries/000 is missing" mayfly log verify --log "$a/log" --vkey "$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)"
mayfly log verify --log "$a/log" --archive "$to" --vkey "$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)" >/dev/null || fail "--archive"
entry spiffe://test.example/web
mayfly-agent fetch --server "$url" --id spiffe://test.example/web --token "$(token spiffe://test.example/web)" --out "$work/web" >/dev/null || fail "issuance"
stop || fail "the daemon's end"
rm -f "$a"/store/audit.db*
start || fail "not ready after the move" # a first start: the whole log is checked
same
stays "after a restart"
for _ in $(seq 600); do
  curl -s --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?outcome=issued&order=oldest&limit=1" | jq -e '.entries[0].index == 1' >/dev/null 2>&1 && break
  sleep 0.1
done
curl -s --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?outcome=issued&order=oldest&limit=1" | jq -e '.entries[0].index == 1' >/dev/null || fail "the index is not made again"
pass "every URL, proof and search is as before"

# --- the archive away --------------------------------------------------------------------------------------------
mv "$to" "$to.away"
status=$(curl -s -o "$work/out" -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/log/tile/entries/000")
[ "$status" = 503 ] && grep -q "archive" "$work/out" || fail "/log without the archive: $status $(cat "$work/out")"
refuses 3 "archive $to" mayfly log verify --dir "$a"
refuses 3 "archive $to" mayfly log show --dir "$a" 7
mayfly-agent fetch --server "$url" --id spiffe://test.example/web --token "$(token spiffe://test.example/web)" --out "$work/web2" >/dev/null || fail "issuance without the archive"
kill -KILL "$(child signer)" # starts again, without it
for _ in $(seq 600); do [ "$(child signer)" ] && mayfly status --dir "$a" >/dev/null 2>&1 && break; sleep 0.1; done
mayfly-agent fetch --server "$url" --id spiffe://test.example/web --token "$(token spiffe://test.example/web)" --out "$work/web3" >/dev/null || fail "a signer's start without the archive"
stop || fail "the daemon's end"
mkdir "$to" # as an unmounted disk leaves it
start || fail "a daemon's start without the archive"
status=$(curl -s -o "$work/out" -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/log/tile/entries/000")
[ "$status" = 503 ] || fail "/log with an unmounted archive: $status"
refuses 3 "archive $to" mayfly log verify --dir "$a"
mayfly-agent fetch --server "$url" --id spiffe://test.example/web --token "$(token spiffe://test.example/web)" --out "$work/web4" >/dev/null || fail "issuance after a start without the archive"
stop || fail "the daemon's end"
rmdir "$to"
mv "$to.away" "$to"
start || fail "not ready with the archive back"
stays "when the archive is back"
status=$(curl -s -o /dev/null -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/log/tile/entries/999")
[ "$status" = 404 ] || fail "a tile that never was: $status"
mkdir "$work/else" && echo x >"$work/else/file"
sed -i "s,archive: \[,&$work/else\, ," "$a/mayfly.yaml"
stop || fail "the daemon's end"
refuses 1 "neither empty nor an archive" "${move[@]}" --to "$work/else"
pass "an archive that is away, and what is none, are named"
