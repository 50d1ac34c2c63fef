#!/bin/bash
# A witness of our own: HTTP, TLS, its key and folder; and an authority whose heads three of them cosign.
. "$(dirname "$0")/lib.sh"

# --- the witness alone -----------------------------------------------------------------------------
vkey=$(bench_loggen --out "$work/log" --entries 600 --ids 50 2>/dev/null) || fail "bench_loggen"
origin=bench.example/log/1
witness() { # name: starts it on a port of its own, with these options more; sets ports[name]
  local n=$1
  shift
  ports[$n]=${ports[$n]:-$(free_port)}
  mayfly log witness --listen "127.0.0.1:${ports[$n]}" --state "$work/$n" --key "$work/$n.key" "$@" 2>>"$work/$n.log" &
  pids[$n]=$!
  for _ in $(seq 600); do
    grep -q '"witness ready"' "$work/$n.log" && (exec 3<>"/dev/tcp/127.0.0.1/${ports[$n]}") 2>/dev/null && return 0
    kill -0 "${pids[$n]}" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
halt() { # name [signal]
  kill -"${2:-TERM}" "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || true
}
declare -A ports pids keys
for n in w1 w2 w3; do
  keys[$n]=$(mayfly log witness --init --state "$work/$n" --key "$work/$n.key" --name "$n.example.net") || fail "--init"
  [[ ${keys[$n]} == "$n.example.net+"* ]] || fail "no verifier key: ${keys[$n]}"
  [ "$(stat -c %a "$work/$n.key")" = 600 ] || fail "the key's mode"
done
refuses 1 "witness's folder already" mayfly log witness --init --state "$work/w1" --key "$work/other.key"
refuses 1 "never overwritten" mayfly log witness --init --state "$work/other" --key "$work/w1.key"
refuses 2 "loopback" mayfly log witness --listen 0.0.0.0:8081 --state "$work/w1" --key "$work/w1.key" --log "$vkey"
refuses 2 "no IP address" mayfly log witness --listen nowhere:8081 --state "$work/w1" --key "$work/w1.key" --log "$vkey"
refuses 2 "\-\-log" mayfly log witness --listen 127.0.0.1:8081 --state "$work/w1" --key "$work/w1.key" --log nothing
refuses 1 "another witness" mayfly log witness --listen "127.0.0.1:$(free_port)" --state "$work/w1" --key "$work/w2.key" --log "$vkey"
refuses 1 "no witness's folder" mayfly log witness --listen "127.0.0.1:$(free_port)" --state "$work/log" --key "$work/w2.key" --log "$vkey"
cp "$work/w1.key" "$work/loose.key"
chmod 644 "$work/loose.key"
refuses 1 "closed to others" mayfly log witness --listen "127.0.0.1:$(free_port)" --state "$work/w1" --key "$work/loose.key" --log "$vkey"
rm "$work/loose.key"

witness w1 --log "$vkey" || fail "the witness does not start: $(cat "$work/w1.log")"
ask() { # name old checkpoint-file: sets status, type; the body in $work/answer
  { printf 'old %s\n\n' "$2"; cat "$3"; } >"$work/ask"
  read -r status type < <(curl -s -o "$work/answer" -w '%{http_code} %{content_type}\n' --data-binary @"$work/ask" \
    "http://127.0.0.1:${ports[$1]}/add-checkpoint")
}
ask w1 0 "$work/log/checkpoint"
[ "$status" = 200 ] && [[ $type == text/plain* ]] && grep -q '^— w1.example.net ' "$work/answer" || fail "$status $(cat "$work/answer")"
{ cat "$work/log/checkpoint" "$work/answer"; } >"$work/cosigned"
ask w1 0 "$work/log/checkpoint"
[ "$status $type" = "409 text/x.tlog.size" ] && [ "$(cat "$work/answer")" = 600 ] || fail "$status $type $(cat "$work/answer")"
ask w1 601 "$work/log/checkpoint"
[ "$status" = 400 ] || fail "old larger: $status"
sed 's|^600$|601|' "$work/log/checkpoint" >"$work/altered"
ask w1 600 "$work/altered"
[ "$status" = 403 ] || fail "altered: $status"
sed "1s|.*|bench.example/other|" "$work/log/checkpoint" >"$work/altered"
ask w1 600 "$work/altered"
[ "$status" = 404 ] || fail "another log: $status"
head -c 100000 /dev/zero | tr '\0' x >"$work/large"
ask w1 0 "$work/large"
[ "$status" = 413 ] || fail "large: $status"
code() { curl -s -o /dev/null -w '%{http_code}' "$@" "http://127.0.0.1:${ports[w1]}$path"; }
path=/add-checkpoint; [ "$(code)" = 405 ] || fail "GET"
path=/; [ "$(code -d x)" = 404 ] || fail "/"
path=/add-checkpoint; [ "$(head -c 200000 /dev/zero | code -H 'Transfer-Encoding: chunked' -T - -X POST || true)" != 200 ] || fail "chunked"
printf 'log %s\nwitness w1 %s\nquorum w1\n' "$vkey" "${keys[w1]}" >"$work/policy"
mayfly log checkpoint --log "$work/log" --vkey "$vkey" >/dev/null || fail "checkpoint"

# Killed, it has not forgotten.
halt w1 KILL
witness w1 --log "$vkey" || fail "not started again"
ask w1 0 "$work/log/checkpoint"
[ "$status" = 409 ] || fail "forgot: $status"
# A second one in the same folder is refused.
refuses 1 "another witness works" mayfly log witness --listen "127.0.0.1:$(free_port)" --state "$work/w1" --key "$work/w1.key" --log "$vkey"
halt w1
sed -i '2s/.*/599/' "$work"/w1/*.head
refuses 5 "can not be believed" mayfly log witness --listen "127.0.0.1:$(free_port)" --state "$work/w1" --key "$work/w1.key" --log "$vkey"
rm "$work"/w1/*.head

# Over TLS.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/tls.key" -out "$work/tls.pem" \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -days 2 2>/dev/null
witness w1 --log "$vkey" --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" || fail "TLS: $(cat "$work/w1.log")"
printf 'old 0\n\n' | cat - "$work/log/checkpoint" >"$work/ask"
curl -s --cacert "$work/tls.pem" --data-binary @"$work/ask" "https://localhost:${ports[w1]}/add-checkpoint" --resolve "localhost:${ports[w1]}:127.0.0.1" |
  has '^— w1.example.net ' || fail "over TLS"
halt w1
pass "a witness cosigns, remembers, and refuses"

# --- an authority and three witnesses ---------------------------------------------------------------
init
log=$work/mayflyd.log
: >"$log"
# The log's key as its issuing certificate binds it: a witness is given it beforehand.
vkey=$(mayfly log checkpoint --dir "$a" --json | jq -r .vkey)
[[ $vkey == test.example/log1+* ]] || fail "no verifier key: $vkey"
for n in w1 w2 w3; do witness $n --log "$vkey" || fail "witness $n: $(cat "$work/$n.log")"; done
liar_key=$(mayfly log witness --init --state "$work/liar" --key "$work/liar.key" --name liar.example.net)
liar_port=$(free_port)
# Another head's cosignature by the liar's own key: its signature is right, its text is not.
ports[liar]=$(free_port)
witness liar --log "$(bench_loggen --out "$work/other" --entries 30 --ids 2 2>/dev/null)" || fail "liar"
ask liar 0 "$work/other/checkpoint"
halt liar
lie() { printf '%s\n\n%s\n' "$1" "$(cat "$work/answer")" >"$work/lie.new"; mv "$work/lie.new" "$work/lie"; }
lie signature
python3 "$here/witness_liar.py" "$liar_port" "$work/lie" &
liar=$!
cp "$a/mayfly.yaml" "$work/mayfly.yaml"
witnesses() { # name=url... : into the configuration
  cp "$work/mayfly.yaml" "$a/mayfly.yaml"
  printf 'witnesses:\n  timeout_ms: 2000\n  list:\n' >>"$a/mayfly.yaml"
  local n
  for n in "$@"; do printf '    - {url: "%s", vkey: "%s"}\n' "${n#*=}" "${keys[${n%%=*}]}" >>"$a/mayfly.yaml"; done
}
keys[liar]=$liar_key
keys[dead]=$(mayfly log witness --init --state "$work/dead" --key "$work/dead.key" --name dead.example.net)
keys[tls]=$(mayfly log witness --init --state "$work/tls" --key "$work/tls.witness.key" --name tls.example.net)
mv "$work/tls.key" "$work/tls.server.key"
mv "$work/tls.witness.key" "$work/tls.key"
witness tls --log "$vkey" --tls-cert "$work/tls.pem" --tls-key "$work/tls.server.key" || fail "tls: $(cat "$work/tls.log")"
real=(); for n in w1 w2 w3; do real+=("$n=http://127.0.0.1:${ports[$n]}"); done
real[2]="w3=http://localhost:${ports[w3]}" # a name, which is resolved in the jail
witnesses "${real[@]}" "tls=https://localhost:${ports[tls]}" "liar=http://127.0.0.1:$liar_port" "dead=http://127.0.0.1:$(free_port)/"
mayflyd --config "$a" --check >/dev/null || fail "--check"
start || fail "mayflyd did not become ready"
entry spiffe://test.example/web
issue() { mayfly-agent fetch --server "$url" ${1:+--token "$1"} --id spiffe://test.example/web --out "$work/web" >/dev/null || fail "fetch"; }
issue "$(token spiffe://test.example/web)"
cosigned() { mayfly log checkpoint --dir "$a" --json | jq -r '[.witnesses[] | select(.cosigned) | .name | split(".")[0]] | join(" ")'; }
until_cosigned() { # by these, over at least the present size
  local size i
  size=$(mayfly status --dir "$a" --json | jq .log_size)
  for i in $(seq 600); do
    [ "$(cosigned)" = "$1" ] && [ "$(mayfly log checkpoint --dir "$a" --json | jq .size)" -ge "$size" ] && return 0
    sleep 0.1
  done
  fail "cosigned by '$(cosigned)' and not by '$1' at $size; $(tail -5 "$log")"
}
until_cosigned "w1 w2 w3"
served_by_all() { # a head just published is still on its way to them
  curl -s --cacert "$a/ca/root.pem" "$url/log/checkpoint" >"$work/served"
  [ "$(grep -c '^— w[123].example.net ' "$work/served")" = 3 ]
}
eventually served_by_all || fail "served: $(cat "$work/served")"
cat >"$work/policy" <<END
log $vkey
witness w1 ${keys[w1]}
witness w2 ${keys[w2]}
witness w3 ${keys[w3]}
quorum 3
END
cosigned_by_all() { mayfly log checkpoint --dir "$a" --policy "$work/policy" 2>"$work/err" | has '3 of its witnesses cosigned'; }
eventually cosigned_by_all || fail "--policy: $(cat "$work/err")" # a head just published is still on its way to them
mayfly log checkpoint --dir "$a" | has 'not cosigned by dead.example.net' || fail "who did not"
mayfly log verify --dir "$a" >/dev/null || fail "verify"
[ "$(grep -c '"witness":"dead.example.net"' "$log")" = 1 ] || fail "said more than once: $(grep dead.example "$log")"
grep -q '"rule":"witness-unreachable"' "$log" || fail "the dead one"
grep -q '"witness":"tls.example.net".*certificate' "$log" || fail "a server that no root vouches for: $(grep tls.example "$log")"
halt tls
pass "three witnesses cosign; a dead one and a liar hinder nobody"

# Each lie is passed over with one line, and the others go on.
for how in signature other ahead loop same junk hang huge; do
  : >"$work/lie.asked"
  lie $how
  before=$(grep -c '"witness":"liar.example.net"' "$log" || true)
  for _ in $(seq 600); do grep -q "^$how$" "$work/lie.asked" && break; sleep 0.1; done
  issue
  until_cosigned "w1 w2 w3"
  [ $(($(grep -c '"witness":"liar.example.net"' "$log") - before)) -le 2 ] || fail "$how: $(grep liar.example "$log")"
done
for rule in cosignature witness-ahead; do grep -q "\"witness\":\"liar.example.net\".*\"rule\":\"$rule\"" "$log" || fail "no word on $rule: $(grep liar "$log")"; done
kill $liar
pass "a witness that lies is passed over"

# One is stopped: the others go on. It comes back, and cosigns again.
halt w2
issue
until_cosigned "w1 w3"
witness w2 --log "$vkey" || fail "w2 again"
until_cosigned "w1 w2 w3"
# The notary and the signer may be killed; what is missing is asked for again.
kill -KILL "$(child notary)"
issue
until_cosigned "w1 w2 w3"
kill -KILL "$(child signer)"
wait_ready || fail "not ready again"
issue
until_cosigned "w1 w2 w3"
for _ in $(seq 20); do issue; done
until_cosigned "w1 w2 w3"
pass "witnesses, notary and signer come and go"

# Who may ask what: it holds no secret and answers nobody.
notary=$(child notary)
[ -z "$(ls -l "/proc/$notary/fd" 2>/dev/null | grep -c "token\|secret" | grep -v '^0')" ] || fail "the notary holds a secret"
grep -q '^Seccomp:.*2' "/proc/$notary/status" || has sanitized "$log" || fail "the notary is not confined"

# A fork: the authority as it was, restored from a copy, goes on with another history under the same key.
stop || fail "stop"
cp -a "$a/log" "$work/log.copy"
start || fail "start"
issue
issue
until_cosigned "w1 w2 w3"
stop || fail "stop"
forked=$(mayfly log checkpoint --dir "$a" --json | jq .size)
rm -r "$a/log"
cp -a "$work/log.copy" "$a/log"
: >"$log"
start || fail "the restored log"
for _ in $(seq 600); do grep -q '"rule":"witness-ahead"' "$log" && break; sleep 0.1; done
grep -q '"rule":"witness-ahead"' "$log" || fail "the witnesses did not object to a rollback"
[ -z "$(cosigned)" ] || fail "a rolled back head was cosigned by $(cosigned)"
while [ "$(mayfly status --dir "$a" --json | jq .log_size)" -lt "$forked" ]; do issue; done
for _ in $(seq 600); do grep -q '"rule":"witness-fork"\|"rule":"witness-refused"' "$log" && break; sleep 0.1; done
grep -q '"rule":"witness-fork"\|"rule":"witness-refused"' "$log" || fail "the witnesses did not object to a fork: $(tail -5 "$log")"
[ -z "$(cosigned)" ] || fail "a fork was cosigned by $(cosigned)"
cp "$a/log/checkpoint" "$work/fork.checkpoint"
stop || fail "stop"
ask w1 "$forked" "$work/fork.checkpoint"
[ "$status" != 200 ] || fail "a fork was cosigned when asked directly"
ls "$work"/w1/fork-*.txt >/dev/null 2>&1 && grep -q '"level":"error".*FORK' "$work/w1.log" || [ "$(sed -n 2p "$work/fork.checkpoint")" != "$forked" ] ||
  fail "no evidence of the fork"
pass "a fork and a rollback are refused, and told on both sides"
for n in w1 w2 w3; do halt $n; done
! grep -l "Sanitizer" "$work"/*.log || fail "a sanitizer has found something"

# What the configuration refuses.
bad() { cp "$work/mayfly.yaml" "$a/mayfly.yaml"; printf '%s\n' "$1" >>"$a/mayfly.yaml"; refuses 70 "$2" mayflyd --config "$a" --check; }
bad 'witnesses: {quorum: 1}' "1 of the 0"
bad 'witnesses: {list: [{url: "ftp://x", vkey: "x"}]}' "https://"
bad "witnesses: {list: [{url: \"https://x\", vkey: \"$vkey\"}]}" "witness's"
