#!/bin/bash
# What `mayfly` answers to mistakes and to a log that lies: the exit status that its page promises.
. "$(dirname "$0")/lib.sh"
init

# A word too many is a mistake, not something to overlook.
extra() { refuses 2 "unexpected 'too-much'" "$@" too-much; }
extra mayfly init --dir "$work/other" --trust-domain test.example
[ ! -e "$work/other" ] || fail "init went on"
extra mayfly status --dir "$a"
extra mayfly bundle show --dir "$a"
extra mayfly log checkpoint --dir "$a"
extra mayfly log verify --dir "$a"
extra mayfly hsm check --dir "$a"
extra mayfly entry list --dir "$a"
extra mayfly entry create --dir "$a" --id spiffe://test.example/x
extra mayfly token create --dir "$a" --id spiffe://test.example/x
refuses 2 "one INDEX is needed" mayfly log show --dir "$a" 1 2

# What JSON can not say is not left out of what is asked for: an entry with a selector less is another's, too.
x=spiffe://test.example/x latin1=$'a:\xe9'
for option in selector dns parent hint; do
  refuses 2 "--$option is not text in UTF-8" mayfly entry create --dir "$a" --id $x "--$option" "$latin1"
  refuses 2 "--$option is not text in UTF-8" mayfly entry update --dir "$a" $x "--$option" "$latin1"
done
refuses 2 "not text in UTF-8" mayfly entry create --dir "$a" --id $x -s unix:uid:1 -s "$latin1"
refuses 2 "not text in UTF-8" mayfly token create --dir "$a" --selector agent:x --id "$latin1"
refuses 2 "not text in UTF-8" mayfly revoke --dir "$a" --id "$latin1"
refuses 2 "not text in UTF-8" mayfly revoke --dir "$a" --id $x --comment "$latin1"
refuses 2 "not text in UTF-8" mayfly revoke --dir "$a" --id $x --reason "$latin1"

# A log under another key, and one that was forged: it did not verify (5).
mayfly init --dir "$work/b" --trust-domain test.example >/dev/null || fail "a second authority"
other=$work/b/log
for verb in checkpoint verify "show 1"; do
  refuses 5 "" mayfly log $verb --dir "$a" --log "$other"
done
cp -a "$a/log" "$work/forged"
sed -i '2s/.*/9/' "$work/forged/checkpoint"
for verb in checkpoint verify "show 1"; do
  refuses 5 "" mayfly log $verb --dir "$a" --log "$work/forged"
done
echo garbage >"$work/forged/checkpoint"
for verb in checkpoint verify "show 1"; do
  refuses 5 "" mayfly log $verb --dir "$a" --log "$work/forged"
done
head -c 100000 /dev/zero >"$work/forged/checkpoint"
for verb in checkpoint verify "show 1"; do
  refuses 5 "" mayfly log $verb --dir "$a" --log "$work/forged"
done
refuses 1 "no entry 99" mayfly log show 99 --dir "$a"
for bad in "" nonsense test.example/log1+00000000+AAAA "a b+00000000+AQ=="; do
  refuses 2 "--vkey" mayfly log verify --dir "$a" --vkey "$bad"
done
cp -a "$work/b" "$work/c"
cp "$a/ca/root.pem" "$work/c/ca/issuing.pem"
refuses 5 "" mayfly log verify --dir "$work/c"

# Completion knows every command, and every option that its help names.
. "$root/deploy/completion/mayfly"
completes() { # words..., the last begun: what it may become
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  "_${1//-/_}"
  printf '%s\n' "${COMPREPLY[@]}"
}
options_of() { "$@" --help | grep -oE '^( *usage:.*| +(-[a-zA-Z], )?--.*)' | grep -oE -- '--[a-z][a-z-]*' | sort -u; }
same_options() { # command...
  local missing
  missing=$(comm -23 <(options_of "$@") <(completes "$@" -- | sort -u))
  [ -z "$missing" ] || fail "completion of '$*' lacks" $missing
  missing=$(comm -13 <(options_of "$@") <(completes "$@" -- | sort -u))
  [ -z "$missing" ] || fail "completion of '$*' has, and its help has not:" $missing
}
commands=0
for group in $(mayfly --help | sed -n '/^Example/q; s/^  \([a-z][a-z]*\) .*/\1/p' | grep -v '^mayfly$' | sort -u); do
  completes mayfly "" | has -x "$group" || fail "completion lacks $group"
  case $group in init | revoke | status) same_options mayfly "$group"; continue ;; esac
  for verb in $(mayfly "$group" --help | sed -n '/^Example/q; s/^  \([a-z][a-z-]*\).*/\1/p'); do
    completes mayfly "$group" "" | has -x "$verb" || fail "completion lacks $group $verb"
    mayfly --help | has "^  $group .*\b$verb\b" || fail "mayfly --help lacks $group $verb"
    same_options mayfly "$group" "$verb"
    commands=$((commands + 1))
  done
done
for command in $(mayfly-agent --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p'); do
  completes mayfly-agent "" | has -x "$command" || fail "completion lacks mayfly-agent $command"
  [ "$command" = proxy ] || same_options mayfly-agent "$command" # a program of its own
done
[ $commands -ge 18 ] || fail "only $commands commands were looked at"
for option in $(mayflyd --help | grep -oE '^ +(-[a-z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
  complete -p mayflyd | has -e "$option" || fail "completion of mayflyd lacks $option"
done
same_options mayfly-proxy
pass "completion knows what help knows"

# The token is away: not reachable (3), not refused.
mv "$a/token/tokens" "$work/away"
refuses 3 "token" mayfly hsm check --dir "$a"
mv "$work/away" "$a/token/tokens"
mayfly hsm check --dir "$a" >/dev/null || fail "hsm check with the token back"

# An authority that was left half made is gone on with by the same command, and by no other.
port=1 # nobody listens in this test
begun() { # what a ceremony that was cut short leaves: all but the certificates
  rm -rf "$work/half"
  mayfly init --dir "$work/half" --trust-domain test.example >/dev/null && rm "$work"/half/ca/*
}
begun || fail "init"
before=$(sha256sum "$work/half/mayfly.yaml")
other() { refuses 1 "$1" mayfly init --dir "$work/half" --trust-domain "${@:2}"; }
other "for trust_domain" other.example
other "for listen" test.example --listen 127.0.0.1:9999
other "for names" test.example --name ca.test.example
(umask 077 && echo 1234 >"$work/pin")
other "for token.uri" test.example --token-uri pkcs11:token=prod --pin-file "$work/pin" --yes
[ "$(id -u)" != 0 ] || other "for run.signer_user" test.example --signer-user 7:7
[ "$before" = "$(sha256sum "$work/half/mayfly.yaml")" ] && [ ! -e "$work/half/ca/root.pem" ] || fail "a refused init changed something"
mayfly init --dir "$work/half" --trust-domain test.example >"$work/o" 2>&1 || fail "the same command was refused: $(cat "$work/o")"
[ -s "$work/half/ca/root.pem" ] || fail "no root after going on"
refuses 1 "already holds an authority" mayfly init --dir "$work/half" --trust-domain test.example
pass "an init that was cut short"

if [ "$(id -u)" = 0 ]; then
  # As root: whatever could fail at the last step is looked at before the first.
  refuses 1 "does not exist" mayfly init --dir "$work/r" --trust-domain test.example --signer-user no-such-user
  refuses 1 "is root" mayfly init --dir "$work/r" --trust-domain test.example --frontend-user root
  refuses 1 "one user" mayfly init --dir "$work/r" --trust-domain test.example --signer-user 7:7 --frontend-user 7:8
  mkdir -m 700 "$work/home"
  refuses 1 "may not enter $work/home; choose a --dir outside it" mayfly init --dir "$work/home/deep/er" --trust-domain test.example
  [ ! -e "$work/r" ] && [ ! -e "$work/home/deep" ] || fail "a refused init left something"
  # The last step alone was cut short: owners are set, and only once.
  chown 0:0 "$work/half/store" "$work/half/log"
  mayfly init --dir "$work/half" --trust-domain test.example >"$work/o" 2>&1 || fail "the owners were not set again: $(cat "$work/o")"
  [ "$(stat -c %u "$work/half/store")" = 61711 ] && [ "$(stat -c %u "$work/half/log")" = "$(stat -c %u "$work/half/token")" ] || fail "owners"
  refuses 1 "already holds an authority" mayfly init --dir "$work/half" --trust-domain test.example
  pass "owners"
fi
