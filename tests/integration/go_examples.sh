#!/bin/bash
# go-spiffe's example programs as they are, for test_interop_go_spiffe.sh, which runs this in a network and with
# mounts of its own: WORK SOCKET SERVER-USER CLIENT-USER; the programs are below WORK/examples.
set -euo pipefail
work=$1 socket=$2 server_user=$3 client_user=$4
ip link set lo up
: >"$work/examples/agent.sock"
mount --bind "$socket" "$work/examples/agent.sock"
exec 3>"$work/server.log" 4<"$work/server.log" 5>"$work/out" 6<"$work/out" # WORK is out of sight from here on
mount --rbind "$work/examples" /tmp
cd /tmp
fail() { echo "FAILED: $*" >&2; sed 's/^/server: /' /proc/self/fd/4 >&2; exit 1; }
as() { # user program...: in place of this shell, or of a part of it
  exec setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"
}
server=
trap '[ -z "$server" ] || kill $server' EXIT
serve() { # program port: until it listens
  as "$server_user" "$1" 2>&3 &
  server=$!
  for _ in $(seq 600); do
    (exec 9<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return
    kill -0 $server || fail "$1 ended"
    sleep 0.1
  done
  fail "$1 does not listen"
}
stop() { kill $server; wait $server || true; server=; }
says() { # text user program arguments...: ends well, saying so
  local text=$1 out
  shift
  out=$(as "$@" 2>&1) || fail "$*: $out"
  [[ $out == *"$text"* ]] || fail "$* does not say '$text' but: $out"
  echo "ok: ${2%/client}: $text"
}
refused() { # text user program arguments...: ends badly, saying so
  local text=$1 out
  shift
  ! out=$(as "$@" 2>&1) || fail "$* passed: $out"
  [[ $out == *"$text"* ]] || fail "$* does not say '$text' but: $out"
  echo "ok: ${2%/client}: refused: $text"
}

serve tls/server 55555
says 'Server says: "Hello client\n"' "$client_user" tls/client
grep -q 'Client says: "Hello server\\n"' /proc/self/fd/4 || fail "nothing came"
refused "bad certificate" "$server_user" tls/client # the server's own identity is not the client's
stop
serve http/server 8443
says "Success!!!" "$client_user" http/client
refused "bad certificate" "$server_user" http/client
stop
serve jwt/server 8443
says "Success!!!" "$client_user" jwt/client
says "Unauthorized" "$client_user" jwt/client spiffe://example.org/another # a token for somebody else
stop
serve grpc/server 50051
says "Hello world" "$client_user" grpc/client
stop
as "$client_user" ./watcher 2>&5 &
server=$!
watched() { grep -q 'SVID updated for "spiffe://example.org/client"' /proc/self/fd/6 && grep -q 'jwt bundle updated "example.org": {"keys"' /proc/self/fd/6; }
for _ in $(seq 600); do watched && break; sleep 0.1; done
watched || fail "the watcher: $(cat /proc/self/fd/6)"
kill -INT $server
wait $server || fail "the watcher's end"
server=
echo "ok: watcher"
