#!/bin/bash
# The README's tour of two services, as it stands there, on ports and in a folder of its own.
. "$(dirname "$0")/lib.sh"
export MAYFLY_DIR=$a
port=$(free_port)
api=$(free_port) tls=$(free_port) shop=$(free_port)
mayfly init --dir "$a" --trust-domain example.org --listen "127.0.0.1:$port" >/dev/null 2>&1
url=https://localhost:$port
start
awk '/^### Two services/{on = 1} on && /^```/{n++; next} on && n == 1 {print} n > 1 {exit}' "$root/README.md" >"$work/tour"
commands=$(grep -vcE '^  ' "$work/tour")
[ "$commands" -gt 3 ] && [ "$commands" -lt 10 ] || fail "the tour has $commands commands"
grep -q 'http.server .*--directory /usr/share/' "$work/tour" || fail "the tour serves a folder in which keys may lie"
sed -i "s|--directory /usr/share/[a-z0-9/]*|--directory .|; s|--state-dir ./agent|& --http unix:$work/here/http.sock|
s/:8443/:$port/; s/127.0.0.1:9443/127.0.0.1:$tls/; s/127.0.0.1:8080/127.0.0.1:$api/; s/127.0.0.1:9000/127.0.0.1:$shop/; s/http.server 8080/http.server $api/" "$work/tour"
mkdir "$work/here"
echo "hello from the api" >"$work/here/index.html"
cat >"$work/run" <<R
set -m
cd "$work/here"
$(cat "$work/tour")
kill %1 %2 %3 %4 2>/dev/null
R
timeout 300 bash "$work/run" >"$work/out" 2>"$work/tour.log" || true
has "hello from the api" <"$work/out" || { tail -20 "$work/tour.log"; fail "the tour's last command says: $(tail -3 "$work/out")"; }
pass "two services talk mTLS through the proxies in $commands commands"
stop
