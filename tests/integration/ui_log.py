"""A log server for the tests of the web page (ui/), with a log of its own that can lie: show another
history, go back, change its key, tamper with what it serves. The page's own files come from a real
mayflyd, headers and all, so that they are tested as they are served.

It keeps the log as C2SP tlog-tiles describes it and signs with openssl(1)."""
import base64
import hashlib
import http.client
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import urllib.parse

WIDTH = 256
T0 = 1795456800  # when its first entry was made
HOSTILE = '<img src=x onerror="document.title=1">&amp;'


def sha256(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p)
    return h.digest()


def b64(p):
    return base64.b64encode(p).decode()


def vec(n, p):
    return len(p).to_bytes(n, "big") + p


def record(kind, body):
    return vec(2, b"") + kind.to_bytes(2, "big") + body


def refusal(i, spiffe_id, why="no such join token", rule="token-unknown", count=1):
    return record(0xFF02, (T0 + i).to_bytes(8, "big") + b"\1" + vec(1, rule.encode()) + vec(2, why.encode()) + vec(2, spiffe_id.encode()) + vec(1, b"join_token")
                  + vec(2, b"") + vec(1, b"") + count.to_bytes(4, "big"))


def revocation(i, by, value):
    return record(0xFF01, (T0 + i).to_bytes(8, "big") + bytes([by]) + vec(2, value.encode()) + b"\1" + vec(1, b"uid:0") + vec(2, b"host taken away"))


def big_log(certificates):
    """Three levels of tiles; among refusals some of everything else."""
    entries = [b"\0\0\0\0"] + [refusal(i, f"spiffe://lie.example/w{i}") for i in range(1, 70000)]
    entries[300] = refusal(300, "spiffe://lie.example/hostile", why=HOSTILE, rule=HOSTILE[:40])
    entries[301] = record(0xFFAA, b"of a later version")
    entries[302] = record(0xFF01, b"malformed")
    entries[303] = revocation(303, 2, "spiffe://test.example/team/one")
    for i, c in enumerate(certificates):
        entries[310 + i] = c
    return entries


class Key:
    """An Ed25519 key in a file, for a log (type 1) or a witness (type 4)."""

    def __init__(self, folder, name, kind=1):
        self.file = os.path.join(folder, re.sub(r"\W", "_", name) + f"-{kind}-{len(os.listdir(folder))}.pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.file], check=True)
        der = subprocess.run(["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
        self.name, self.blob = name, bytes([kind]) + der[-32:]
        self.id = sha256(name.encode(), b"\n", self.blob)[:4]
        self.text = f"{name}+{self.id.hex()}+{b64(self.blob)}"

    def sign(self, message):
        with open(self.file + ".msg", "wb") as f:
            f.write(message)
        return subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.file, "-in", f.name], check=True, capture_output=True).stdout

    def line(self, signature):
        return f"— {self.name} {b64(self.id + signature)}\n"


class Log:
    def __init__(self, entries):
        self.entries = list(entries)
        self.levels = [[sha256(b"\0", e) for e in self.entries]]  # complete subtrees of 2^n leaves
        while len(self.levels[-1]) > 1:
            row = self.levels[-1]
            self.levels.append([sha256(b"\1", row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])

    def range(self, lo, hi):
        n = hi - lo
        if n & (n - 1) == 0:
            return self.levels[n.bit_length() - 1][lo // n]
        k = 1 << (n - 1).bit_length() - 1
        return sha256(b"\1", self.range(lo, lo + k), self.range(lo + k, hi))

    def inclusion(self, index, size):
        lo, hi, path = 0, size, []
        while hi - lo > 1:
            k = 1 << (hi - lo - 1).bit_length() - 1
            if index < lo + k:
                path.append(self.range(lo + k, hi))
                hi = lo + k
            else:
                path.append(self.range(lo, lo + k))
                lo += k
        return path[::-1]

    def note(self, key, size, witnesses=(), time=T0):
        body = f"{key.name}\n{size}\n{b64(self.range(0, size))}\n"
        lines = key.line(key.sign(body.encode()))
        for w in witnesses:
            lines += w.line(time.to_bytes(8, "big") + w.sign(f"cosignature/v1\ntime {time}\n{body}".encode()))
        return body + "\n" + lines

    def file(self, path, size):
        """A tile or bundle as a log of this size has it: partial ones of this size alone."""
        m = re.fullmatch(r"tile/(entries|\d+)/((?:x\d{3}/)*\d{3})(?:\.p/(\d+))?", path)
        if not m:
            return None
        n, level = int(re.sub(r"\D", "", m[2])), m[1]
        have = size if level == "entries" else size >> 8 * int(level)
        width = min(WIDTH, have - n * WIDTH)
        if width <= 0 or width != int(m[3] or WIDTH):
            return None
        items = self.entries if level == "entries" else self.levels[8 * int(level)]
        items = items[n * WIDTH : n * WIDTH + width]
        return b"".join(vec(2, e) for e in items) if level == "entries" else b"".join(items)


class Server:
    """state: what is served now; a test changes it between two loads of the page."""

    def __init__(self, origin, root_pem, files):
        self.origin = urllib.parse.urlsplit(origin)
        self.tls = ssl.create_default_context(cafile=root_pem)
        self.files = files  # "/test/…": path of a file
        self.log, self.size, self.note, self.issuer, self.stats = None, 0, "", None, None
        self.audit = "public"  # or "closed", or "lying"
        self.tamper = None  # path -> bytes -> bytes
        self.asked = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path, _, query = self.path.partition("?")
                server.asked.append(path)
                status, kind, body, headers = server.answer(path, query)
                if server.tamper:
                    body = server.tamper(path, body)
                self.send_response(status)
                for name, value in {"Content-Type": kind, "Content-Length": len(body), "Cache-Control": "no-store", **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Http(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a browser that goes away in the middle

        self.http = Http(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://localhost:{self.http.server_address[1]}"

    def answer(self, path, query):
        none = (404, "application/json", b'{"detail":"nothing is here"}', {})
        if path.startswith("/ui/"):
            return self.forward(path)
        if path in self.files:
            with open(self.files[path], "rb") as f:
                return 200, "text/javascript" if path.endswith(".js") else "application/json", f.read(), {}
        if path == "/acme/issuer":
            return (200, "application/pkix-cert", self.issuer, {}) if self.issuer else none
        if path == "/log/checkpoint":
            return 200, "text/plain", self.note.encode(), {}
        if path.startswith("/log/"):
            body = self.log.file(path[5:], self.size)
            return (200, "application/octet-stream", body, {}) if body is not None else none
        if path.startswith("/audit/v1/"):
            return self.search(path, dict(urllib.parse.parse_qsl(query)))
        return none

    def forward(self, path):
        c = http.client.HTTPSConnection(self.origin.hostname, self.origin.port, context=self.tls, timeout=10)
        c.request("GET", path)
        r = c.getresponse()
        keep = {k: v for k, v in r.getheaders() if k in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")}
        body = r.read()
        c.close()
        return r.status, r.getheader("Content-Type"), body, keep

    def search(self, path, query):
        """Finds an entry by any text in it, which is enough for the page; 3 a page."""
        if self.audit == "closed":
            return 403, "application/problem+json", b'{"detail":"the audit interface is not public here"}', {}
        if path.endswith("/stats"):
            return 200, "application/json", json.dumps(self.stats).encode(), {}
        types = {"issued": 1, "revoked": 0xFF01, "refused": 0xFF02, "changed": 0xFF03, "authority": 0xFF04}
        text = next((query[k] for k in ("spiffe_id", "prefix", "rule", "agent", "entry", "attestor") if k in query), "").encode()
        want = types.get(query.get("outcome"))
        found = [i for i, e in enumerate(self.log.entries[: self.size])
                 if text in e and (want is None or e[2 + int.from_bytes(e[:2], "big") :][:2] == want.to_bytes(2, "big"))]
        if query.get("order") != "oldest":
            found.reverse()
        at, most = int(query.get("cursor", 0)), min(3, int(query["limit"]))
        entries = [{"index": i, "kind": "x", "entry": b64(self.log.entries[i]), "proof": [b64(h) for h in self.log.inclusion(i, self.size)]}
                   for i in found[at : at + most]]
        if self.audit == "lying":
            raw = bytearray(base64.b64decode(entries[0]["entry"]))
            raw[-1] ^= 1
            entries[0]["entry"] = b64(raw)
        doc = {"checkpoint": self.note, "size": self.size, "entries": entries}
        if at + most < len(found):
            doc["next"] = str(at + most)
        return 200, "application/json", json.dumps(doc).encode(), {}

    def show(self, log, key, size, **options):
        self.log, self.size, self.note = log, size, log.note(key, size, **options)
