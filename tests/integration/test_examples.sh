#!/bin/bash
# deploy/examples with the real servers: each does mTLS with files that the agent's output writes, through a hundred
# rotations under load, and not one request fails (Caddy's clients may have to try twice). Names and ports in the examples are replaced, nothing else.
# ROTATIONS=n for fewer.
. "$(dirname "$0")/lib.sh"
examples=$root/deploy/examples
rotations=${ROTATIONS:-$(times 100 20)}
export PATH=$PATH:/usr/sbin:/usr/lib/postgresql/15/bin

for program in nginx haproxy postgres caddy socat python3 openssl; do
  command -v $program >/dev/null || skipped "no $program (deploy/install-packages servers)"
done
# Servers that are not to be root run as their own users where this test is root.
owner() { # user
  if [ "$(id -u)" = 0 ] && id "$1" >/dev/null 2>&1; then echo "$(id -u "$1"):$(id -g "$1")"; else echo "$(id -u):$(id -g)"; fi
}
as() { # user command...
  if [ "$(id -u)" = 0 ]; then setpriv --reuid "${1%:*}" --regid "${1#*:}" --clear-groups "${@:2}"; else "${@:2}"; fi
}
example() { # file server: with this test's places and port
  sed -e "s|/run/identity/$2|$work/$2|g" -e "s|\b8443\b|$port|g" "$examples/$1"
}
load() { # kind server server-start... :: driver-options...
  local kind=$1 server=$2
  shift 2
  local start=() options=()
  while [ "$1" != :: ]; do start+=("$1"); shift; done
  shift
  options=("$@")
  python3 "$here/rotation_load.py" "$kind" "$port" "$rotations" "$work/client-$server" $again -- "${start[@]}" :: \
    output_driver "$work/$server" "$work/client-$server" "${options[@]}" >"$work/$server.out" 2>"$work/$server.err" ||
    { cat "$work/$server.out"; tail -30 "$work/$server.err"; fail "$server"; }
  pass "$server: $(cat "$work/$server.out")"
}
# A configuration that its agent.yaml does not belong to proves nothing.
agrees() { # server directory-in-example
  grep -q "dir: /run/identity/$1\$" "$examples/$1/agent.yaml" || fail "$1/agent.yaml has another dir"
}

again=
for s in nginx haproxy postgresql caddy; do agrees $s; done

# --- nginx ---
port=$(free_port)
example nginx/nginx.conf nginx | sed -e "s|/run/nginx.pid|$work/nginx.pid|" -e "s|/var/log/nginx/error.log|stderr|" -e "s|^user www-data;|$([ "$(id -u)" = 0 ] && echo 'user www-data;')|" \
  -e "s|access_log off;|&\n    client_body_temp_path $work/nginx-t1; proxy_temp_path $work/nginx-t2; fastcgi_temp_path $work/nginx-t3; uwsgi_temp_path $work/nginx-t4; scgi_temp_path $work/nginx-t5;|" >"$work/nginx.conf"
load http nginx nginx -e stderr -c "$work/nginx.conf" -g "daemon off;" :: --pid-file "$work/nginx.pid"

# --- HAProxy ---
port=$(free_port)
user=$(owner haproxy)
example haproxy/haproxy.cfg haproxy | sed -e "s|/run/haproxy/admin.sock|$work/haproxy.sock|" \
  -e "$([ "$(id -u)" = 0 ] || echo '/^    \(user\|group\) haproxy$/d')" >"$work/haproxy.cfg"
load http haproxy haproxy -W -db -p "$work/haproxy.pid" -f "$work/haproxy.cfg" :: --owner "$user" --combined \
  --reload "$examples/haproxy/mayfly-reload $work/haproxy.sock $work/haproxy.pid"

# --- PostgreSQL: the load has no password, hence trust; all else is the example's ---
port=$(free_port)
user=$(owner postgres)
mkdir "$work/pg" && chown "$user" "$work/pg"
as "$user" initdb -D "$work/pg/data" -U postgres -A trust >"$work/initdb.log" 2>&1 || { cat "$work/initdb.log"; fail initdb; }
as "$user" sh -c "echo 'create user load' | postgres --single -D $work/pg/data postgres >/dev/null 2>&1" || fail "create user"
{ echo "listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''"; example postgresql/mayfly.conf postgresql; } >>"$work/pg/data/postgresql.conf"
sed "s|scram-sha-256|trust|" "$examples/postgresql/pg_hba.conf" >"$work/pg/data/pg_hba.conf"
if [ "$(id -u)" = 0 ]; then run=(setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups postgres); else run=(postgres); fi
load postgres postgresql "${run[@]}" -D "$work/pg/data" :: --owner "$user" --pid-file "$work/pg/data/postmaster.pid"

# --- Caddy: 2.6 resets a connection now and then that arrives while it takes over its configuration ---
again=again
port=$(free_port)
admin=$(free_port)
example caddy/Caddyfile caddy | sed "s|localhost:2019|localhost:$admin|" >"$work/Caddyfile"
export XDG_DATA_HOME=$work/caddy-data XDG_CONFIG_HOME=$work/caddy-config
load http caddy caddy run --config "$work/Caddyfile" --adapter caddyfile :: \
  --reload "caddy reload --force --config $work/Caddyfile --adapter caddyfile --address localhost:$admin"

# --- systemd ---
if command -v systemd-analyze >/dev/null; then
  mkdir -p "$work/units/web.service.d"
  sed "s|/usr/bin/mayfly-agent|$build/mayfly-agent|" "$examples/systemd/mayfly-agent.service" >"$work/units/mayfly-agent.service"
  sed "s|/usr/bin/mayfly-proxy|$build/mayfly-proxy|" "$examples/systemd/mayfly-proxy@.service" >"$work/units/mayfly-proxy@.service"
  cp "$examples/systemd/web.service.d-identity.conf" "$work/units/web.service.d/identity.conf"
  printf '[Service]\nExecStart=/bin/true\n' >"$work/units/web.service"
  SYSTEMD_UNIT_PATH=$work/units: systemd-analyze verify --man=no "$work/units/mayfly-agent.service" \
    "$work/units/mayfly-proxy@web.service" "$work/units/web.service" >"$work/units.log" 2>&1 || true
  ! grep -E "^($work/units|mayfly-(agent|proxy@.*)\.service|web.service)|Unknown|Failed to parse" "$work/units.log" || fail "systemd units"
  pass "systemd units"
fi
