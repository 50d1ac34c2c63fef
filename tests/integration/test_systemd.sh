#!/bin/bash
# deploy/examples/systemd under a real systemd: the first process of namespaces of its own (systemd_inside.sh), with
# nothing of the host's but its programs. The units are the example's, unchanged; places in agent.yaml are replaced.
# Skipped, in CI too, where namespaces or control groups are not ours to make: that is the machine's matter.
. "$(dirname "$0")/lib.sh"
trust_domain=example.org
. "$here/agent.sh"
example=$root/deploy/examples/systemd
cannot() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || cannot "only root may make namespaces"
for program in unshare nsenter setpriv systemctl openssl; do
  command -v $program >/dev/null || cannot "no $program"
done
[ -x /usr/lib/systemd/systemd ] || [ -x /lib/systemd/systemd ] || cannot "no systemd"
! grep -q __asan_init "$build/mayfly-agent" || cannot "a sanitizer cannot live under the unit's restrictions"

# --- a systemd of its own ---
inside=$work/inside # /run/shared there
group=              # the control group that is the root of its own
systemd=            # the process that waits for it
init=               # itself
end_systemd() {
  local code=$?
  trap - EXIT
  set +e
  [ $code = 0 ] || [ $code = 77 ] || tail -20 "$inside/"*.log 2>/dev/null
  [ -z "$systemd" ] || { pkill -KILL -P "$systemd"; kill -KILL "$systemd"; wait "$systemd"; } 2>/dev/null
  for _ in $(seq 100); do # its processes end a moment later
    [ -n "$group" ] && [ -d "$group" ] || break
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  done
  (exit $code)
  clean
}
trap end_systemd EXIT

unit() { cat >"$inside/etc/systemd/system/$1"; } # NAME: a unit or a drop-in
into_log() { printf '[Service]\nStandardOutput=append:/run/shared/%s\nStandardError=inherit\n' "$1"; }
within() { nsenter -t "$init" -m -u -i -p -C -- "$@"; }
sd() { within systemctl --no-pager --no-ask-password "$@"; }
show() { sd show -P "$2" "$1"; } # unit property
is() { [ "$(show "$1" "$2")" = "$3" ]; }
is_not() { ! is "$@"; }
up() { [[ "$(sd is-system-running 2>/dev/null)" = @(running|degraded) ]]; }
serving() { [ "$(curl -s --max-time 5 "http://127.0.0.1:$http/ready")" = ready ]; } # the network is the host's

start_systemd() {
  local mounted own
  mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  own=$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null) || true
  [ -n "$mounted" ] && [ -n "$own" ] || cannot "no control groups of version 2"
  group=${mounted}${own%/}/mayfly-test
  local old
  for old in "$group".*; do # what a test left that was killed itself
    [ -d "/proc/${old##*.}" ] || find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  group=$group.$$
  mkdir "$group" 2>/dev/null || cannot "no control group may be made here"
  # However this shell ends, that one ends with it, and all that it started.
  (
    echo $BASHPID >"$group/cgroup.procs" &&
      exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc --cgroup --uts --ipc \
        "$here/systemd_inside.sh" "$inside"
  ) >"$work/systemd.log" 2>&1 &
  systemd=$!
  local end=$((SECONDS + 60))
  # Before it says that it is inside, it still sees the host's /run, and in there the host's systemd.
  until [ -e "$inside/inside" ] && init=$(pgrep -P "$systemd") && [ -n "$init" ] && up; do
    kill -0 "$systemd" 2>/dev/null || cannot "no namespaces of the kind that systemd needs: $(tail -1 "$work/systemd.log")"
    [ $SECONDS -lt $end ] || cannot "systemd does not come up in a namespace here"
    sleep 0.1
  done
}

# --- what is in it ---
host=spiffe://example.org/host/web1 web=spiffe://example.org/web api=spiffe://example.org/api
front=spiffe://example.org/front
init
start || fail "the authority does not start"
entry "$host" --selector agent:host --ttl 30
entry "$web" --parent "$host" --selector unix:user:www-data --selector files:dir:/run/identity/web --ttl 10
entry "$api" --parent "$host" --selector systemd:unit:api@1.service --selector unix:user:nobody \
  --selector unix:path:/usr/bin/mayfly-agent \
  --selector "unix:sha256:$(sha256sum "$build/mayfly-agent" | cut -d' ' -f1)" --ttl 10
entry "$front" --parent "$host" --selector systemd:unit:mayfly-proxy@front.service --ttl 10

mkdir -p "$inside/bin" "$inside/etc/mayfly" "$inside/etc/systemd/system/"{mayfly-agent,web}.service.d
cp "$build/mayfly-agent" "$build/mayfly-proxy" "$inside/bin"
http=$(free_port) front_http=$(free_port)
sed -e "s|https://mayfly.example.org:8443|$url|" -e "s|127.0.0.1:9876|127.0.0.1:$http|" "$example/agent.yaml" \
  >"$inside/etc/mayfly/agent.yaml"
cp "$example/mayfly-agent.service" "$example/mayfly-proxy@.service" "$inside/etc/systemd/system"
cat >"$inside/etc/mayfly/proxy-front.yaml" <<Y
http: 127.0.0.1:$front_http
listeners:
  - {mode: server, listen: unix:/run/mayfly-proxy-front/in, to: unix:/run/nobody, allow: [$web]}
Y
echo 'listener: []' >"$inside/etc/mayfly/proxy-bad.yaml"
mkdir "$inside/etc/systemd/system/mayfly-proxy@.service.d"
into_log proxy.log | unit mayfly-proxy@.service.d/log.conf
cp "$example/web.service.d-identity.conf" "$inside/etc/systemd/system/web.service.d/identity.conf"
into_log agent.log | unit mayfly-agent.service.d/log.conf
for target in sysinit basic shutdown network-online multi-user; do
  printf '[Unit]\nDescription=Nothing else\nDefaultDependencies=no\n' | unit $target.target
done
unit web.service <<'U'
[Service]
User=www-data
ExecStart=/bin/sleep infinity
ExecReload=/bin/sh -c 'openssl x509 -in /run/identity/web/svid.pem -noout -serial'
U
{ into_log web.log; echo TimeoutStartSec=300; } | unit web.service.d/log.conf # busy machines have their time
# Two of the same user and program, in slices of their own: the unit's name is what tells them apart.
unit api@.service <<'U'
[Unit]
After=mayfly-agent.service
[Service]
User=nobody
RuntimeDirectory=api%i
SuccessExitStatus=143
ExecStart=/usr/bin/mayfly-agent run --timeout 5s --on-rotate HUP -- /bin/sh -c \
  'show() { openssl x509 -in $MAYFLY_SVID -noout -serial -ext subjectAltName; }; trap show HUP; show; while :; do sleep 0.2; done'
StandardOutput=append:/run/shared/api%i.log
StandardError=inherit
U
touch "$inside/"{agent,web,api1,api2,proxy}.log
ln -s inside/agent.log "$work/agent.log"
start_systemd
pass "systemd $(within systemctl --version | sed -n '1s/^systemd //p') runs in namespaces of its own"

# --- a host whose join token comes later than everything else ---
within test ! -e /etc/mayfly/join-token
sd start --no-block web.service
says_why() { [ "$(grep -c "mayfly token create --id $host" "$inside/agent.log")" -ge 3 ]; }
until_true "the agent says what it needs, again and again" says_why
is web.service ActiveState activating || fail "web.service does not wait: $(sd status web.service)"
pass "without a token the agent says what it needs, and tries again; web.service waits"
(umask 077; token "$host" >"$inside/token")
within install -m 600 /run/shared/token /etc/mayfly/join-token
rm "$inside/token"
until_true "web.service is active" is web.service ActiveState active
until_true "the agent is active" is mayfly-agent.service ActiveState active
[ "$(show mayfly-agent.service Type)" = notify ] || fail "not Type=notify"
[ "$(within stat -Lc '%U %a' /run/identity/web/svid.key)" = "www-data 600" ] || fail "owner or mode of the key"
until_true "the agent is ready" serving
pass "with the token both are there, by themselves"

# --- rotations: the hook of agent.yaml is a systemctl of the agent's, out of all its restrictions ---
reloaded() { [ "$(sort -u "$inside/web.log" | grep -c '^serial=')" -ge "$1" ]; }
until_true "web.service is reloaded with each of two more certificates" reloaded 3
sd stop web.service
sets() { grep -c 'a set of files was written' "$inside/agent.log"; }
before=$(sets)
two_more() { [ "$(sets)" -ge $((before + 2)) ]; }
until_true "rotations while web.service is stopped" two_more
! grep -q 'reload hook failed' "$inside/agent.log" || fail "a hook failed"
until_true "ready while web.service is stopped" serving
sd start web.service
pass "web.service is reloaded at each rotation, and nobody complains while it is stopped"
# --- systemd:unit ---
sd start api@1.service
prints() { [ "$(sort -u "$inside/api1.log" | grep -c '^serial=')" -ge "$1" ]; }
until_true "api@1.service has its identity" prints 1
grep -q "URI:$api" "$inside/api1.log" || fail "another identity: $(cat "$inside/api1.log")"
sd start api@2.service
until_true "another unit's end" is api@2.service Result exit-code
[ "$(show api@2.service ExecMainStatus)" = 4 ] || fail "api@2.service ended with $(show api@2.service ExecMainStatus): $(cat "$inside/api2.log")"
! grep -q serial= "$inside/api2.log" || fail "another unit has the identity"
pass "the identity of a unit is that unit's alone"

# --- the proxy ---
proxy=mayfly-proxy@front.service
sd start $proxy || fail "the proxy does not start: $(cat "$inside/proxy.log")"
is $proxy ActiveState active || fail "the proxy is not active"
[ "$(show $proxy Type)" = notify ] || fail "the proxy is not Type=notify"
proxy_ready() { [ "$(curl -s --max-time 5 "http://127.0.0.1:$front_http/ready")" = ready ]; }
until_true "the proxy is ready" proxy_ready
grep -q '"confined".*"landlock"' "$inside/proxy.log" || fail "the proxy did not confine itself"
pid=$(show $proxy MainPID)
sd kill --kill-whom=main -s HUP $proxy
says_hup() { grep -q 'needs a restart' "$inside/proxy.log"; }
until_true "the proxy speaks of SIGHUP" says_hup
is $proxy MainPID "$pid" || fail "another process after SIGHUP"
sd stop $proxy
is $proxy Result success || fail "the proxy ended with $(show $proxy Result)"
! sd start mayfly-proxy@bad.service 2>/dev/null || fail "the proxy starts with a bad configuration"
is mayfly-proxy@bad.service SubState failed || fail "a bad configuration is tried again: $(show mayfly-proxy@bad.service SubState)"
grep -q 'listener: unknown key' "$inside/proxy.log" || fail "nothing is said of the bad configuration"
pass "the proxy runs by its unit, has the unit's identity, survives SIGHUP and drains; a bad configuration ends it"

# --- the descriptor store: no start needs a token any more ---
within rm /etc/mayfly/join-token
kept() { [ "$(grep -c 'own SVID was kept' "$inside/agent.log")" -ge "$1" ]; }
stored() { [ "$(show mayfly-agent.service NFileDescriptorStore)" -ge 1 ]; }
back() { # how-many-th what: the agent lives on what was kept, is ready, and rotates
  until_true "kept: $2" kept "$1"
  until_true "active: $2" is mayfly-agent.service ActiveState active
  until_true "ready: $2" serving
  local n
  n=$(sort -u "$inside/api1.log" | grep -c '^serial=')
  eventually prints $((n + 1)) || { cat "$inside/api1.log"; fail "a rotation: $2"; }
  until_true "its new keys are kept: $2" stored
  pass "$2"
}
pid=$(show mayfly-agent.service MainPID)
sd kill --kill-whom=main -s KILL mayfly-agent.service
until_true "another process" is_not mayfly-agent.service MainPID "$pid"
back 1 "killed, systemd starts it again with its keys"
pid=$(show mayfly-agent.service MainPID)
sd restart mayfly-agent.service
is_not mayfly-agent.service MainPID "$pid" || fail "not restarted"
back 2 "systemctl restart keeps its keys"
pid=$(show mayfly-agent.service MainPID)
sd reload mayfly-agent.service
is mayfly-agent.service MainPID "$pid" || fail "another process after the reload"
back 3 "systemctl reload keeps its keys, and its process"

# --- the watchdog: an agent that does no more than exist ---
within sh -c 'printf "[Service]\nWatchdogSec=8\n" >/etc/systemd/system/mayfly-agent.service.d/watchdog.conf'
sd daemon-reload
sd restart mayfly-agent.service
back 4 "a restart after a changed unit keeps its keys"
pid=$(show mayfly-agent.service MainPID)
sd kill --kill-whom=main -s STOP mayfly-agent.service
until_true "the watchdog ends it" is_not mayfly-agent.service MainPID "$pid"
back 5 "hanging, the watchdog starts it again with its keys"

# --- the end ---
sd stop api@1.service web.service mayfly-agent.service
for u in api@1 mayfly-agent; do # (web.service may be stopped in the middle of a reload)
  is $u.service Result success || fail "$u.service ended with $(show $u.service Result)"
done
is mayfly-agent.service ExecMainStatus 0 || fail "the agent ended with $(show mayfly-agent.service ExecMainStatus)"
within test ! -e /run/mayfly -a ! -e /run/api1 || fail "folders that stay"
[ -z "$(within cat /sys/fs/cgroup/system.slice/mayfly-agent.service/cgroup.procs 2>/dev/null)" ] || fail "processes that stay"
[ "$(show mayfly-agent.service NFileDescriptorStore)" = 0 ] || fail "its keys stay after a stop"
pass "stopped, nothing stays"
