# Sourced by the interop tests, after lib.sh: an authority, an agent, and two users of this machine, who are
# spiffe://example.org/server and spiffe://example.org/client by unix:uid, as go-spiffe's examples want it; and what
# their programs must see. Their SVIDs rotate every few seconds.
server_user=61721 client_user=61722
trust_domain=example.org
td=spiffe://$trust_domain
[ "$(id -u)" = 0 ] || skipped "workloads of two users need root"
. "$here/agent.sh"
agent_of_two() { # starts all of it, once the programs are there
  init || fail "no authority"
  start || fail "the authority does not start"
  entry "$td/agent" --selector agent:host --ttl 60
  entry "$td/server" --parent "$td/agent" --selector "unix:uid:$server_user" --ttl 15
  entry "$td/client" --parent "$td/agent" --selector "unix:uid:$client_user" --ttl 15
  agent_config "$td/agent"
  agent_token "$td/agent"
  agent_start
  until_true "the agent becomes ready" ready
  export SPIFFE_ENDPOINT_SOCKET=unix://$agent_socket
}
as() { # server|client program...
  local user=${1}_user
  setpriv --reuid "${!user}" --regid "${!user}" --clear-groups env HOME="$work" "${@:2}"
}
expect_all() { # id: the workload, whose report is $work/said, has this one identity and all bundles
  jq -e --arg id "$1" --argjson now "$(date +%s)" '.ids == [$id] and .jwt == $id and (.bundles | index("example.org")) and
    (.jwt_bundles | index("example.org")) and .expires > $now and (.refused | length) == 3' "$work/said" >/dev/null || fail "$1: $(cat "$work/said")"
}
nobody_gets_anything() { # program...: somebody whom no entry names
  local out nobody_user=61723
  ! out=$(as nobody "$@" 2>&1) || fail "somebody without an entry has: $out"
  grep -qi "PermissionDenied\|PERMISSION_DENIED\|no identity issued" <<<"$out" || fail "somebody without an entry hears: $out"
}
