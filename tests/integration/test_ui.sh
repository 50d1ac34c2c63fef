#!/bin/bash
# The web page in headless Chromium: a proof verified, a tampered one refused, and what else it
# promises (ui_test.py). Needs `deploy/install-packages browser`; without, it is skipped, but not in CI.
. "$(dirname "$0")/lib.sh"
py=/usr/bin/python3 # Debian's, which has Debian's selenium
{ [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] && $py -c 'import selenium'; } 2>/dev/null ||
  skipped "no Chromium to test the web page with: deploy/install-packages browser"
init
echo 'audit: {access: public}' >>"$a/mayfly.yaml"
start || fail "mayflyd did not become ready"
id=spiffe://test.example/team/one
entry "$id"
fetch() { mayfly-agent fetch --server "$url" --id "$id" --out "$work/out" "$@" >/dev/null; }
fetch --token "$(token "$id")" || fail "no certificate to look at"
serial=$(openssl x509 -in "$work/out/svid.pem" -noout -serial | sed 's/^serial=0*//' | tr A-F a-f)
index=$((16#${serial: -12}))
export PYTHONDONTWRITEBYTECODE=1 PATH HOME="$work"
timeout 800 $py "$here/ui_test.py" --server "$url" --root "$a/ca/root.pem" --vectors "${MAYFLY_VECTORS:-$root/../shared/vectors}" --here "$here" --work "$work" \
  --cert "$work/out/svid.pem" --index "$index" --serial "$serial" \
  --grow "mayfly-agent fetch --server $url --id $id --out $work/out >/dev/null" ${ONLY:+--only=$ONLY} || fail "the web page"
stop || fail "mayflyd ended with status $?"
pass "the web page"
