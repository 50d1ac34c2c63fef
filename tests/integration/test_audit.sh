#!/bin/bash
# Search in the log, as an auditor and an operator do it: every filter over the admin socket and from
# the command line, in JSON, JSON lines and CSV; the index deleted and garbled while the daemon runs;
# who may ask; and how the log's own files are served.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
export XDG_CACHE_HOME=$work/cache
web=spiffe://test.example/web db=spiffe://test.example/web/db server=spiffe://test.example/webserver
for id in $web $db $server; do
  entry "$id"
  mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --out "$work/${id##*/}" >/dev/null || fail "fetch $id"
done
ask() { curl -s --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/$1"; } # over the admin socket
search() { mayfly log search --dir "$a" "$@"; }
size_of() { mayfly log checkpoint --dir "$a" --json | jq .size; }
indexed() { # until the index has all that was published
  local size
  size=$(size_of)
  for _ in $(seq 600); do
    [ "$(ask stats | jq '.indexed // 0')" -ge "$size" ] 2>/dev/null && return 0
    sleep 0.1
  done
  return 1
}
published
indexed || fail "the index does not catch up: $(ask stats | cut -c1-200)"

# --- every filter, over both ways -----------------------------------------------------------------
cert=$work/web/svid.pem
serial=$(openssl x509 -in "$cert" -noout -serial | cut -d= -f2)
index=$((16#${serial: -12}))
key=$(openssl x509 -in "$cert" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)
entry_id=$(mayfly entry show --dir "$a" "$web" --json | jq -r .id)
both() { # count filter value [option]: as many by the socket as by the command line, all proven
  local want=$1 name=$2 value=$3 option=${4:---${2}} n m
  n=$(ask "entries?outcome=issued&$name=$(jq -rn --arg v "$value" '$v | @uri')" | jq '.entries | length')
  m=$(search --outcome issued "$option" "$value" --json | jq '.entries | length')
  [ "$n" = "$want" ] && [ "$m" = "$want" ] || fail "$name=$value finds $n by the socket and $m by the command line, not $want"
}
both 1 spiffe_id "$web" --id
both 2 prefix "$web"
both 1 prefix "$server"
both 1 serial "$serial"
both 1 key "$key"
both 3 attestor join_token
both 1 entry "$entry_id"
both 0 agent "spiffe://test.example/nobody"
both 0 rule "no-such-rule"
both 0 spiffe_id "x' OR '1'='1" --id
both 0 from 4000000000
both 0 to 1000000000
both "$(search --outcome issued --json | jq '.entries | length')" from 2020-01-01T00:00:00Z
[ "$(ask "entries?serial=$serial" | jq '.entries[0].index')" = $index ] || fail "serial finds another entry"
[ "$(ask "entries?serial=$serial" | jq -r '.entries[0].serial')" = "$(tr A-F a-f <<<"$serial" | sed 's/^0*//')" ] || fail "the answer's serial"
[ "$(ask 'entries?outcome=issued&order=oldest&limit=1' | jq '.entries[0].index')" = 1 ] || fail "oldest first"
newest=$(ask 'entries?outcome=issued&limit=2')
[ "$(jq '.entries | map(.index) | . == (sort | reverse)' <<<"$newest")" = true ] || fail "newest first"
next=$(jq -r .next <<<"$newest")
[ "$(ask "entries?outcome=issued&limit=2&cursor=$next" | jq --argjson p "$newest" '.entries[0].index < $p.entries[1].index')" = true ] || fail "the next page"
pass "filters and pages"

# --- what is refused ---------------------------------------------------------------------------------
problem() { # text query
  ask "entries?$2" | jq -r .detail | has -i -- "$1" || fail "'$2' is not refused with '$1': $(ask "entries?$2" | cut -c1-300)"
}
problem "there are: spiffe_id, prefix" "colour=red"
problem "twice" "limit=1&limit=2"
problem "1 to 1000" "limit=5000"
problem "cursor is none" "cursor=AAAA"
problem "another question" "cursor=$next&outcome=refused"
problem "two hex digits" "spiffe_id=%zz"
problem "64 hex digits" "key=abc"
refuses 2 "1 to 1000" search --limit 0
refuses 2 "did you mean --prefix" search --prefx x
refuses 2 "say --format" mayfly log export --dir "$a"
pass "refused with words"

# --- formats --------------------------------------------------------------------------------------------
cat >"$work/check.py" <<'PY'
import base64, csv, hashlib, io, json, sys
def sha(b): return hashlib.sha256(b).digest()
def root(index, size, leaf, path):  # RFC 9162 section 2.1.3.2
    fn, sn, r = index, size - 1, leaf
    for p in path:
        assert sn > 0
        if fn & 1 or fn == sn:
            r = sha(b"\1" + p + r)
            while not fn & 1 and fn:
                fn >>= 1; sn >>= 1
        else:
            r = sha(b"\1" + r + p)
        fn >>= 1; sn >>= 1
    assert sn == 0
    return r
def prove(checkpoint, entries):
    origin, size, head = checkpoint.split("\n")[:3]
    for e in entries:
        leaf = sha(b"\0" + base64.b64decode(e["entry"]))
        assert root(e["index"], int(size), leaf, [base64.b64decode(p) for p in e["proof"]]) == base64.b64decode(head), e["index"]
    return int(size)
kind, data = sys.argv[1], sys.stdin.read()
if kind == "json":
    d = json.loads(data)
    assert prove(d["checkpoint"], d["entries"]) == d["size"] and d["indexed"] >= 1
    print(len(d["entries"]))
elif kind == "jsonl":
    lines = [json.loads(l) for l in data.splitlines()]
    assert prove(lines[0]["checkpoint"], [l for l in lines[1:] if "index" in l]) == lines[0]["size"]
    print(sum("index" in l for l in lines[1:]))
else:
    rows = list(csv.reader(io.StringIO(data, newline=""), strict=True))
    assert rows[0][:2] == ["index", "outcome"] and all(len(r) == len(rows[0]) for r in rows), rows
    print(len(rows) - 1)
PY
check() { python3 "$work/check.py" "$1" || fail "not $1"; }
size=$(size_of)
[ "$(ask 'entries?limit=1000' | check json)" -ge "$size" ] || fail "JSON leaves entries out"
[ "$(ask 'entries?limit=1000&format=jsonl' | check jsonl)" -ge "$size" ] || fail "JSON lines leave entries out"
[ "$(ask 'entries?limit=1000&format=csv' | check csv)" -ge "$size" ] || fail "CSV leaves entries out"
[ "$(search --all --json | check json)" -ge "$size" ] || fail "search --all --json"
[ "$(search --all --csv | check csv)" -ge "$size" ] || fail "search --all --csv"
[ "$(mayfly log export --dir "$a" --format jsonl | check jsonl)" -ge "$size" ] || fail "export --format jsonl"
[ "$(mayfly log export --dir "$a" --format csv | check csv)" -ge "$size" ] || fail "export --format csv"
[ "$(mayfly log export --dir "$a" --format csv --from 4000000000 | check csv)" = 0 ] || fail "export --from"
curl -s -D "$work/headers" -o /dev/null --unix-socket "$a/run/admin.sock" "http://mayfly/audit/v1/entries?limit=1&format=csv"
grep -qi '^link: <?limit=1&format=csv&cursor=[A-Za-z0-9_-]*>;rel="next"' "$work/headers" || fail "no Link to the next page: $(cat "$work/headers")"
search --prefix "$web" | has "^$index .*issued *$web " || fail "the table for people"
ask stats | jq -e '(.hours | length) == 48 and (.days | length) == 90 and .days[-1].issued >= 3 and (.lifetimes | map(.count) | add) >= 3' >/dev/null || fail "stats: $(ask stats | cut -c1-400)"
pass "JSON, JSON lines, CSV, each proof checked by a stranger"

# --- who may ask ------------------------------------------------------------------------------------------
c="curl -s --cacert $a/ca/root.pem"
[ "$($c -o "$work/denied" -w '%{http_code}' "$url/audit/v1/entries")" = 403 ] || fail "open to everybody by default"
jq -r .detail "$work/denied" | has "audit.access: public" || fail "403 does not say what to do"
pass "closed by default"

# --- an index of one's own, a mirror, no server --------------------------------------------------------------
cp -a "$a/log" "$work/mirror"
vkey=$(mayfly status --dir "$a" --json | jq -r .vkey)
[ "$(mayfly log search --log "$work/mirror" --vkey "$vkey" --index "$work/own.db" --outcome issued --prefix "$web" --json | jq '.entries | length')" = 2 ] || fail "search in a mirror"
printf garbage >"$work/own.db"
mayfly log search --log "$work/mirror" --vkey "$vkey" --index "$work/own.db" --id "$web" --json 2>/dev/null | check json >/dev/null
[ "$(cat "$work/own.db.damaged")" = garbage ] || fail "what was no index is gone"
refuses 1 "another program" mayfly log search --log "$work/mirror" --vkey "$vkey" --index "$a/store/mayfly.db" --id "$web"
bundle=$(find "$work/mirror/tile/entries" -type f | sort -V | tail -1) # of the published head
cp "$bundle" "$work/bundle"
printf 'X' | dd of="$bundle" bs=1 seek=$(($(stat -c %s "$bundle") - 5)) conv=notrunc status=none # in its last entry
refuses 5 "damaged\|inclusion" mayfly log search --log "$work/mirror" --vkey "$vkey" --index "$work/own.db" --limit 5
refuses 5 "damaged\|inclusion" mayfly log export --log "$work/mirror" --vkey "$vkey" --format csv
cp "$work/bundle" "$bundle"
pass "without a server"

# --- the index, deleted and garbled while the daemon runs ------------------------------------------------------
still() { # what
  for _ in $(seq 600); do
    [ "$(ask "entries?spiffe_id=$web&outcome=issued" | jq '.entries | length' 2>/dev/null)" = 1 ] && { pass "$1: made again"; return; }
    sleep 0.1
  done
  fail "$1: $(ask "entries?spiffe_id=$web&outcome=issued" | cut -c1-300)"
}
rm -f "$a/store/audit.db"
for _ in $(seq 600); do [ -s "$a/store/audit.db" ] && break; sleep 0.1; done
[ -s "$a/store/audit.db" ] || fail "a deleted index is not made again"
still "deleted"
stop || fail "stop"
dd if=/dev/urandom of="$a/store/audit.db" bs=4096 seek=1 count=4 conv=notrunc status=none # tables, not the header
start || fail "start with a garbled index"
still "garbled inside"
stop || fail "stop"
printf 'this is no database at all, and longer than a hundred bytes, as the header of one is, so that all of it is read' >"$a/store/audit.db"
sed -i 's/^audit:.*//' "$a/mayfly.yaml"
echo "audit: {access: public}" >>"$a/mayfly.yaml"
start || fail "start with an index that is none"
still "replaced by something else"
dd if=/dev/urandom of="$a/store/audit.db" bs=4096 count=8 conv=notrunc status=none # below the running daemon
rm -f "$a/store/audit.db-wal"
for _ in $(seq 50); do ask "entries?spiffe_id=$web" >/dev/null; sleep 0.02; done
still "garbled while running"
$c -D "$work/headers" "$url/audit/v1/entries?prefix=$web&outcome=issued" | check json >/dev/null
grep -qi '^access-control-allow-origin: \*' "$work/headers" || fail "no CORS header on the public door"
pass "open to the public when told"

# --- the log's own files -------------------------------------------------------------------------------------
head_of() { tr -d '\r' <"$work/headers" | grep -i "^$1:" | cut -d' ' -f2-; }
partial=$(cd "$a/log/tile/entries" && find . -path '*.p/*' -type f -print -quit)
$c --compressed -D "$work/headers" -o "$work/got" "$url/log/tile/entries/${partial#./}"
cmp -s "$work/got" "$a/log/tile/entries/${partial#./}" || fail "a partial bundle is not served as its file"
[ "$(head_of vary)" = Accept-Encoding ] && [ "$(head_of access-control-allow-origin)" = '*' ] || fail "headers of a bundle: $(cat "$work/headers")"
! grep -qi immutable "$work/headers" || fail "a partial bundle is called immutable"
fill 300 "$work/certs" || fail "load"
eventually test -s "$a/log/tile/entries/000" || fail "no full bundle"
$c --compressed -D "$work/headers" -o "$work/got" "$url/log/tile/entries/000"
cmp -s "$work/got" "$a/log/tile/entries/000" || fail "a full bundle is not served as its file"
[ "$(head_of content-encoding)" = gzip ] && [ "$(head_of vary)" = Accept-Encoding ] || fail "a full bundle is not compressed: $(cat "$work/headers")"
grep -qi '^cache-control:.*immutable' "$work/headers" || fail "a full bundle is not immutable"
pass "tiles"

# --- a log that went back ----------------------------------------------------------------------------------------
indexed || fail "the index does not catch up with a load"
stop || fail "stop"
rm -rf "$a/log"; cp -a "$work/mirror" "$a/log"
start || fail "start with an older copy of the whole log"
for _ in $(seq 600); do grep -q "the log went back" "$work/mayflyd.log" && break; sleep 0.1; done
grep "the log went back" "$work/mayflyd.log" | has -i error || fail "nobody says that the log went back"
still "an older log"
stop || fail "stop"
