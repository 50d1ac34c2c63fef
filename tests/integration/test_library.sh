#!/bin/bash
# libmayfly-tlog as a stranger meets it: installed into a prefix of its own, found by pkg-config,
# used by a small C program, on a certificate of a real authority; and `mayfly log verify-cert`.
. "$(dirname "$0")/lib.sh"
command -v pkg-config >/dev/null || exit 77
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
cc=$(cached CMAKE_C_COMPILER)
sanitize=$(cached MAYFLY_SANITIZE)
flags=(-std=c17 -Wall -Wextra -Werror)
[ -z "$sanitize" ] || flags+=("-fsanitize=$sanitize")

# --- installed --------------------------------------------------------------------------------
prefix=$work/first
cmake --install "$build" --prefix "$prefix" >"$work/install.log" 2>&1 || fail "cmake --install: $(tail -5 "$work/install.log")"
mv "$prefix" "$work/moved" # the pc file says where it lies, not where it was made
prefix=$work/moved
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name mayfly-tlog.pc)")
export PKG_CONFIG_PATH
lib=$(pkg-config --variable=libdir mayfly-tlog)
for f in "$lib/libmayfly-tlog.so" "$lib/libmayfly-tlog.a" "$prefix/include/mayfly/tlog.h" \
  "$prefix/share/man/man3/mayfly_tlog.3" "$prefix/share/man/man5/mayfly-policy.5"; do
  [ -s "$f" ] || fail "not installed: $f"
done
pass "installed"

# Every exported symbol is ours by name; nothing is needed but libcrypto and the C library.
strangers=$( (nm -D --defined-only "$lib/libmayfly-tlog.so"; nm -g --defined-only "$lib/libmayfly-tlog.a") |
  awk 'NF == 3 && $2 != "A" {print $3}' | sed 's/@.*//' | grep -v '^mayfly_tlog_' || true)
if [ -z "$sanitize" ]; then
  [ -z "$strangers" ] || fail "exported besides mayfly_tlog_*: $strangers"
  needed=$(readelf -d "$lib/libmayfly-tlog.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^libc\.so\|^libcrypto\.so' || true)
  [ -z "$needed" ] || fail "needed besides libcrypto: $needed"
  pass "symbols and dependencies"
fi
readelf -d "$lib/libmayfly-tlog.so" | has 'SONAME.*libmayfly-tlog\.so\.1' || fail "soname"

# --- a stranger's program ---------------------------------------------------------------------
cat >"$work/relying.c" <<'C'
#include <mayfly/tlog.h>
#include <stdio.h>
#include <stdlib.h>

static size_t load(const char *path, char *dst, size_t cap)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(dst, 1, cap, f) : 0;
    if (!f)
        exit(9);
    fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    static char policy_text[65536], cert[65536];
    struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    struct mayfly_tlog_policy *policy = mayfly_tlog_policy_new();
    if (argc != 3)
        return 9;
    size_t n = load(argv[1], policy_text, sizeof policy_text);
    if (mayfly_tlog_policy_parse(policy, policy_text, n, &error) != MAYFLY_TLOG_OK) {
        printf("%s: %s\n", error.rule, error.message);
        return 2;
    }
    n = load(argv[2], cert, sizeof cert);
    int rc = mayfly_tlog_verify(policy, cert, n, &r);
    if (rc != MAYFLY_TLOG_OK)
        printf("%s: %s\n", r.rule, r.message);
    else
        printf("entry %llu of %s, %s, revision %llu\n", (unsigned long long)r.index, r.origin,
               r.attestor, (unsigned long long)r.entry_revision);
    mayfly_tlog_policy_free(policy);
    return rc == MAYFLY_TLOG_OK ? 0 : 1;
}
C
read -ra shared_flags < <(pkg-config --cflags --libs mayfly-tlog)
"$cc" "${flags[@]}" "$work/relying.c" -o "$work/relying" "${shared_flags[@]}" || fail "compile against the installed tree"
read -ra static_flags < <(pkg-config --static --cflags --libs mayfly-tlog)
"$cc" "${flags[@]}" "$work/relying.c" -o "$work/relying-static" "${static_flags[@]/#-lmayfly-tlog/-l:libmayfly-tlog.a}" || fail "compile against the static library"
ldd "$work/relying-static" | has mayfly && fail "the static program needs the shared library"
if command -v c++ >/dev/null; then
  printf '%s\n' '#include <mayfly/tlog.h>' 'int main() { mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT; return (int)r.index; }' >"$work/x.cc"
  read -ra include_flags < <(pkg-config --cflags mayfly-tlog)
  c++ -Wall -Wextra -Werror -fsyntax-only "${include_flags[@]}" "$work/x.cc" || fail "the header as C++"
fi
export LD_LIBRARY_PATH=$lib
pass "compiled with pkg-config, shared and static"

# --- a certificate of an authority ------------------------------------------------------------
init
start || fail "mayflyd did not become ready"
id=spiffe://test.example/web
entry "$id"
mayfly-agent fetch --server "$url" --id "$id" --token "$(token "$id")" --out "$work/web" >/dev/null || fail "fetch"
svid=$work/web/svid.pem
stop || fail "stop" # all from here is offline

mayfly log verify-cert "$svid" --dir "$a" >"$work/out" || fail "verify-cert: $(cat "$work/out")"
grep -q "^proven logged: .* is entry [0-9]* of " "$work/out" || fail "words: $(cat "$work/out")"
grep -q "join_token" "$work/out" || fail "no attestor: $(cat "$work/out")"
grep -q "^not checked: .*chain.*valid.*revoked" "$work/out" || fail "does not say what was not checked: $(cat "$work/out")"
mayfly log verify-cert "$svid" --dir "$a" --json >"$work/json" || fail "verify-cert --json"
index=$(jq -e .index "$work/json") || fail "JSON: $(cat "$work/json")"
[ "$(jq -r .attestor "$work/json")" = join_token ] || fail "attestor: $(cat "$work/json")"
[ "$(jq -r .witnesses "$work/json")" = 0 ] || fail "witnesses: $(cat "$work/json")"
serial=$(openssl x509 -in "$svid" -noout -serial | cut -d= -f2)
[ $((16#$serial & 0xffffffffffff)) = "$index" ] || fail "index $index, serial $serial"
openssl x509 -in "$svid" -outform DER -out "$work/svid.der"
mayfly log verify-cert "$work/svid.der" --dir "$a" >/dev/null || fail "DER"
# the log's key, as the issuing certificate binds it: the only UTF8String of that form in it
vkey=$(openssl asn1parse -in "$a/ca/issuing.pem" -strparse "$(openssl asn1parse -in "$a/ca/issuing.pem" |
  grep -A1 '2\.25\.1596203715' | sed -n 's/^ *\([0-9]*\):.*OCTET STRING.*/\1/p')" 2>/dev/null | sed -n 's/.*UTF8STRING *://p')
[ -n "$vkey" ] || fail "no log binding in the issuing certificate"
mayfly log verify-cert "$svid" --vkey "$vkey" >/dev/null || fail "--vkey"
printf 'log %s\nquorum none\n' "$vkey" >"$work/policy"
mayfly log verify-cert "$svid" --policy "$work/policy" >/dev/null || fail "--policy"
pass "verify-cert: $(head -1 "$work/out")"

for program in relying relying-static; do
  "$work/$program" "$work/policy" "$svid" >"$work/said" || fail "$program: $(cat "$work/said")"
  grep -q "^entry $index of .*, join_token, revision 1$" "$work/said" || fail "$program said: $(cat "$work/said")"
  "$work/$program" "$work/policy" "$work/svid.der" >/dev/null || fail "$program on DER"
done
pass "the program: $(cat "$work/said")"

# --- refusals ---------------------------------------------------------------------------------
other="log.example.org+74926e07+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
refuses 2 "small order" mayfly log verify-cert "$svid" --vkey "$other"
golang="sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
refuses 5 "not among" mayfly log verify-cert "$svid" --vkey "$golang"
witness="witness.example.com/w1+7e6f4aaa+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
printf 'log %s\nwitness w %s\nquorum w\n' "$vkey" "$witness" >"$work/policy2"
refuses 5 "quorum" mayfly log verify-cert "$svid" --policy "$work/policy2"
"$work/relying" "$work/policy2" "$svid" >"$work/said" && fail "the program took an unmet quorum"
grep -q "^quorum: " "$work/said" || fail "the program said: $(cat "$work/said")"
printf 'log %s\nquorum nobody\n' "$vkey" >"$work/policy3"
refuses 1 "line 2" mayfly log verify-cert "$svid" --policy "$work/policy3"
refuses 5 "no stapled log proof" mayfly log verify-cert "$a/ca/root.pem" --dir "$a"
refuses 1 "CERTIFICATE" mayfly log verify-cert "$work/policy" --dir "$a"
refuses 1 "" mayfly log verify-cert "$work/nothing" --dir "$a"
refuses 2 "one FILE" mayfly log verify-cert --dir "$a"
refuses 2 "exclude" mayfly log verify-cert "$svid" --vkey "$vkey" --policy "$work/policy"
refuses 2 "did you mean --policy" mayfly log verify-cert "$svid" --polcy x
# a byte in the middle, where the proof is
python3 - "$work/svid.der" "$work/bad.der" <<'P'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
b[len(b) // 2] ^= 1
open(sys.argv[2], "wb").write(b)
P
refuses 5 "" mayfly log verify-cert "$work/bad.der" --dir "$a"
