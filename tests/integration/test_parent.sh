#!/bin/bash
# The parent: a reload that cannot be served costs no reads and never the daemon; what a reload cannot
# change is refused; what no other start would mend ends the start once.
. "$(dirname "$0")/lib.sh"
init
id=spiffe://test.example/web
log=$work/mayflyd.log
: >"$log"
cp "$a/mayfly.yaml" "$work/mayfly.yaml"
says() { # text: waits until the daemon's log has one more such line than `seen` counted
  for _ in $(seq 600); do
    [ "$(grep -c -- "$1" "$log")" -gt "${2:-0}" ] && return 0
    kill -0 "$daemon" 2>/dev/null || fail "the daemon ended, instead of: $1"
    sleep 0.1
  done
  fail "the daemon did not say: $1"
}
count() { grep -c -- "$1" "$log" || true; }
code() { curl -s -o /dev/null -w '%{http_code}' --cacert "$a/ca/root.pem" "$url$1" || true; }

# Ready at once, then at once a reload that the signer cannot start with.
start || fail "mayflyd did not become ready"
entry "$id"
mayfly-agent fetch --server "$url" --token "$(token "$id")" --id "$id" --out "$work/web" >/dev/null || fail "fetch"
frontend=$(child frontend)
sed -i 's|^  module: .*|  module: /nonexistent/libsofthsm2.so|' "$a/mayfly.yaml"
kill -HUP "$daemon"
says "will not be started again by itself"
kill -0 "$daemon" || fail "a bad reload ended the daemon"
[ "$(code /log/checkpoint)" = 200 ] || fail "a bad reload ended reads"
[ "$(child frontend)" = "$frontend" ] || fail "the frontend was restarted for a signer that cannot serve"
[ -z "$(child signer)" ] || fail "a signer runs with a module that is not there"
cp "$work/mayfly.yaml" "$a/mayfly.yaml"
kill -HUP "$daemon"
for _ in $(seq 600); do [ -n "$(child frontend)" ] && [ "$(child frontend)" != "$frontend" ] && break; sleep 0.1; done
wait_ready || fail "not ready after the configuration was mended"
mayfly-agent fetch --server "$url" --id "$id" --out "$work/web" >/dev/null || fail "no issuance after the configuration was mended"
pass "a bad reload costs no reads, a good one brings issuance back"

# A terminal's Ctrl-C and hang-up reach the parent alone.
group() { ps -o pgid= -p "$1" | tr -d ' '; }
for role in signer frontend; do
  [ "$(group "$(child $role)")" = "$(child $role)" ] || fail "the $role is in another's process group"
done
frontend=$(child frontend)
kill -HUP "$frontend" "$(child signer)"
[ "$(code /log/checkpoint)" = 200 ] && [ "$(child frontend)" = "$frontend" ] || fail "SIGHUP ended the frontend"
pass "signals are the parent's"

# What needs a full restart is refused, and nothing of it is taken over.
signer=$(child signer)
refused() { # sed-expression key
  local before
  before=$(count "configuration not reloaded")
  sed "$1" "$work/mayfly.yaml" >"$a/mayfly.yaml"
  kill -HUP "$daemon"
  says "configuration not reloaded" "$before"
  grep "configuration not reloaded" "$log" | tail -1 | has -- "$2" || fail "no word on $2: $(tail -3 "$log")"
  cp "$work/mayfly.yaml" "$a/mayfly.yaml"
}
refused 's|^listen: .*|listen: 127.0.0.1:1|' "listen changed"
refused 's|^  dir: run|  dir: run2|' "run.dir changed"
refused '/signer_user/d; s|^run:|run: \n  signer_user: nobody1|' "run.signer_user changed"
refused '/frontend_user/d; s|^run:|run: \n  frontend_user: nobody2|' "run.frontend_user changed"
refused '/notary_user/d; s|^run:|run: \n  notary_user: nobody3|' "run.notary_user changed"
refused 's|^listen: .*|listen: nowhere|' "listen"
[ "$(child signer)" = "$signer" ] && [ "$(child frontend)" = "$frontend" ] || fail "a refused reload restarted something"
[ "$(mayfly status --dir "$a" --json | jq .ready)" = true ] || fail "a refused reload changed something"
pass "a refused reload changes nothing"

# The port is taken: worth another try later (1), unlike what follows (70).
sed 's|^  dir: run|  dir: run2|' "$work/mayfly.yaml" >"$a/mayfly.yaml"
start_expecting_exit
[ "$code" = 1 ] || fail "a taken port ended the daemon with $code"
grep -q "another daemon" "$work/refused.log" || fail "no word on the taken port: $(cat "$work/refused.log")"
cp "$work/mayfly.yaml" "$a/mayfly.yaml"
stop || fail "stop"

once_70() { # text
  start_expecting_exit
  [ "$code" = 70 ] || fail "the daemon ended with $code, not 70, where it should say: $1"
  grep -qi -- "$1" "$work/refused.log" || fail "no word on '$1': $(cat "$work/refused.log")"
  [ "$(grep -c '"started","role":"signer"\|"role":"signer".*"msg":"started"\|started role=signer' "$work/refused.log")" -le 1 ] || fail "tried again: $1"
}
mv "$a/secret/pin" "$work/pin"
(umask 077 && : >"$a/secret/pin")
once_70 "the secret is empty"
rm "$a/secret/pin"
mv "$work/pin" "$a/secret/pin"
sed 's|^  pin: .*|  pin: {fd: 77}|' "$work/mayfly.yaml" >"$a/mayfly.yaml"
once_70 "nobody passed"
with_user() { # signer frontend
  sed "/_user:/d; s|^run:|run:\n  signer_user: \"$1\"\n  frontend_user: \"$2\"|" "$work/mayfly.yaml" >"$a/mayfly.yaml"
}
with_user 4294967295:1 61711:61711
once_70 "ids go from 1"
if [ "$(id -u)" = 0 ]; then
  with_user 61710:61710 61710:61711
  once_70 "one user"
  with_user root 61711:61711
  once_70 "is root"
  # A process that speaks with hosts outside has a user of its own.
  { with_user 61710:61710 61711:61711; printf 'witnesses: {list: [{url: "http://127.0.0.1:1", vkey: "%s"}]}\n' \
    "witness.example.com/w1+7e6f4aaa+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea" >>"$a/mayfly.yaml"; }
  once_70 "run.notary_user is not"
  sed -i 's|^run:|run:\n  notary_user: 61711:61712|' "$a/mayfly.yaml"
  once_70 "one user"
fi
cp "$work/mayfly.yaml" "$a/mayfly.yaml"
sed 's|^store: .*|store: {path: mayfly.db}|' "$work/mayfly.yaml" >"$a/mayfly.yaml"
refuses 70 "keep them apart" mayflyd --config "$a"
# The folder that SoftHSM2's own configuration names.
cp "$a/token/softhsm2.conf" "$work/softhsm2.conf"
sed -i "s|^directories.tokendir = .*|directories.tokendir = $a/store/tokens|" "$a/token/softhsm2.conf"
cp "$work/mayfly.yaml" "$a/mayfly.yaml"
once_70 "keep them apart"
cp "$work/softhsm2.conf" "$a/token/softhsm2.conf"
start || fail "start at the end"
stop || fail "stop at the end"
pass "what cannot be mended by another start ends the start once"
