#!/bin/bash
# mTLS by proxies on both sides: rotations under load, refusals, draining, the agent's loss, confinement.
. "$(dirname "$0")/lib.sh"
run=$work/run
mkdir -p "$run"
metric() { curl -sf "http://127.0.0.1:$1/metrics" | sed -n "s/^$2 //p"; }
sum() { curl -sf "http://127.0.0.1:$1/metrics" | awk -v name="$2" 'index($0, name "{") == 1 { n += $NF } END { print n + 0 }'; }
is_ready() { curl -sf "http://127.0.0.1:$1/ready" >/dev/null 2>&1; } # http port
is_not_ready() { ! is_ready "$1"; }
until_ready() { eventually is_ready "$1"; }
says() { eventually grep -q -- "$2" "$1"; } # log words
echo_port=$(free_port)
bench_proxy_load echo "$echo_port" &

# --- a thousand rotations ---------------------------------------------------------------------------------------------
# So many must reach the proxies: who is too busy to take each is given the newest, so it makes as many as that takes.
count=${ROTATIONS:-$(times 1000 200)}
proxy_agent "$run" "${ROTATE_MS:-25}" $((count * 100)) &
agent=$!
eventually test -S "$run/client.sock" || fail "no agent"
sport=$(free_port) cport=$(free_port) shttp=$(free_port) chttp=$(free_port)
SPIFFE_ENDPOINT_SOCKET=unix://$run/server.sock mayfly-proxy server --listen "127.0.0.1:$sport" --to "127.0.0.1:$echo_port" \
  --allow spiffe://example.org/client --require-log-proof --http "127.0.0.1:$shttp" 2>"$work/server.log" &
server=$!
mayfly-proxy client --socket "unix://$run/client.sock" --listen "127.0.0.1:$cport" --to "localhost:$sport" \
  --allow 'spiffe://example.org/*' --require-log-proof --http "127.0.0.1:$chttp" 2>"$work/client.log" &
client=$!
until_ready "$shttp" || fail "the server's proxy is not ready: $(tail -3 "$work/server.log")"
until_ready "$chttp" || fail "the client's proxy is not ready: $(tail -3 "$work/client.log")"
proxy_load "$cport" 20 3 "$run/enough" >"$work/load.log" 2>&1 &
load=$!
rotated() { [ "$(metric "$1" mayfly_proxy_rotations_total)" -ge "$count" ]; }
until=$((SECONDS + 600))
until rotated "$shttp" && rotated "$chttp" || ! kill -0 $load 2>/dev/null || [ $SECONDS -gt $until ]; do sleep 0.2; done
touch "$run/enough"
wait $load || fail "under rotation: $(cat "$work/load.log" "$work/server.log" "$work/client.log" | grep -v '"identity"')"
rotated "$shttp" && rotated "$chttp" || fail "too few rotations reached the proxies"
for p in "$shttp" "$chttp"; do
  [ "$(sum "$p" mayfly_proxy_failed_total)" = 0 ] || fail "a handshake failed: $(curl -s "http://127.0.0.1:$p/metrics" | grep failed)"
done
[ "$(metric "$shttp" 'mayfly_proxy_peer_connections_total{peer="spiffe:\/\/example.org\/client"}')" -gt 20 ] || fail "the peer is not counted"
pass "$count rotations and more under load, nothing dropped: $(cat "$work/load.log")"

# --- confinement --------------------------------------------------------------------------------------------------------
grep -q '^NoNewPrivs:.*1' "/proc/$server/status" || fail "no_new_privs is not set"
grep -q '^Seccomp:.*2' "/proc/$server/status" || grep -q 'sanitized build' "$work/server.log" || fail "no seccomp filter"
pass "confined"

# --- the agent goes: the last identity is kept; it comes back -------------------------------------------------------------
kill "$agent"
wait "$agent" || true
rm -f "$run"/*.sock
sleep 0.5
curl -sf "http://127.0.0.1:$shttp/ready" >/dev/null || fail "not ready though its certificate is valid"
touch "$run/stop"
proxy_load "$cport" 1 1 "$run/stop" >/dev/null || fail "no connection without the agent"
pass "the agent's loss is survived"

# --- draining ---------------------------------------------------------------------------------------------------------------
exec 5<>"/dev/tcp/127.0.0.1/$cport"
echo before >&5
read -r -t 60 line <&5
[ "$line" = before ] || fail "no echo before draining"
kill -TERM "$server"
refused() { ! (exec 6<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
eventually refused "$sport" || fail "it goes on listening"
echo during >&5
read -r -t 60 line <&5
[ "$line" = during ] || fail "the connection did not survive draining"
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$shttp/ready")" = 503 ] || fail "ready while draining"
exec 5>&-
code=0
wait "$server" || code=$?
[ $code = 0 ] || fail "the server's proxy ended with $code"
pass "drained"
kill -TERM "$client"
wait "$client" || fail "the client's proxy did not end well"

# --- identities from a folder ---------------------------------------------------------------------------------------------
proxy_pki example.org /server="$work/folder" /client="$work/c" /other="$work/o" \
  '/client!='"$work/unlogged" "/client~-5=$work/old"
proxy_pki foreign.org /client="$work/foreign"
sport=$(free_port) shttp=$(free_port)
mayfly-proxy server --listen "127.0.0.1:$sport" --to "127.0.0.1:$echo_port" --allow spiffe://example.org/client \
  --require-log-proof --identity "$work/folder" --http "127.0.0.1:$shttp" 2>"$work/folder.log" &
server=$!
until_ready "$shttp" || fail "no identity from a folder: $(cat "$work/folder.log")"
[ "$(try "$work/c")" = hello ] || fail "an allowed peer was refused: $(cat "$work/folder.log")"
for who in other:denied:o unlogged:unlogged:unlogged old:expired:old foreign:foreign:foreign; do
  IFS=: read -r name why dir <<<"$who"
  [ -z "$(try "$work/$dir")" ] || fail "$name was let through"
  says "$work/folder.log" "\"why\":\"$why\"" || fail "$name: no line says $why: $(tail -2 "$work/folder.log")"
done
pass "peers refused: another, unlogged, expired, foreign; each with its reason"
before=$(metric "$shttp" mayfly_proxy_rotations_total)
kill -HUP "$server"
says "$work/folder.log" 'a changed configuration needs a restart' || fail "nothing was said of SIGHUP"
read_again() { [ "$(metric "$shttp" mayfly_proxy_rotations_total)" -gt "$before" ]; }
eventually read_again || fail "SIGHUP did not make it read the folder again"
[ "$(try "$work/c")" = hello ] || fail "an allowed peer was refused after SIGHUP: $(tail -3 "$work/folder.log")"
pass "SIGHUP ends nothing, and the folder is read again"

# --- a hundred connections, in 6 MB ---------------------------------------------------------------------------------------
# Not of a sanitizer's build, larger pages, or where the kernel gives huge ones unasked: that is their memory, not ours.
if ! grep -qE '__[at]san_init' "$build/mayfly-proxy" && [ "$(getconf PAGESIZE)" = 4096 ] &&
  ! grep -qs '\[always\]' /sys/kernel/mm/transparent_hugepage/{,hugepages-*/}enabled; then
  mport=$(free_port) mhttp=$(free_port)
  mayfly-proxy server --listen "127.0.0.1:$mport" --to "127.0.0.1:$echo_port" --allow spiffe://example.org/client --threads 1 \
    --require-log-proof --identity "$work/folder" --http "127.0.0.1:$mhttp" 2>"$work/memory.log" &
  small=$!
  until_ready "$mhttp" || fail "not ready: $(cat "$work/memory.log")"
  bench_proxy_load hold "$mport" "$work/c" 100 600 >"$work/held" &
  holds=$!
  says "$work/held" held || fail "no hundred connections: $(tail -3 "$work/memory.log")"
  # smaps_rollup counts pages; VmRSS, for who may not read that, is a sum that some kernels keep for each processor, and
  # add up a few pages short or over.
  resident() { { cat "/proc/$small/smaps_rollup" 2>/dev/null || cat "/proc/$small/status"; } | awk '/^(Rss|VmRSS):/ { print $2 }'; }
  in_6_mb() { rss=$(resident) && [ "$rss" -le 6144 ]; }
  eventually in_6_mb || fail "$rss kB resident with 100 connections"
  [ "$(sum "$mhttp" mayfly_proxy_open_connections)" = 100 ] || fail "there are no 100 connections any more"
  kill "$holds" && wait "$holds" || true
  kill -TERM "$small"
  wait "$small" || fail "the proxy did not end well"
  pass "100 connections in $rss kB"
fi

# --- its certificate runs out, and is replaced ------------------------------------------------------------------------------
for n in 4 15 50; do # one that has expired when it is read is not taken: on a busy machine it takes a longer one
  proxy_pki short.example "/server~$n=$work/short$n"
  mv "$work/short$n"/* "$work/folder/"
  end=$((SECONDS + n + 10))
  until is_not_ready "$shttp" || [ $SECONDS -gt $end ]; do sleep 0.1; done
  is_not_ready "$shttp" && break
done
says "$work/folder.log" 'our certificate has expired' || fail "nothing was said of our own expiry"
[ -z "$(try "$work/c")" ] || fail "served with an expired certificate"
[ "$(metric "$shttp" 'mayfly_proxy_failed_total{listener="127.0.0.1:'"$sport"'",reason="own_expired"}')" -ge 1 ] || fail "own_expired is not counted"
proxy_pki new.example /server="$work/new" # another authority: the folder is replaced as a whole
mv "$work/new"/* "$work/folder/"
until_ready "$shttp" || fail "the new identity was not taken: $(tail -3 "$work/folder.log")"
kill -TERM "$server"
wait "$server" || fail "the proxy did not end well"
pass "an expired certificate refuses, a new one serves again"

# --- command line and configuration ----------------------------------------------------------------------------------------
refuses 2 "nobody is allowed" mayfly-proxy server --listen 127.0.0.1:1 --to 127.0.0.1:2
refuses 2 "allow" mayfly-proxy server --listen 127.0.0.1:1 --to 127.0.0.1:2 --allow 'spiffe://example.org/a*'
refuses 2 "did you mean server" mayfly-proxy serve --listen 127.0.0.1:1
refuses 1 "must be there when the proxy starts" mayfly-proxy client --listen 127.0.0.1:0 --to "127.0.0.1:$echo_port" \
  --allow spiffe://example.org --identity "$work/nowhere"
refuses 2 "port" mayfly-proxy client --listen 127.0.0.1 --to x:1 --allow spiffe://example.org
cat >"$work/proxy.yaml" <<'Y'
listeners:
  - {mode: server, listen: "127.0.0.1:1", to: "127.0.0.1:2", allow: [spiffe://example.org/web], send_proxy: v2}
  - {mode: client, listen: "127.0.0.1:3", to: db:5432, allow: spiffe://example.org/db}
Y
mayfly-proxy -c "$work/proxy.yaml" --check | has good || fail "a good file was refused"
refuses 2 "the file says all" mayfly-proxy -c "$work/proxy.yaml" --check --log-level debug
echo "thread: 3" >>"$work/proxy.yaml"
refuses 2 "line 4: thread: unknown key" mayfly-proxy -c "$work/proxy.yaml" --check
