#!/bin/bash
# Following a log: every kind of alert, resumed where it stopped, over HTTPS as from the folder, forks kept
# as evidence, alerts delivered or not passed over.
. "$(dirname "$0")/lib.sh"
log=$a/log state=$work/state
mon() { # exit-status options...: one round, alerts as JSON lines in $work/out
  local want=$1 got=0
  shift
  mayfly log monitor --dir "$a" --state "$state" --once --json "$@" >"$work/out" 2>"$work/err" || got=$?
  [ $got = "$want" ] || fail "monitor $* ended with $got, not $want: $(cat "$work/out" "$work/err")"
}
alerts() { jq -r .rule "$work/out" | sort | uniq -c | awk '{print $2 "=" $1}' | paste -sd' '; }
said() { [ "$(alerts)" = "$1" ] || fail "alerts '$(alerts)', not '$1': $(cat "$work/out")"; pass "alerts: ${1:-none}"; }
size() { mayfly log checkpoint --dir "$a" --json | jq .size; }
settled() { # until the published log has so many entries
  for _ in $(seq 600); do [ "$(size)" -ge "$1" ] && return; sleep 0.05; done
  fail "the log has $(size) entries, not $1"
}
id=spiffe://test.example
quiet() { # until the daemon's own certificate is published, the last entry of a start
  for _ in $(seq 600); do mayfly log export --dir "$a" --format csv | has "$id/mayfly/server" && return; sleep 0.05; done
  fail "publishing stands still"
}
get() { # name: a certificate for $id/name
  entry "$id/$1"
  mayfly-agent fetch --server "$url" --id "$id/$1" --token "$(token "$id/$1")" --out "$work/$1" >/dev/null || fail "fetch $1"
}
init
cp -a "$a" "$work/twin" # to be the same authority with another history
start || fail "mayflyd did not become ready"
vkey=$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)
quiet

# --- from the present head on ------------------------------------------------------------------------
refuses 2 "state is needed" mayfly log monitor --dir "$a" --once
refuses 2 "needs --vkey" mayfly log monitor --url "$url/log" --state "$state" --once
refuses 2 "no SPIFFE ID\|neither a SPIFFE ID" mayfly log monitor --dir "$a" --state "$state" --allow '*' --once
mon 0 --changes --allow "$id/web"
said ""
[ "$(stat -c %a "$state")" = 600 ] || fail "the state is $(stat -c %a "$state")"
mayfly log checkpoint --dir "$a" | head -3 | cmp - <(head -3 "$state") || fail "the state is not the head"

# --- the rules ----------------------------------------------------------------------------------------
n=$(size)
get web
get db
get dbx
mayfly revoke --dir "$a" --id "$id/db" --reason keyCompromise >/dev/null
spent=$(token "$id/web")
for i in 1 2; do
  mayfly-agent fetch --server "$url" --id "$id/web" --token "$spent" --out "$work/spent$i" >/dev/null 2>&1 || true
done
rm -r "$work/spent1"
settled $((n + 9)) # three entries made, four certificates, a revocation, a refusal
key=$(openssl x509 -in "$work/web/svid.pem" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)
printf '# the web server\n%s\n' "$key" >"$work/keys"
cp "$state" "$work/before"
again() { cp "$work/before" "$state"; } # the same entries once more
mon 0
said ""
again; mon 6 --allow "$id/web" --allow "$id/db/*"
said "outside-pattern=4" # two entries made, two certificates; db itself is not below db
jq -e --arg id "$id/dbx" 'select(.outcome == "issued" and .spiffe_id == $id and .log and .index and (.key | length == 64))' "$work/out" >/dev/null || fail "$(cat "$work/out")"
again; mon 0 --allow "$id/*"
again; mon 6 --known-keys "$work/keys"
said "unknown-key=3"
again; mon 6 --refusals --revocations
said "refusal=1 revocation=1"
again; mon 6 --changes
said "entry-change=3"
again; mon 6 --attestor x509pop
said "attestor=4"
again; mon 0 --attestor x509pop,join_token
again; mon 6 --max-lifetime 1m
said "entry-lifetime=4"
again; mon 6 --max-lifetime 1m --from-start # there is a state
said "entry-lifetime=4"
mon 0 --refusals --max-lifetime 1m # nothing is new
said ""
rm "$state"; mon 6 --from-start
[[ "$(alerts)" == "ca-certificate=2 jwt-key=1" ]] || fail "from the start: $(alerts)"
cp "$work/before" "$state"
got=0; mayfly log monitor --dir "$a" --state "$state" --once --refusals >"$work/out" || got=$?
[ $got = 6 ] && grep -q '^ALERT \[refusal\] entry [0-9]*: ' "$work/out" || fail "for people: $(cat "$work/out")"
pass "each rule alerts, and only where it is asked for"

# --- over HTTPS ------------------------------------------------------------------------------------------
over=(mayfly log monitor --url "$url/log" --vkey "$vkey" --cacert "$a/ca/root.pem" --state "$work/remote" --once --json)
got=0; "${over[@]}" --from-start --refusals >"$work/out" 2>&1 || got=$?
[ $got = 6 ] || fail "--url: $got $(cat "$work/out")"
said "ca-certificate=2 jwt-key=1 refusal=1"
mayfly log checkpoint --dir "$a" | head -3 | cmp - <(head -3 "$work/remote") || fail "the remote state is not the head"
n=$(size)
get other
settled $((n + 2))
got=0; "${over[@]}" --allow "$id/web" >"$work/out" 2>&1 || got=$?
[ $got = 6 ] || fail "--url again: $got $(cat "$work/out")"
said "outside-pattern=2"
"${over[@]}" >/dev/null || fail "nothing new over --url"
refuses 3 "log/checkpoint" mayfly log monitor --url "$url/log" --vkey "$vkey" --state "$work/remote" --once # not the system's root
refuses 3 "there is none" mayfly log monitor --url "$url/nothing" --vkey "$vkey" --cacert "$a/ca/root.pem" --state "$work/remote" --once
other=$(mayfly log witness --init --state "$work/w" --key "$work/w.key" --name w.example.net)
printf 'log %s\nwitness w %s\nquorum w\n' "$vkey" "$other" >"$work/policy"
mon 6 --policy "$work/policy"
[[ "$(alerts)" == *quorum=1* ]] || fail "policy: $(cat "$work/out")"
sed -i 's/^quorum .*/quorum none/' "$work/policy"
mon 0 --policy "$work/policy"
touch -d '1 hour ago' "$state"
mon 0 --max-age 2h
mon 6 --max-age 30m
said "log-stale=1"
pass "a log is followed over HTTPS; a policy, and a log that stands still"

# --- the webhook -----------------------------------------------------------------------------------------
hook_port=$(free_port)
cat >"$work/hook.py" <<'PY'
import http.server, os, sys
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        down = os.path.exists(sys.argv[2] + ".down")
        if not down:
            with open(sys.argv[2], "ab") as f:
                f.write(body + b"\n")
        self.send_response(500 if down else 204)
        self.end_headers()
    def log_message(self, *a):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
PY
cp "$work/before" "$state"
refuses 3 "did not reach the webhook" mayfly log monitor --dir "$a" --state "$state" --once --refusals --webhook "http://127.0.0.1:$hook_port/x" --webhook-tries 1
cmp -s "$work/before" "$state" || fail "the state went on, and the alert was not delivered"
touch "$work/hooked.down"
python3 "$work/hook.py" "$hook_port" "$work/hooked" &
for _ in $(seq 600); do (exec 3<>"/dev/tcp/127.0.0.1/$hook_port") 2>/dev/null && break; sleep 0.05; done
refuses 3 "the webhook answers 500" mayfly log monitor --dir "$a" --state "$state" --once --refusals --webhook "http://127.0.0.1:$hook_port/x" --webhook-tries 1
cmp -s "$work/before" "$state" || fail "the state went on, and the alert was refused"
# One that follows keeps what it could not deliver, says it once, and goes on when it can.
mayfly log monitor --dir "$a" --state "$state" --refusals --webhook "http://127.0.0.1:$hook_port/x" --webhook-tries 1 --interval 1 --json >"$work/out" 2>"$work/err" &
follower=$!
for _ in $(seq 600); do [ -s "$work/out" ] && break; sleep 0.05; done
rm "$work/hooked.down"
for _ in $(seq 600); do [ -s "$work/hooked" ] && ! cmp -s "$work/before" "$state" && break; sleep 0.05; done
jq -e --arg log "$(sed -n 1p "$state")" '.log == $log and (.alerts | length == 1) and .alerts[0].rule == "refusal"' "$work/hooked" >/dev/null || fail "posted: $(cat "$work/hooked")"
[ "$(wc -l <"$work/out")" = 1 ] || fail "shown more than once: $(cat "$work/out")"
kill -TERM $follower
got=0; wait $follower || got=$?
[ $got = 0 ] || fail "the follower ended with $got: $(cat "$work/err")"
pass "alerts are delivered before the head is kept"

# More than one request takes, and more than one round names: each is posted once, and the rest counted.
many=$(bench_loggen --out "$work/many" --entries 12000 --ids 200 2>/dev/null) || fail "bench_loggen"
: >"$work/nokeys"
rm "$work/hooked"
got=0; mayfly log monitor --log "$work/many" --vkey "$many" --state "$work/many.state" --from-start --once --json --known-keys "$work/nokeys" \
  --webhook "http://127.0.0.1:$hook_port/x" >"$work/out" 2>"$work/err" || got=$?
[ $got = 6 ] || fail "many alerts end with $got: $(cat "$work/err")"
[ "$(wc -l <"$work/out")" = 10001 ] && tail -1 "$work/out" | jq -e '.rule == "more-alerts"' >/dev/null || fail "$(tail -1 "$work/out")"
jq -c '.alerts[]' "$work/hooked" | cmp - <(jq -c . "$work/out") || fail "what was posted is not what was shown"
[ "$(wc -l <"$work/hooked")" -gt 100 ] || fail "in few requests"
pass "many alerts are posted in batches, and what is too much is counted"

# --- what cannot be shown, or kept ------------------------------------------------------------------------
following() { # options...: follows in the background, as $follower
  mayfly log monitor --dir "$a" --interval 1 --json "$@" 2>"$work/err" &
  follower=$!
}
rounds() { # n text: until standard error says so n times
  for _ in $(seq 600); do [ "$(grep -c "$2" "$work/err")" -ge "$1" ] && return; sleep 0.05; done
  fail "no '$2' $1 times: $(cat "$work/err")"
}
ends() { # exit-status: by itself
  got=0; wait $follower || got=$?
  [ $got = "$1" ] || fail "the follower ended with $got, not $1: $(cat "$work/err")"
}
cp "$work/before" "$state"
following --state "$state" --refusals >/dev/full
rounds 2 "cannot write the alerts"
kill -TERM $follower
ends 3
cmp -s "$work/before" "$state" || fail "the state went on, and the alert was not shown"
# Nobody reads it any more: told with an exit status, and the webhook has it all the same.
mkfifo "$work/pipe"
exec 7<>"$work/pipe" 8>"$work/pipe" 7>&-
rm "$work/hooked"
following --state "$state" --refusals --webhook "http://127.0.0.1:$hook_port/x" >&8
ends 3
exec 8>&-
jq -e '.alerts[0].rule == "refusal"' "$work/hooked" >/dev/null && cmp -s "$work/before" "$state" || fail "a pipe without a reader"
pass "alerts that cannot be shown are not passed over"

# A state that cannot be kept: said at the start, and later the head alone is tried again.
refuses 1 "cannot write to the folder $work/none" mayfly log monitor --dir "$a" --state "$work/none/state" --once
# Then what does not verify comes, and is not kept in its place.
cp -a "$log" "$work/away-log"
mkdir "$work/gone" && cp "$work/before" "$work/gone/state"
touch "$work/hooked.down"
rm "$work/hooked"
mayfly log monitor --log "$work/away-log" --vkey "$vkey" --state "$work/gone/state" --refusals --interval 1 --json \
  --webhook "http://127.0.0.1:$hook_port/x" --webhook-tries 1 >"$work/out" 2>"$work/err" &
follower=$!
rounds 1 "the webhook answers 500"
mv "$work/gone" "$work/gone.away" # as a disk that is unmounted
rm "$work/hooked.down"
rounds 2 "$work/gone"
said "refusal=1"
[ "$(wc -l <"$work/hooked")" = 1 ] || fail "posted again where the head was not kept: $(cat "$work/hooked")"
cp "$work/away-log/checkpoint" "$work/verified"
n=$(size)
get more
settled $((n + 2))
rm -r "$work/away-log"
cp -a "$log" "$work/away-log"
bundle=$(ls -d "$work"/away-log/tile/entries/000.p/* | sort -V | tail -1)
printf '\377' | dd of="$bundle" bs=1 seek=$(($(stat -c %s "$bundle") - 100)) conv=notrunc status=none
rounds 3 "$work/gone"
mv "$work/gone.away" "$work/gone"
for _ in $(seq 600); do [ "$(wc -l <"$work/hooked")" = 2 ] && break; sleep 0.05; done
kill -TERM $follower
ends 0
said "log-bitflip=1 refusal=1"
cmp "$work/verified" "$work/gone/state" || fail "the verified head is not what was kept"
pass "a head that could not be kept is kept later, alone, and none that did not verify"

# --- what is asked for and cannot be -----------------------------------------------------------------------
for bad in https:// 'http://a b/' ftp://a/ http://:80/; do
  refuses 2 "webhook: https" mayfly log monitor --dir "$a" --state "$state" --once --webhook "$bad"
  refuses 2 "url: https" mayfly log monitor --url "$bad" --vkey "$vkey" --state "$work/remote" --once
done
refuses 2 "cacert is for --url" mayfly log monitor --dir "$a" --state "$state" --once --cacert "$a/ca/root.pem"
refuses 1 "$work/nonex.pem" mayfly log monitor --url "$url/log" --vkey "$vkey" --state "$work/remote" --once --cacert "$work/nonex.pem"
refuses 1 "no certificates" mayfly log monitor --url "$url/log" --vkey "$vkey" --state "$work/remote" --once --cacert "$work/keys"

# --- forks and rollbacks ------------------------------------------------------------------------------------
stop || fail "the daemon's end"
mon 0 --allow "$id/*" # the last head
cp "$state" "$work/last"
# The log as it was at the beginning, the checkpoint signed: somebody put back an old copy.
got=0; mayfly log monitor --log "$work/twin/log" --vkey "$vkey" --state "$state" --once --json >"$work/out" || got=$?
[ $got = 7 ] || fail "a rollback ends with $got"
said "log-rollback=1"
ls "$state".fork-*-kept "$state".fork-*-seen >/dev/null || fail "no evidence"
cmp "$state" "$work/last" || fail "the state was overwritten"
# The same key with another history, longer than ours.
mv "$a" "$work/first"
mv "$work/twin" "$a"
start || fail "the twin did not become ready"
for i in $(seq 20); do entry "$id/twin$i"; done
settled $(($(sed -n 2p "$work/last") + 1))
got=0; mayfly log monitor --dir "$a" --state "$state" --once --json >"$work/out" || got=$?
[ $got = 7 ] || fail "a fork ends with $got: $(cat "$work/out")"
said "log-fork=1"
seen=$(ls -t "$state".fork-*-seen | head -1)
mkdir "$work/seen" && cp "$seen" "$work/seen/checkpoint" # signed by the same key, and longer
cmp "${seen%-seen}-kept" "$work/last" && mayfly log checkpoint --log "$work/seen" --vkey "$vkey" >/dev/null &&
  [ "$(sed -n 2p "$seen")" -gt "$(sed -n 2p "$work/last")" ] || fail "the evidence"
# Over HTTPS, too; and not only with --once.
cp "$work/last" "$work/remote"
got=0; timeout 60 mayfly log monitor --url "$url/log" --vkey "$vkey" --cacert "$a/ca/root.pem" --state "$work/remote" --json >"$work/out" 2>/dev/null || got=$?
[ $got = 7 ] || fail "a fork over HTTPS ends with $got: $(cat "$work/out")"
said "log-fork=1"

# --- damage ---------------------------------------------------------------------------------------------------
cp -a "$work/first/log" "$work/mirror"
hurt=(mayfly log monitor --log "$work/mirror" --vkey "$vkey" --state "$work/hurt" --from-start --once --json)
bundle=$(ls "$work/mirror/tile/entries/000.p" | sort -n | tail -1)
printf x | dd of="$work/mirror/tile/entries/000.p/$bundle" bs=1 seek=1500 conv=notrunc status=none
got=0; "${hurt[@]}" >"$work/out" || got=$?
[ $got = 5 ] || fail "damage ends with $got: $(cat "$work/out")"
said "log-bitflip=1"
[ ! -e "$work/hurt" ] || fail "a damaged log's head was kept"
echo garbage >"$work/hurt"
refuses 5 "that can be believed" "${hurt[@]}"
pass "forks, rollbacks and damage, each with an exit status of its own"
