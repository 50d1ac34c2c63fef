#!/bin/bash
# A quorum of witnesses: certificates that carry its cosignatures, and none without it.
. "$(dirname "$0")/lib.sh"
declare -A ports pids keys
log=$work/mayflyd.log
witness() { # name: starts it on its port
  local n=$1
  ports[$n]=${ports[$n]:-$(free_port)}
  : >"$work/$n.log"
  mayfly log witness --listen "127.0.0.1:${ports[$n]}" --state "$work/$n" --key "$work/$n.key" --log "$vkey" 2>>"$work/$n.log" &
  pids[$n]=$!
  for _ in $(seq 600); do
    grep -q '"witness ready"' "$work/$n.log" && (exec 3<>"/dev/tcp/127.0.0.1/${ports[$n]}") 2>/dev/null && return 0
    kill -0 "${pids[$n]}" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
halt() { kill -"${2:-TERM}" "${pids[$1]}"; wait "${pids[$1]}" 2>/dev/null || true; }
status() { mayfly status --dir "$a" --json || [ $? = 1 ]; } # 1: it runs, and cannot issue

init
cp "$a/mayfly.yaml" "$work/mayfly.yaml"
vkey=$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)
for n in w1 w2 w3 liar; do
  keys[$n]=$(mayfly log witness --init --state "$work/$n" --key "$work/$n.key" --name "$n.example.net") || fail "--init"
done
for n in w1 w2 w3; do witness $n || fail "witness $n: $(cat "$work/$n.log")"; done
witnesses() { # quorum name...: into the configuration
  local n q=$1
  shift
  cp "$work/mayfly.yaml" "$a/mayfly.yaml"
  printf 'witnesses:\n  quorum: %s\n  timeout_ms: %s\n  list:\n' "$q" "${timeout_ms:-2000}" >>"$a/mayfly.yaml"
  for n in "$@"; do printf '    - {url: "http://127.0.0.1:%s", vkey: "%s"}\n' "${ports[$n]:-1}" "${keys[$n]}" >>"$a/mayfly.yaml"; done
}
policy() { # quorum
  printf 'log %s\nwitness w1 %s\nwitness w2 %s\nwitness w3 %s\nquorum %s\n' "$vkey" "${keys[w1]}" "${keys[w2]}" "${keys[w3]}" "$1"
}
for k in 2 3; do policy $k >"$work/policy$k"; done

# What the configuration refuses.
witnesses 3 w1 w2
refuses 70 "3 of the 2" mayflyd --config "$a" --check
timeout_ms=2001 witnesses 2 w1 w2
refuses 70 "at most 2000" mayflyd --config "$a" --check
timeout_ms=1000 witnesses 2 w1 w2
sed -i 's|^run:|frontend: {issue_timeout_ms: 900}\nrun:|' "$a/mayfly.yaml"
refuses 70 "below frontend.issue_timeout_ms" mayflyd --config "$a" --check

witnesses 2 w1 w2 w3
if [ "$(id -u)" = 0 ]; then
  cp "$a/mayfly.yaml" "$work/named.yaml"
  sed -i '/notary_user/d' "$a/mayfly.yaml"
  refuses 70 "run.notary_user is not" mayflyd --config "$a" --check
  cp "$work/named.yaml" "$a/mayfly.yaml"
fi
mayflyd --config "$a" --check >/dev/null || fail "--check"
start || fail "mayflyd did not become ready: $(tail "$log")"
mayfly status --dir "$a" >/dev/null || fail "status with the quorum"
entry spiffe://test.example/web
issue() { mayfly-agent fetch --server "$url" ${1:+--token "$1"} --id spiffe://test.example/web --out "$work/web" >"$work/fetch.out" 2>&1; }
issue "$(token spiffe://test.example/web)" || fail "issue: $(cat "$work/fetch.out")"
proven() { mayfly log verify-cert "$work/web/svid.pem" --policy "$work/policy$1" >/dev/null; }
proven 2 || fail "not proven: $(mayfly log verify-cert "$work/web/svid.pem" --policy "$work/policy2" 2>&1)"
refuses 5 "cosigned by 2 of the 3" mayfly log verify-cert "$work/web/svid.pem" --policy "$work/policy3"
for _ in $(seq 5); do issue && proven 2 || fail "again: $(cat "$work/fetch.out")"; done
status | jq -e '.unwitnessed == false and .witnesses.quorum == 2' >/dev/null || fail "status: $(status)"
pass "certificates carry the quorum's cosignatures"

# The notary's socket and its user: nobody else's, and nothing else is said there.
notary=$(child notary)
[ -S "$a/run/notary.sock" ] && [ "$(stat -c %a "$a/run/notary.sock")" = 600 ] || fail "the notary's socket"
if [ "$(id -u)" = 0 ]; then
  users=$(for r in signer frontend notary; do stat -c %u "/proc/$(child $r)"; done | sort -u | grep -cv '^0$')
  [ "$users" = 3 ] || fail "$users users for three processes"
  [ "$(stat -c %u "$a/run/notary.sock")" = "$(stat -c %u "/proc/$notary")" ] || fail "the socket is not the notary's"
fi

# One is dead: nobody waits for it.
halt w1 KILL
for _ in $(seq 3); do issue && proven 2 || fail "with one of three dead: $(cat "$work/fetch.out")"; done
pass "a dead witness stops nothing"

# Two are dead: refused, and the log does not grow beyond what was tried first.
halt w2 KILL
ask() { # one order that is refused; the agent would try again for long
  timeout 1.5 mayfly-agent fetch --server "$url" --id spiffe://test.example/web --out "$work/web" >"$work/fetch.out" 2>&1
}
told() { ! ask || fail "issued without a quorum"; grep -q '"rule":"witness-quorum"' "$log"; }
eventually told || fail "no word of the quorum: $(tail -5 "$log")"
ready() { curl -s -o "$work/ready" -w '%{http_code}' --cacert "$a/ca/root.pem" "$url/readyz"; }
is_ready() { [ "$(ready)" = "$1" ]; }
eventually is_ready 503 && grep -q '1 of 3 witnesses cosigned' "$work/ready" || fail "readyz: $(cat "$work/ready")"
size=$(signer log_size)
! ask || fail "issued without a quorum"
! ask || fail "issued without a quorum"
[ "$(signer log_size)" = "$size" ] || fail "the log grew from $size to $(signer log_size)"
status | jq -e '.unwitnessed and .abandoned >= 1' >/dev/null || fail "status: $(status)"
got=0; mayfly status --dir "$a" >"$work/status" || got=$?
[ $got = 1 ] && grep -q "^NOT READY" "$work/status" || fail "status ends with $got where nothing can be issued: $(cat "$work/status")"
# What is no certificate needs none: a change is recorded.
entry spiffe://test.example/other
logged() { [ "$(signer log_size)" -gt "$size" ]; }
eventually logged || fail "a change was not recorded"
mayfly log reconcile --dir "$a" >"$work/reconcile" || fail "reconcile: $(cat "$work/reconcile")"
grep -q 'never signed  [1-9]' "$work/reconcile" && grep -q 'every other entry was signed' "$work/reconcile" || fail "reconcile: $(cat "$work/reconcile")"
pass "without its quorum nothing is issued, and the log does not grow"

# A liar instead of the second: its word counts for nothing.
ports[liar]=$(free_port)
lie() { printf '%s\n\n\n' "$1" >"$work/lie.new"; mv "$work/lie.new" "$work/lie"; }
lie other
python3 "$here/witness_liar.py" "${ports[liar]}" "$work/lie" &
liar=$!
for _ in $(seq 600); do (exec 3<>"/dev/tcp/127.0.0.1/${ports[liar]}") 2>/dev/null && break; sleep 0.05; done

# They come back: so does the service, by itself.
witness w1 || fail "w1 again"
eventually is_ready 200 || fail "not ready again: $(cat "$work/ready")"
issue && proven 2 || fail "not issued again: $(cat "$work/fetch.out")"
pass "the quorum is back, and so is the service"

# A JWT-SVID needs it as a certificate does, and what was logged without it is told apart.
jwt() { python3 "$here/jwt_client.py" "$work/jwt" "$url" "$a/ca/root.pem" "$@"; }
jwt new
jwt ask spiffe://test.example/web '["a"]' --token "$(token spiffe://test.example/web)" | jq -e '.status == 200' >/dev/null || fail "no JWT-SVID with a quorum"
halt w1 KILL
jwt ask spiffe://test.example/web '["a"]' >"$work/jwt.out" || fail "the client: $(cat "$work/jwt.out")"
jq -e '.status == 503 and .body.rule == "witness-quorum"' "$work/jwt.out" >/dev/null || fail "a JWT-SVID without a quorum: $(cat "$work/jwt.out")"
abandoned() { [ "$(status | jq .jwt_abandoned)" = 1 ]; }
eventually abandoned || fail "not told apart: $(status)"
mayfly log reconcile --dir "$a" --json | jq -e '.ok and .jwts == 2 and .jwt_signatures == 1 and .jwt_abandoned == 1 and .jwt_difference == 0' >/dev/null ||
  fail "reconcile: $(mayfly log reconcile --dir "$a" --json)"
size=$(signer log_size)
jwt ask spiffe://test.example/web '["a"]' | jq -e '.status == 503' >/dev/null || fail "a JWT-SVID without a quorum"
[ "$(signer log_size)" = "$size" ] || fail "the log grew"
witness w1 || fail "w1 again"
eventually is_ready 200 || fail "not ready again: $(cat "$work/ready")"
jwt ask spiffe://test.example/web '["a"]' | jq -e '.status == 200' >/dev/null || fail "no JWT-SVID with the quorum back"
pass "JWT-SVIDs wait for the quorum, too"

# Restarted: the first request waits for the quorum; notary and signer may die.
witness w2 || fail "w2 again"
stop || fail "stop"
witnesses 2 w1 liar w2
start || fail "not started with a liar: $(tail "$log")"
for how in other huge hang same; do
  lie $how
  issue && proven 2 || fail "beside a liar ($how): $(cat "$work/fetch.out")"
done
kill -KILL "$(child notary)"
eventually issue && proven 2 || fail "after the notary died: $(cat "$work/fetch.out")"
kill -KILL "$(child signer)"
wait_ready || fail "not ready again"
eventually issue && proven 2 || fail "after the signer died: $(cat "$work/fetch.out")"
halt w2 KILL
! ask || fail "issued by a liar's word"
kill $liar
pass "a liar counts for nothing"
stop || fail "stop"

# Started without them it logs nothing, and the operator is told; they come, and it serves.
halt w1 KILL
size=$(mayfly log checkpoint --dir "$a" --json | jq .size)
"${with_faults[@]}" mayflyd --config "$a" 2>>"$log" &
daemon=$!
unwitnessed() { status 2>/dev/null | jq -e .unwitnessed >/dev/null 2>&1; }
eventually unwitnessed || fail "started: $(status)"
eventually grep -q 'no certificate for the server itself yet.*witness-quorum' "$log" || fail "its own certificate: $(tail -3 "$log")"
[ "$(signer log_size)" = "$size" ] || fail "it logged without a quorum: $(status | jq .log_size), not $size"
witness w1 && witness w2 && wait_ready || fail "not ready with them: $(tail -3 "$log")"
issue && proven 2 || fail "not issued: $(cat "$work/fetch.out")"
pass "a start without witnesses waits for them"
stop || fail "stop"
! grep -l "Sanitizer" "$work"/*.log || fail "a sanitizer has found something"
mayfly log verify --dir "$a" >/dev/null || fail "verify"
