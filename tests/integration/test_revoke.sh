#!/bin/bash
# mayfly revoke: by each way of naming a renewal right after it is refused, the log says so, and a
# restart keeps it; a signer that is away delays nothing but the record.
. "$(dirname "$0")/lib.sh"
init
start || fail "mayflyd did not become ready"
in=spiffe://test.example
fetch() { mayfly-agent fetch --server "$url" --id "$1" --out "$work/$2" "${@:3}"; }
begin() { fetch "$1" "$2" --token "$(token "$1")" >/dev/null || fail "no certificate for $1"; }
renew() { fetch "$1" "$2" >/dev/null 2>"$work/why" || fail "no renewal for $1: $(cat "$work/why")"; }
denied() { refuses 4 "was revoked" fetch "$1" "$2"; }
revoke() { mayfly revoke --dir "$a" --json "$@" >"$work/revoked" || fail "not revoked: $*"; }
revoked() { jq -e "$1" "$work/revoked" >/dev/null || fail "not $1 but $(cat "$work/revoked")"; }
serial() { openssl x509 -in "$work/$1/svid.pem" -noout -serial | cut -d= -f2; }
keyhash() { openssl x509 -in "$work/$1/svid.pem" -noout -pubkey | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1; }
show() { # index: as soon as it is published
  for _ in $(seq 600); do
    mayfly log show --dir "$a" "$1" >"$work/shown" 2>&1 && return
    sleep 0.1
  done
  fail "no entry $1 in the log: $(cat "$work/shown")"
}
recorded() { # by value: the log has the record that the answer names
  show "$(jq .log_index "$work/revoked")"
  grep -q revocation "$work/shown" && grep -q -- "$2" "$work/shown" || fail "the log's record of $*: $(cat "$work/shown")"
}
for name in one two web web/a web/b web2 entry agent serial key other; do entry "$in/$name"; begin "$in/$name" "$name"; done
renew $in/one one
pass "certificates, and a renewal by SVID"

revoke --id $in/one --reason keyCompromise --comment "lost with the disk"
revoked '.by == "spiffe_id" and .reason == "keyCompromise" and .ended.sessions == 2 and .ended.authorizations == 2 and .actor == "uid:0"'
denied $in/one one
recorded spiffe_id $in/one
grep -q "lost with the disk" "$work/shown" || fail "the comment: $(cat "$work/shown")"
renew $in/two two
begin $in/one one2
renew $in/one one2
denied $in/one one
pass "by SPIFFE ID; new evidence counts"

unspent=$(token $in/web/b)
revoke --prefix $in/web
revoked '.ended.sessions == 3 and .ended.tokens == 1'
for name in web web/a web/b; do denied $in/$name $name; done
refuses 4 "was revoked since" fetch $in/web/b web/b --token "$unspent"
renew $in/web2 web2
recorded prefix $in/web
pass "by prefix"

id=$(mayfly entry show --dir "$a" $in/entry --json | jq -r .id)
revoke --entry "$id"
denied $in/entry entry
recorded entry "$id"
revoke --agent $in/agent
denied $in/agent agent
recorded agent $in/agent
revoke --serial "$(serial serial)"
revoked '.by == "serial" and .ended.sessions == 1'
denied $in/serial serial
recorded serial "$(jq -r .value "$work/revoked")"
revoke --key "$(keyhash key)"
denied $in/key key
recorded key "$(keyhash key)"
pass "by entry, agent, serial and key"

# The moment a certificate has is enough to name it: its entry is published within a second.
begin $in/other other
revoke --serial "$(serial other | sed 's/../&:/g; s/:$//')"
denied $in/other other
pass "a serial as openssl prints it, of a certificate just made"

# What is refused, and says why.
r() { mayfly revoke --dir "$a" "$@"; }
refuses 2 "what is revoked" r
refuses 2 "name one thing" r --id $in/one --prefix $in/web
refuses 2 "did you mean --serial" r --seriel 1
refuses 4 "trust domain other.example is not ours" r --id spiffe://other.example/web
refuses 4 "a workload needs a path" r --prefix $in
refuses 1 "no entry with the id nothing" r --entry nothing
refuses 4 "64 lowercase hex digits" r --key abc
refuses 4 "no serial number in hex" r --serial xyz
refuses 1 "its serials begin with 1" r --serial 2000000000001
refuses 1 "which the log does not have" r --serial 1fffffffffff0
refuses 1 "no workload's certificate" r --serial 1000000000001
refuses 1 "no workload's certificate" r --serial 1000000000000
refuses 4 "no such reason" r --id $in/one --reason boredom
refuses 4 "at most 512 bytes" r --id $in/one --comment "$(head -c 513 /dev/zero | tr '\0' c)"
refuses 4 "revoked already" r --serial "$(serial serial)"
refuses 4 "revoked already" r --key "$(keyhash key)"
[ "$(r --list --json | jq '.revocations | length')" = 7 ] || fail "the list: $(r --list)"
r --list | has "spiffe_id.*$in/one.*keyCompromise.*uid:0" || fail "the list for people: $(r --list)"

# Over a restart.
stop || fail "stop"
start || fail "restart"
[ "$(r --list --json | jq '[.revocations[] | select(.log_index)] | length')" = 7 ] || fail "the list after a restart: $(r --list)"
for name in one web web/a web/b entry agent serial key other; do denied $in/$name $name; done
renew $in/two two
pass "a restart keeps them"

# While the signer is away: revoked at once; the log has it when the signer is back.
before=$(r --list --json | jq '.revocations | length')
kill -STOP "$(child signer)"
r --id $in/two >"$work/words" || fail "not revoked without the signer"
grep -q "waiting for the signer" "$work/words" || fail "no word on the log: $(cat "$work/words")"
out=$(timeout 60 mayfly-agent fetch --server "$url" --id $in/two --out "$work/two" 2>&1) && fail "a renewal without a signer"
grep -q "was revoked" <<<"$out" || fail "refused for another reason: $out"
kill -CONT "$(child signer)"
for _ in $(seq 600); do
  index=$(r --list --json | jq ".revocations[$before].log_index")
  [ "$index" != null ] && break
  sleep 0.1
done
[ "$index" != null ] || fail "the log was never told"
show "$index"
grep -q $in/two "$work/shown" || fail "the record: $(cat "$work/shown")"
denied $in/two two
pass "without the signer"

mayfly log verify --dir "$a" >/dev/null || fail "the log does not verify"
stop || fail "stop"
