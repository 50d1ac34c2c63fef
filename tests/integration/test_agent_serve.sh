#!/bin/bash
# mayfly-agent serve against a real authority: SVIDs by the Workload API, rotation, reload and restart without a token,
# an outage, an entry that goes, files and their hook, readiness.
. "$(dirname "$0")/lib.sh"
. "$here/agent.sh"
stubs
mkdir "$work/out"
host=spiffe://test.example/host/one web=spiffe://test.example/web files=spiffe://test.example/files
me=$(id -u)

init
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 30
entry spiffe://test.example/other --parent "$host" --selector "unix:uid:65533" --ttl 10
entry "$files" --parent "$host" --selector "files:dir:$work/out/set" --ttl 12
entry spiffe://test.example/held --parent "$host" --selector "files:dir:$work/out/held" --ttl 3600

agent_config "$host" "files:
  - {id: $files, dir: $work/out/set, mode: \"0640\", combined: true, jwt_audience: [db], reload: \"echo \$MAYFLY_SPIFFE_ID >>$work/out/hook\"}
  - {id: spiffe://test.example/held, dir: $work/out/held, reload: \"echo told >>$work/out/held-told\"}"
has 'good: ' <<<"$(mayfly-agent serve --config "$work/agent.yaml" --check)" || fail "--check"
refuses 1 "unknown key" mayfly-agent serve --config "$a/mayfly.yaml" --check

# Without a token there is nothing to begin with, and it says what to do.
refuses 4 "mayfly token create --id $host" mayfly-agent serve --config "$work/agent.yaml"

agent_token "$host"
agent_start
until_true "the agent becomes ready" ready
pass "own SVID by a join token, and ready"

# --- who has no entry is told what to do, and the log what he is known by
mayfly-proxy server --listen "127.0.0.1:$(free_port)" --to 127.0.0.1:1 --allow spiffe://test.example \
  --socket "unix://$agent_socket" 2>"$work/proxy.log" &
proxy=$!
until_true "the proxy says what it lacks" grep -q 'no identity issued; register an entry' "$work/proxy.log"
program= # of a process that holds keys, only who may trace it is told which it is
! readlink "/proc/$proxy/exe" >/dev/null 2>&1 || program=.*unix:sha256:
kill -TERM $proxy
wait $proxy || true
has "\"level\":\"info\".*no identity for a caller.*\"pid\":\"$proxy\",\"selectors\":\"unix:uid:$me $program" "$work/agent.log" ||
  fail "the log does not say by what a caller without identity is known"
pass "a caller without identity"

# --- who asks right after its entry was made is not told that there is none
entries_are() { [ "$(metric mayfly_agent_entries)" = "$1" ]; }
for n in 1 2 3; do
  until_true "the list without a new entry" entries_are 3
  entry "spiffe://test.example/new$n" --parent "$host" --selector "unix:uid:$me" --ttl 20
  stream_start
  until_true "an answer about a new entry" test -s "$work/stream.out"
  has "^svid [0-9.]* spiffe://test.example/new$n " "$work/stream.out" || fail "an entry just made was not seen: $(cat "$work/stream.out")"
  mayfly entry delete --dir "$a" "spiffe://test.example/new$n" --json >/dev/null
  until_true "the stream of a deleted entry ends" seen 'failed [0-9.]* PERMISSION_DENIED' 1
  wait "$stream" || true
done
entry "$web" --parent "$host" --selector "unix:uid:$me" --ttl 10
pass "an entry just made is seen at once"

# --- the Workload API
mkdir "$work/save"
stream_start --save "$work/save"
until_true "the first SVID" seen svid 1
has "^svid [0-9.]* $web " "$work/stream.out" || fail "another identity: $(cat "$work/stream.out")"
openssl x509 -inform der -in "$work/save/svid.der" -noout -ext subjectAltName | has "URI:$web" || fail "the SVID's name"
[ "$(openssl x509 -inform der -in "$work/save/svid.der" -noout -pubkey)" = "$(openssl pkey -inform der -in "$work/save/key.der" -pubout)" ] ||
  fail "key and certificate differ"
until_true "three rotations are pushed" seen svid 4
has '^failed' "$work/stream.out" && fail "the stream broke: $(cat "$work/stream.out")"
[ "$(cut -d' ' -f4 "$work/stream.out" | sort -u | wc -l)" -ge 4 ] || fail "the same certificate was pushed again"
before=$(metric mayfly_agent_entries)
entry spiffe://test.example/strange --parent "$host" --selector "unix:uid:65532" --ttl 10
one_more() { [ "$(metric mayfly_agent_entries)" = $((before + 1)) ]; }
until_true "another's entry" one_more
sleep 0.5
[ -z "$(grep '^svid' "$work/stream.out" | cut -d' ' -f4 | uniq -d)" ] || fail "another's entry was no news, and was told"
has '/other' "$work/stream.out" && fail "an identity of another uid was handed out"
stream_stop
pass "rotations are pushed, its own identities only"

# --- a process that connects and then executes another program gets nothing: not the one that was attested
$python - "$work/run/agent.sock" >"$work/other.out" <<'P'
import os, socket, struct, sys, time
def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
def header(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
call = (b"\x83\x86" + header(b":path", b"/SpiffeWorkloadAPI/FetchX509SVID") + header(b":authority", b"x") +
        header(b"content-type", b"application/grpc") + header(b"te", b"trailers") + header(b"workload.spiffe.io", b"true"))
talk = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, call) + frame(0, 1, 1, b"\0" * 5)
# As itself: the answer holds a certificate.
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(talk); s.settimeout(60)
got = b""
while len(got) < 700:
    got += s.recv(65536)
print("itself", len(got), flush=True)
# Connected, then another program over the same socket.
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.settimeout(60); s.recv(9) # its SETTINGS come once the caller was attested, as what it was
s.settimeout(None) # or cat, below, would not wait for an answer
os.dup2(s.fileno(), 9, inheritable=True)
r, w = os.pipe(); os.write(w, talk); os.close(w); os.dup2(r, 8, inheritable=True)
os.execv("/bin/sh", ["sh", "-c", "cat <&8 >&9; echo other $(timeout 3 cat <&9 | wc -c)"])
P
[ "$(awk '/^itself/ { print $2 }' "$work/other.out")" -ge 700 ] || fail "the raw client got no certificate: $(cat "$work/other.out")"
other=$(awk '/^other/ { print $2 }' "$work/other.out")
[ -n "$other" ] && [ "$other" -lt 600 ] || fail "another program got an answer of ${other:-no} bytes"
has 'peer-changed\|peer-gone' <<<"$(health metrics)" || fail "metrics do not tell of the process that changed"
pass "a process that executed another program gets nothing"

# --- files: a set that changes whole, with its hook
until_true "the set of files" test -s "$work/out/set/svid.pem"
openssl verify -CAfile "$work/out/set/bundle.pem" -untrusted "$work/out/set/svid.pem" "$work/out/set/svid.pem" >/dev/null || fail "the set does not verify"
[ "$(stat -Lc %a "$work/out/set/svid.key")" = 640 ] || fail "mode of the key"
[ -s "$work/out/set/svid.jwt" ] && [ -s "$work/out/set/svid-combined.pem" ] || fail "JWT or combined file"
hooked() { [ "$(grep -c "^$files\$" "$work/out/hook" 2>/dev/null)" -ge "$1" ]; }
until_true "the hook after two rotations" hooked 3
pass "files are swapped and their hook is run"

# --- a cleaner takes the set away: it is written again, and its program told, long before the next rotation
held() { [ -s "$work/out/held/svid.pem" ] && [ "$(wc -l 2>/dev/null <"$work/out/held-told")" -ge "$1" ]; }
until_true "the set that lives long" held 1
until_true "ready with it" ready
first=$(sha256sum <"$work/out/held/svid.pem")
mv "$work/out/held" "$work/taken" # at once, as no rm is
until_true "it is written again, and its program told" held 2
until_true "ready after that" ready
[ "$(sha256sum <"$work/out/held/svid.pem")" = "$first" ] || fail "it was a rotation"
[ "$(grep -c 'set of files is gone.*out/held' "$work/agent.log")" = 1 ] || fail "the log does not say once that a set was gone"
pass "a set that was taken away is written again"

# --- SIGHUP: anew, with the same process ID, the same socket, and no token
rm "$work/token"
own_before=$(grep -c "the agent's own SVID\"" "$work/agent.log")
stream_start --again
until_true "a stream before the reload" seen svid 1
kill -HUP "$agent"
until_true "the reload" grep -q 'own SVID was kept' "$work/agent.log"
until_true "ready after the reload" ready
until_true "an SVID after the reload" seen svid 2
kill -0 "$agent" || fail "the agent is another process"
echo 'socket: [' >"$work/bad.yaml"; cp "$work/agent.yaml" "$work/good.yaml"; cp "$work/bad.yaml" "$work/agent.yaml"
kill -HUP "$agent"
until_true "a bad configuration is refused" grep -q 'the configuration is refused' "$work/agent.log"
until_true "ready after a bad configuration" ready
cp "$work/good.yaml" "$work/agent.yaml"
pass "SIGHUP reloads without a token; a bad configuration changes nothing"

# --- a revocation pulls the renewal forward
long=spiffe://test.example/a-long-one
stream_stop
stream_start --again --id "$long"
entry "$long" --parent "$host" --selector "unix:uid:$me" --ttl 90
prints() { grep "^svid [0-9.]* .*,$long " "$work/stream.out" | cut -d' ' -f4 | sort -u | wc -l; }
until_true "the long one" eval '[ "$(prints)" = 1 ]'
began=$SECONDS
mayfly revoke --dir "$a" --id "$long" --reason superseded --json >/dev/null
until_true "another after the revocation" eval '[ "$(prints)" = 2 ]'
[ $((SECONDS - began)) -lt 36 ] || fail "the revocation pulled nothing forward: $((SECONDS - began)) s"
ready || fail "not ready after a revocation: $(health ready)"
mayfly entry delete --dir "$a" "$long" --json >/dev/null
pass "a revocation pulls the renewal forward"

# --- an outage: what is valid is served on, readiness tells, and all comes back
stop
until_true "not ready during the outage" not_ready
code=0; kill -0 "$agent" || code=$?
[ $code = 0 ] || fail "the agent ended in the outage"
[ "$(health live)" = ok ] || fail "not alive in the outage"
[ "$(metric mayfly_agent_authority_reachable)" = 0 ] || fail "metrics call the authority reachable"
before=$(grep -c '^svid' "$work/stream.out")
start || fail "the authority does not come back"
until_true "ready after the outage" ready
until_true "rotation after the outage" seen svid $((before + 1))
stream_stop
pass "an outage ends by itself"

# --- an entry that goes
stream_start
until_true "a stream before the entry goes" seen svid 1
mayfly entry delete --dir "$a" "$web" --json >/dev/null
until_true "the stream ends" seen 'failed [0-9.]* PERMISSION_DENIED' 1
wait "$stream" || true
pass "a deleted entry ends its SVIDs"
agent_stop
[ ! -e "$work/run/agent.sock" ] || fail "the socket was left behind"

# --- cold, with keys in memory and nobody to keep them: a token is needed, and it says so
refuses 4 "join token" mayfly-agent serve --config "$work/agent.yaml"

# --- without a configuration: a token is all; SIGHUP keeps what was said
refuses 2 "missing" mayfly-agent serve --server "$url"
refuses 2 "that file's state_dir" mayfly-agent serve --config "$work/agent.yaml" --state-dir "$work/quick"
refuses 2 "^mayfly-agent serve: --http: " mayfly-agent serve --server "$url" --id "$host" --http 0.0.0.0:80 --check
quick=(--server "$url" --id "$host" --socket "$work/run/agent.sock" --state-dir "quick \"state\"" --http "unix:$work/run/http.sock")
has "^the command line: good: $host" <<<"$(mayfly-agent serve "${quick[@]}" --check)" || fail "--check without a configuration"
(cd "$work" && exec mayfly-agent serve "${quick[@]}" --token "$(token "$host")" >>"$work/quick.log" 2>&1) &
agent=$!
until_true "ready without a configuration" ready
[ -s "$work/quick \"state\"/svid.pem" ] || fail "the state is elsewhere"
kill -HUP "$agent"
until_true "the reload without a configuration" grep -q 'own SVID was kept' "$work/quick.log"
until_true "ready after that" ready
agent_stop
[ ! -e "$work/run/agent.sock" ] || fail "the socket was left behind"
pass "without a configuration"

# --- revoked: a new token helps at once, though the SVID would live for an hour
long_host=spiffe://test.example/host/long
entry "$long_host" --selector agent:host --ttl 3600
(umask 077; token "$long_host" >"$work/long-token")
mayfly-agent serve --server "$url" --id "$long_host" --socket "$work/run/agent.sock" --state-dir "$work/long" \
  --http "unix:$work/run/http.sock" --token-file "$work/long-token" >>"$work/agent.log" 2>&1 &
agent=$!
until_true "ready with an hour to live" ready
first=$(sha256sum <"$work/long/svid.pem")
mayfly revoke --dir "$a" --id "$long_host" --reason keyCompromise --json >/dev/null
refused() { health metrics | has 'failures_total{rule="token-needed"}'; }
until_true "the revocation is noticed" refused
why_again() { [ "$(grep -c 'cut off.*revoked.*mayfly token create' "$work/agent.log")" -ge 2 ]; }
until_true "the log says why and what to do, and still does later" why_again
(umask 077; token "$long_host" >"$work/long-token")
another() { [ -s "$work/long/svid.pem" ] && [ "$(sha256sum <"$work/long/svid.pem")" != "$first" ]; }
until_true "another SVID by the new token" another
until_true "ready again" ready
agent_stop
pass "a revoked agent takes a new token at once"

# --- keys in a token of its own: killed, and back without a join token
softhsm=/usr/lib/softhsm/libsofthsm2.so
if [ -e $softhsm ]; then
  mkdir "$work/hsm" "$work/hsm/tokens"
  echo "directories.tokendir = $work/hsm/tokens" >"$work/hsm/conf"
  SOFTHSM2_CONF=$work/hsm/conf softhsm2-util --init-token --free --label agent --pin 1234 --so-pin 5678 >/dev/null
  (umask 077; echo 1234 >"$work/hsm/pin"; token "$host" >"$work/token")
  entry "$web" --parent "$host" --selector "unix:uid:$me" --ttl 10
  sed -i "s|^state_dir.*|state_dir: state2\nkey: {store: pkcs11, uri: \"pkcs11:token=agent\", module: $softhsm, pin_file: hsm/pin, softhsm_conf: hsm/conf}|" "$work/agent.yaml"
  agent_start
  until_true "ready with keys in a token" ready
  kill -KILL "$agent"; wait "$agent" 2>/dev/null || true
  rm "$work/token"
  agent_start
  until_true "ready after kill -9" ready
  stream_start
  until_true "an SVID after kill -9" seen svid 1
  stream_stop
  agent_stop
  # Its SVID is over, but the session that its key has lives on.
  sleep 31
  agent_start
  until_true "ready although the SVID was over" ready
  agent_stop
  pass "keys in a token: no join token after kill -9, nor when the SVID was over"
fi
