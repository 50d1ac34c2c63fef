"""The web page in headless Chromium: against a real authority, and against a log that lies.
Run by test_ui.sh."""
import argparse
import base64
import functools
import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import traceback
import urllib.parse

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import ui_log
from ui_log import HOSTILE, T0, big_log, refusal
from ui_page import Page, browser, eventually


# --- the log that lies --------------------------------------------------------------------------------

def issuer(folder, key):
    """An issuing certificate that binds the log's key, as mayfly's do."""
    pem, der = os.path.join(folder, "issuer.pem"), os.path.join(folder, "issuer.der")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", os.devnull, "-out", pem, "-subj", "/CN=lie",
                    "-set_serial", "0x01000000000002", "-addext", f"2.25.1596203715=ASN1:UTF8String:{key.text}"], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-in", pem, "-outform", "DER", "-out", der], check=True)
    with open(der, "rb") as f:
        return f.read()


def ask_authority(args, path, **headers):
    u = urllib.parse.urlsplit(args.server)
    c = http.client.HTTPSConnection(u.hostname, u.port, context=ssl.create_default_context(cafile=args.root), timeout=10)
    c.request("GET", path, headers=headers)
    r = c.getresponse()
    return r, r.read()


class World:
    def __init__(self, args, driver):
        self.args = args
        self.folder = tempfile.mkdtemp(dir=args.work)
        files = {"/test/ui_vectors.js": os.path.join(args.here, "ui_vectors.js"), "/test/entries.jsonl": os.path.join(args.here, "../vectors/entries.jsonl")}
        for name, file in (("inclusion.jsonl", "merkle"), ("consistency.jsonl", "merkle")):
            files["/test/" + name] = os.path.join(args.vectors, file, name)
        files["/test/ed25519.json"] = os.path.join(args.vectors, "wycheproof/ed25519_test.json")
        self.server = ui_log.Server(args.server, args.root, {k: v for k, v in files.items() if os.path.exists(v)})
        self.real, self.page = Page(driver, args.server), Page(driver, self.server.url)
        self.key = ui_log.Key(self.folder, "lie.example/log1")
        self.witness = ui_log.Key(self.folder, "witness.example/w1", 4)
        self.issuer = issuer(self.folder, self.key)
        self.log = ui_log.Log(big_log([self.entry_of_authority(int(args.index))]))

    def size_of_authority(self):
        return int(ask_authority(self.args, "/log/checkpoint")[1].split(b"\n")[1])

    def entry_of_authority(self, index):
        eventually(lambda: self.size_of_authority() > index)
        bundle = ask_authority(self.args, f"/log/tile/entries/000.p/{self.size_of_authority()}")[1]
        for _ in range(index):
            bundle = bundle[2 + int.from_bytes(bundle[:2], "big") :]
        return bundle[2 : 2 + int.from_bytes(bundle[:2], "big")]

    def honest(self, size=70000):
        """The server as it should be, and a browser that was never here."""
        s = self.server
        s.issuer, s.audit, s.tamper, s.stats = self.issuer, "public", None, stats()
        s.show(self.log, self.key, size)
        self.page.open()
        self.page.forget()
        self.page.open()
        assert not self.page.alarm(), self.page.alarm()

    def shows(self, log, key, size, **options):
        self.server.show(log, key, size, **options)
        self.page.open()

    def other(self):
        """The same log but for one entry of long ago."""
        if not hasattr(self, "forked"):
            self.forked = ui_log.Log([*self.log.entries[:5], refusal(5, "spiffe://lie.example/other"), *self.log.entries[6:]])
        return self.forked


def stats():
    hour, day = T0 // 3600, T0 // 86400
    return {"indexed": 70000, "hours": [{"start": (hour - 47 + i) * 3600, "issued": i * 10, "refused": i % 7, "revoked": 0} for i in range(48)],
            "days": [{"start": (day - 89 + i) * 86400, "issued": i * 240, "refused": i, "revoked": i % 2} for i in range(90)],
            "lifetimes": [{"up_to": n, "count": n * 3} for n in (60, 300, 600, 3600)] + [{"up_to": 0, "count": 5}]}


# --- tests --------------------------------------------------------------------------------------------

def test_vectors(w):
    w.honest(1000)
    got = w.page.driver.execute_async_script("const done = arguments[0]; import('/test/ui_vectors.js').then((m) => m.run()).then(done, (e) => done({error: [0, String(e)]}))")
    for name, result in got.items():
        if result is None:
            print(f"   {name}: no vectors at hand, skipped")
            continue
        assert result[0] > 30 and len(result) == 1, f"{name}: {result}"
        print(f"   {name}: {result[0]} vectors")


def test_headers(w):
    ask = functools.partial(ask_authority, w.args)
    for path, kind in (("/ui/", "text/html"), ("/ui/app.js", "text/javascript"), ("/ui/style.css", "text/css"), ("/ui/icon.svg", "image/svg+xml")):
        r, body = ask(path)
        assert r.status == 200 and body and r.getheader("Content-Type").startswith(kind), (path, r.status)
        policy = r.getheader("Content-Security-Policy")
        for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
            assert rule in policy, policy
        assert "unsafe" not in policy
        assert (r.getheader("X-Content-Type-Options"), r.getheader("Referrer-Policy"), r.getheader("Cache-Control")) == ("nosniff", "no-referrer", "no-cache")
        again, nothing = ask(path, **{"If-None-Match": r.getheader("ETag")})
        assert again.status == 304 and not nothing and again.getheader("ETag") == r.getheader("ETag")
    assert ask("/ui")[0].getheader("Location").endswith("/ui/")
    for path in ("/ui/nothing.js", "/ui/../etc/passwd", "/ui//app.js", "/ui/app.js/"):
        assert ask(path)[0].status == 404, path


def test_authority(w):
    p = w.real
    p.open()
    p.forget()
    p.open()
    assert p.state("#status") == "good", p.text()
    p.says("the log’s key came from this server")
    p.says("signed by the log’s key")
    p.says("spiffe://test.example/team/one", "main table")
    assert "✗" not in p.text("main table")
    p.open()
    p.says("the log’s key is the one remembered")
    p.until("return /the same head as you saw last|nothing that you saw before/i.test(document.body.innerText)")
    size = w.size_of_authority()
    subprocess.run(w.args.grow, shell=True, check=True)
    eventually(lambda: w.size_of_authority() > size)
    p.open()
    p.says("nothing that you saw before was changed or taken away")


def test_authority_entry(w):
    p = w.real
    p.open(f"entry/{w.args.index}")
    assert p.state("#proof") == "good", p.text()
    p.says("Verified: this stands in the log", "#proof")
    for words in ("Asked", "Attested", "join_token", "Logged", "Signed", "spiffe://test.example/team/one", "Its serial number can only be " + w.args.serial):
        p.says(words, "main")
    p.click("#tamper")
    assert p.state("#tampered") == "bad"
    p.says("Refused: the altered entry", "#tampered")


def test_authority_search(w):
    p = w.real
    # the search's index follows the log
    eventually(lambda: w.args.serial in ask_authority(w.args, "/audit/v1/entries?serial=" + w.args.serial)[1].decode())
    p.open("search?prefix=spiffe%3A%2F%2Ftest.example%2Fteam&outcome=issued&order=oldest")
    p.says("each proven to stand in the log", "#results")
    p.says("spiffe://test.example/team/one", "#results")
    assert "✗" not in p.text("#results")
    p.fill("#q", w.args.serial).submit()
    p.until("return location.hash.includes('serial=')")
    p.settled()
    p.says("1 line, each proven", "#results")
    p.go(f"entry/{w.args.index}")
    p.says("names no revocation of it", "main")
    p.go("time")
    p.says("these are the server’s own counts")
    assert p.js("return document.querySelectorAll('#issued-hour rect, #issued-day rect').length") == 48 + 90


def test_certificate(w):
    p = w.real
    p.open("certificate")
    with open(w.args.cert) as f:
        pem = f.read()

    def check(text):
        p.js("document.querySelector('#pem').value = arguments[0]", text)
        p.click("button[type=submit]")
        p.until("return document.querySelector('#checked [data-state]:not(.busy)')")
        return p.js("return [...document.querySelectorAll('#checked [data-state]')].map((v) => v.dataset.state)")

    assert check(pem) == ["good", "good", "good"], p.text("#checked")
    p.says("the log has this very certificate", "#checked")
    lines = pem.split("-----END")[0].split("\n")[1:-1]
    der = bytearray(base64.b64decode("".join(lines)))
    at = der.index(b"spiffe://test.example/team/one") + 29
    der[at] ^= 1  # another name, same length
    altered = "-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der).decode() + "\n-----END CERTIFICATE-----\n"
    assert check(altered) == ["bad", "bad", "bad"], p.text("#checked")
    p.says("the log has something else in its place" if "else in its place" in p.text("#checked") else "wrong", "#checked")
    assert check("nonsense") == ["bad"]


def test_big_log(w):
    w.honest()
    p = w.page
    assert p.text("#size") == "70,000"
    for index in (0, 1, 255, 256, 65535, 65536, 69999):
        p.go(f"entry/{index}")
        assert p.state("#proof") == "good", (index, p.text())
    w.server.asked.clear()
    p.open("entry/33333")
    assert p.state("#proof") == "good"
    assert len([a for a in w.server.asked if a.startswith("/log/tile")]) < 12, w.server.asked
    p.go("entry/70000")
    p.says("the last one is number 69,999")


def test_strange_entries(w):
    w.honest(1000)
    p = w.page
    p.go("entry/300")
    p.says(HOSTILE, "main")
    assert not p.js("return document.querySelector('main img')") and p.js("return document.title") != "1"
    p.go("entry/301")
    p.says("which this page does not know", "main")
    assert p.state("#proof") == "good"
    p.go("entry/302")
    p.says("malformed", "main")
    assert p.state("#proof") == "good"
    p.go("nowhere")
    p.says("There is no such page")


def test_tampered(w):
    """What the server alters on the way is refused, whatever it is."""
    w.honest(1000)
    p = w.page

    def altered(prefix, at):
        def tamper(path, body):
            body = bytearray(body)
            if path.startswith(prefix):
                body[at % len(body)] ^= 1
            return bytes(body)
        return tamper

    for prefix, at in (("/log/tile/entries/001", 2 + 20), ("/log/tile/0/001", 45 * 32), ("/log/tile/1/000", 7)):
        w.server.tamper = altered(prefix, at)
        p.open("entry/256" if "entries" in prefix else "entry/300")
        assert p.state("#proof") == "bad", (prefix, p.text())
        p.says("Refused: this entry is not proven", "#proof")
        assert "Asked" not in p.text("main") and "On 20" not in p.text("main"), "it is told as if it were true"
    w.server.tamper = None
    p.open("entry/300")
    assert p.state("#proof") == "good"
    note = w.server.note.encode()
    root, signature = 24, note.rindex(b" ") + 30

    def put(at, byte):
        return lambda path, body: body[:at] + byte + body[at + 1 :] if path == "/log/checkpoint" else body

    for at, byte in ((18, b"1"), (18, b"x"), (root, b"*"), (root, b"A" if note[root] != 65 else b"B"), (root, b"\xff"), (signature, b"*"),
                     (signature, b"A" if note[signature] != 65 else b"B"), (len(note) - 1, b""), (len(note) - 1, b" ")):
        w.server.tamper = put(at, byte)
        p.open()
        p.says("Refused", "#alarm")
        assert not p.text("#status"), p.text("#status")
        p.go("entry/300")
        p.says("nothing can be proven by it", "main")


def test_own_ed25519(w):
    """A browser whose WebCrypto does not know Ed25519."""
    w.honest(300)
    p = w.page
    script = p.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FORGET_ED25519})["identifier"]
    try:
        p.open()
        assert p.state("#status") == "good"
        p.says("this page’s own code checked the signature")
        at = w.server.note.encode().rindex(b" ") + 30
        w.server.tamper = lambda path, body: body[:at] + (b"A" if body[at] != 65 else b"B") + body[at + 1 :] if path == "/log/checkpoint" else body
        p.open()
        p.says("the head’s signature is wrong", "#alarm")
    finally:
        p.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})


FORGET_ED25519 = """
const all = globalThis.SubtleCrypto?.prototype.importKey; // about:blank has none
if (all) SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...rest) {
  return algorithm.name === 'Ed25519' ? Promise.reject(new DOMException('unknown', 'NotSupportedError')) : all.call(this, format, key, algorithm, ...rest);
};
"""


def test_history(w):
    """The remembered head against growing, standing, shrinking and forked logs."""
    w.honest(300)
    p = w.page
    p.says("no earlier head to compare with")
    for size in (301, 512, 513, 1000, 69999):
        w.shows(w.log, w.key, size)
        p.says("nothing that you saw before was changed or taken away")
        assert not p.alarm()
    for size in (512, 300):  # a damaged tile is no other history, whatever form the proof has
        w.honest(size)
        w.server.tamper = lambda path, body: body[:40] + bytes([body[40] ^ 1]) + body[41:] if path.startswith("/log/tile/0/003") else body
        w.shows(w.log, w.key, 1000)
        p.says("the log’s tiles do not fit its signed head", "#alarm")
        assert "two histories" not in p.alarm()
        w.server.tamper = None
    w.shows(w.log, w.key, 69999)
    w.shows(w.log, w.key, 69998)
    p.says("the log has become shorter", "#alarm")
    w.shows(w.other(), w.key, 69999)
    p.says("this log shows two histories", "#alarm")
    p.says("The two heads, to keep as evidence")
    w.shows(w.other(), w.key, 70000)
    p.says("this log shows two histories", "#alarm")
    assert not p.text("#status")
    p.js("localStorage.clear()")
    w.shows(w.log, w.key, 512)  # a power of two: then the proof does not hold the earlier root
    w.shows(w.other(), w.key, 1000)
    p.says("this log shows two histories", "#alarm")
    w.shows(w.log, w.key, 512)  # what is remembered did not change by that
    p.says("the same head as you saw last")
    assert not p.alarm()


def test_key(w):
    w.honest(300)
    p = w.page
    other = ui_log.Key(w.folder, "lie.example/log1")
    w.server.issuer = issuer(w.folder, other)
    w.shows(w.log, other, 300)
    p.says("the log’s key has changed", "#alarm")
    p.says("the head does not carry a signature by the log’s key", "#alarm")
    p.go("trust")
    assert p.text("#known-key") == w.key.text
    for wrong in (other.text[:-1], other.text.replace("log1+", "log2+"), w.witness.text, "x"):
        p.fill("#key", wrong)
        p.click("#key-form button")
        p.says("Refused: that key", "#key-form")
    p.fill("#key", other.text).submit()
    p.until("return document.querySelector('#known-key')?.innerText === arguments[0]", other.text)
    assert not p.alarm()
    p.go("")
    p.says("the server names the key that you entered")
    p.forget()
    w.server.issuer = None
    p.open()
    p.says("there is no key to check with")
    p.go("trust")
    p.fill("#key", other.text).submit()
    p.until("return document.querySelector('#status [data-state=good]')")
    p.says("you entered it")
    p.click("#forget")
    p.says("there is no key to check with")


def test_witnesses(w):
    w.honest(300)
    p = w.page
    p.says("No witness has cosigned this head")
    w.shows(w.log, w.key, 301, witnesses=[w.witness])
    p.says("is not checked: enter this witness’s key under Trust")
    p.go("trust")
    p.fill("#witnesses", f"# ours\nwitness w1 {w.witness.text} https://w.example/\n")
    p.click("#witness-form button")
    p.until("return [...document.querySelectorAll('dd code')].some((c) => c.innerText === arguments[0])", w.witness.text)
    p.go("")
    p.says("✓ has cosigned this head")
    p.says("2026-11-23")  # of the cosignature's time
    note = w.server.note
    blob = bytearray(base64.b64decode(note.split(" ")[-1]))
    blob[11] ^= 1  # its time
    w.server.note = note[: note.rindex(" ") + 1] + base64.b64encode(blob).decode() + "\n"
    p.open()
    p.says("The cosignature by the witness “witness.example/w1” is wrong")
    w.shows(w.log, w.key, 302)
    p.says("has not cosigned this head")


def test_search(w):
    w.honest(1000)
    p = w.page
    p.go("search")
    p.fill("#q", "spiffe://lie.example/w99").submit()
    p.says("each proven to stand in the log", "#results")
    assert p.js("return document.querySelectorAll('#results tbody tr').length") == 3
    p.click("#results button")
    p.until("return document.querySelectorAll('#results tbody tr').length === 6")
    p.click("#results tbody a")
    p.settled()
    assert p.state("#proof") == "good"
    p.go("search")
    p.fill("#q", "1000000000003").submit()
    p.says("can only be entry 3", "#serial-entry")
    p.go("search")
    p.fill("#q", "256").submit()
    p.until("return location.hash === '#/entry/256'")
    p.go("search")
    p.fill("#q", "what?").submit()
    p.says("not understood", "main")
    w.server.audit = "lying"
    p.go("search?spiffe_id=spiffe%3A%2F%2Flie.example%2Fw99")
    assert p.state("#results") == "bad"
    assert p.text("#results tbody").count("✗ refused") == 1 and p.text("#results tbody").count("✓ proven") == 2
    w.server.audit = "closed"
    p.go("search?outcome=refused")
    p.says("this server keeps its search to its operators", "#results")
    p.go("entry/300")
    assert p.state("#proof") == "good"


def test_revoked(w):
    w.honest(1000)
    p = w.page
    p.go("entry/310")  # a certificate of team/one, which entry 303 revokes
    p.says("this certificate is revoked", "main")
    p.says("entry 303", "main")
    w.server.audit = "closed"
    p.open("entry/310")
    p.says("Whether it was revoked is not shown", "main")


def test_plots(w):
    w.honest(1000)
    p = w.page
    p.go("time")
    assert p.js("return document.querySelectorAll('figure').length") == 6
    assert p.text("#revoked-hour").endswith(": none")
    assert p.js("return document.querySelectorAll('#issued-hour rect').length") == 48
    p.says("11,280 in all, at most 470", "#issued-hour")
    p.js("document.querySelector('#refused-day details').open = true")
    assert p.js("return document.querySelectorAll('#refused-day tbody tr').length") == 90
    tall = p.js("return [...document.querySelectorAll('#issued-hour rect')].map((r) => r.getBoundingClientRect().height)")
    assert tall[47] > tall[20] > tall[1] > 0
    wide = p.js("return [...document.querySelectorAll('#lifetimes rect')].map((r) => r.getBoundingClientRect().width)")
    assert len(wide) == 5 and wide[3] > wide[2] > wide[0] > 0, wide
    p.says("more than 1 hour", "#lifetimes")
    w.server.audit = "closed"
    p.go("search")
    p.go("time")
    p.says("this server keeps its search to its operators")


def test_accessible(w):
    w.honest(1000)
    p = w.page
    body = p.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert p.js("return document.activeElement.className") == "skip"
    p.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert p.js("return document.activeElement.id") == "main"
    for page in ("", "search?outcome=refused", "certificate", "time", "trust", "entry/310"):
        p.go(page)
        assert p.js("return document.querySelectorAll('h1').length") == 1, page
        assert not p.js("return [...document.querySelectorAll('table')].filter((t) => !t.caption || !t.querySelector('th[scope=col]')).length"), page
        nodes = p.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        for n in nodes:
            role = n.get("role", {}).get("value")
            if role in ("button", "link", "textbox", "searchbox", "combobox", "img", "navigation") and not n.get("ignored"):
                assert n.get("name", {}).get("value") or n.get("properties") is None, (page, n)
        roles = {n.get("role", {}).get("value") for n in nodes}
        assert {"banner", "navigation", "main", "contentinfo", "status"} <= roles, (page, roles)
        for width in (360, 800):
            p.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False})
            wide = p.js("document.querySelectorAll('details').forEach((d) => { d.open = true; }); return document.documentElement.scrollWidth")
            assert wide <= width, (page, width, wide)
        p.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    # each text of a verdict stands out from its ground, in both schemes (WCAG 1.4.3)
    for scheme in ("light", "dark"):
        p.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        worst = p.js(CONTRAST)
        assert worst[0] >= 4.5, (scheme, worst)
    p.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


CONTRAST = """
const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255).map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const ground = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor; if (!/^rgba.*, 0\\)$/.test(b)) return b; } return 'rgb(255, 255, 255)'; };
for (const state of ['good', 'bad', 'warn', 'note']) { // whichever there are not just now
  const v = document.querySelector('.verdict').cloneNode(true);
  v.className = 'verdict ' + state;
  document.getElementById('main').append(v);
}
let worst = [21, ''];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 120), getComputedStyle(e).color, ground(e)];
}
return worst;
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("server", "root", "vectors", "here", "work", "cert", "index", "serial", "grow"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    driver = browser(tempfile.mkdtemp(dir=args.work))
    failed = 0
    try:
        w = World(args, driver)
        for name, test in list(globals().items()):
            if not name.startswith("test_") or args.only not in name:
                continue
            try:
                test(w)
                complaints = w.page.complaints()
                assert not complaints, complaints
                print("ok:", name[5:].replace("_", " "), flush=True)
            except Exception:
                failed += 1
                traceback.print_exc()
                w.page.complaints()
                driver.save_screenshot(os.path.join(args.work, name + ".png"))
    finally:
        driver.quit()
    sys.exit(1 if failed else 0)


main()
