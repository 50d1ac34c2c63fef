# Sourced by the integration tests of the agent's daemon, after lib.sh: `mayfly-agent serve` with $work/agent.yaml, its
# API at $work/run/agent.sock, its health at $work/run/http.sock, its log in $work/agent.log.
python=/usr/bin/python3 # Debian's, that has its packages; not whatever comes first in PATH
agent_socket=$work/run/agent.sock
mkdir "$work/run"
chmod 755 "$work/run"
agent= # its process
agent_start() { # [options...]
  mayfly-agent serve --config "$work/agent.yaml" "$@" >>"$work/agent.log" 2>&1 &
  agent=$!
}
agent_stop() {
  kill -TERM "$agent"
  code=0; wait "$agent" || code=$?
  [ $code = 0 ] || { tail -20 "$work/agent.log"; fail "the agent ended with $code"; }
}
health() { curl -s --max-time 5 --unix-socket "$work/run/http.sock" "http://agent/$1"; }
metric() { health metrics | awk -v m="$1" '$1 == m { print $2 }'; }
until_true() { # what command...: within a minute
  local what=$1
  shift
  eventually "$@" && return
  tail -30 "$work/agent.log"
  fail "$what"
}
ready() { [ "$(health ready)" = ready ]; }
not_ready() { ! ready; }
stubs() { # of our .proto files, in $work/stubs
  $python -c 'import grpc_tools, grpc' 2>/dev/null || skipped "python3-grpcio or python3-grpc-tools is missing"
  mkdir "$work/stubs"
  $python -m grpc_tools.protoc -I "$root/workload" -I /usr/include --python_out="$work/stubs" \
    --grpc_python_out="$work/stubs" workload.proto sds.proto
}
# A client that keeps a stream open; what it hears is in $work/stream.out.
stream_start() { # [options of agent_stream.py...]
  : >"$work/stream.out"
  $python "$here/agent_stream.py" --stubs "$work/stubs" --socket "$agent_socket" "$@" >"$work/stream.out" 2>"$work/stream.err" &
  stream=$!
}
stream_stop() { kill -KILL "$stream" 2>/dev/null || true; wait "$stream" 2>/dev/null || true; }
seen() { [ "$(grep -c "^$1" "$work/stream.out")" -ge "$2" ]; } # words times
agent_config() { # id [more of it]
  cat >"$work/agent.yaml" <<Y
server: $url
id: $1
join_token_file: token
state_dir: state
socket: {path: $agent_socket}
http: unix:$work/run/http.sock
logging: {level: debug}
${2:-}
Y
}
agent_token() { (umask 077; token "$1" >"$work/token.new"; mv "$work/token.new" "$work/token"); } # id
