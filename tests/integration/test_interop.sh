#!/bin/bash
# Our log and our witness before a verifier that this project did not write: filippo.io/torchwood, a
# C2SP tlog-tiles client in Go (tests/interop/torchwood). Without a Go toolchain, or the registry to
# have it from, it is skipped, but not in CI.
. "$(dirname "$0")/lib.sh"
command -v go >/dev/null || skipped "no Go to build the stranger with"
(cd "$root/tests/interop/torchwood" && go build -o "$work/stranger" .) || skipped "the stranger cannot be built here"
init
port_w=$(free_port)
witness_vkey=$(mayfly log witness --init --state "$work/w" --key "$work/w.key" --name w.example.net)
vkey=$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)
mayfly log witness --listen "127.0.0.1:$port_w" --state "$work/w" --key "$work/w.key" --log "$vkey" 2>"$work/w.log" &
echo "witnesses: {list: [{url: 'http://127.0.0.1:$port_w', vkey: '$witness_vkey'}]}" >>"$a/mayfly.yaml"
start || fail "mayflyd did not become ready"
id=spiffe://test.example/web
entry "$id"
fill 300 "$work/certs" || fail "load" # over a full tile
mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --out "$work/web" >/dev/null || fail "fetch"
index=$(mayfly log verify-cert "$work/web/svid.pem" --dir "$a" --json | jq .index)
printf 'log %s\nquorum none\n' "$vkey" >"$work/policy"
printf 'log %s\nwitness w %s\nquorum w\n' "$vkey" "$witness_vkey" >"$work/policy-cosigned"
stranger() { "$work/stranger" -url "$url/log" -ca "$a/ca/root.pem" "$@"; }

for _ in $(seq 600); do # cosigning trails publishing, and that the head
  mayfly log checkpoint --dir "$a" --policy "$work/policy-cosigned" >/dev/null 2>&1 && [ "$(mayfly log checkpoint --dir "$a" --json | jq .size)" -gt "$index" ] && break
  sleep 0.1
done
seen=$(stranger -policy "$work/policy" -cert "$work/web/svid.pem") || fail "a stranger does not believe us"
jq -e --argjson i "$index" '.size > 256 and .entries == .size and .proven == $i and .origin == "test.example/log1"' <<<"$seen" >/dev/null || fail "$seen"
pass "log and stapled proof: $seen"
seen=$(stranger -policy "$work/policy-cosigned") || fail "our witness is not believed"
jq -e '.signers == 2' <<<"$seen" >/dev/null || fail "$seen"
pass "cosigned: $seen"

# What it must not believe: its yes means something.
stop || fail "stop"
bundle=$a/log/tile/entries/000
printf 'X' | dd of="$bundle" bs=1 seek=2000 conv=notrunc status=none
: >"$work/http.log" # it is read before the job has made it
(cd "$a" && exec python3 -u -m http.server --bind 127.0.0.1 "$(free_port)") >"$work/http.log" 2>&1 &
for _ in $(seq 600); do
  served=$(sed -n 's/.*(\(http:[^)]*\)\/).*/\1/p' "$work/http.log")
  [ -n "$served" ] && break
  sleep 0.1
done
! "$work/stranger" -url "$served/log" -ca "$a/ca/root.pem" -policy "$work/policy" >"$work/out" 2>&1 || fail "a garbled entry is believed"
grep -q "^stranger: entry" "$work/out" || fail "refused for another reason: $(cat "$work/out")"
pass "a garbled entry is refused: $(cat "$work/out")"
