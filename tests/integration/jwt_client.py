#!/usr/bin/env python3
"""A client of newJwtSvid from the contract alone: Python's standard library, and openssl(1) for keys and signatures.

  jwt_client.py DIR URL ROOT new                       an account, kept in DIR
  jwt_client.py DIR URL ROOT ask ID AUDIENCES [OPTION...]  a token; AUDIENCES is JSON. Prints {"status": …, "body": …}
      --ttl N   --token TEXT (a join token as evidence)   --stale (bound to another nonce)
  jwt_client.py DIR URL ROOT verify SVID AUDIENCE      against the bundle that the server gives; prints the claims
"""
import base64
import hashlib
import hmac
import json
import pathlib
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request


def b64(b): return base64.urlsafe_b64encode(b).rstrip(b"=").decode()
def unb64(s): return base64.urlsafe_b64decode(s + "=" * (-len(s) % 4))
def compact(doc): return json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()
def openssl(*args, data=None): return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True).stdout


def der_int(der, at):
    n = der[at + 1]
    return int.from_bytes(der[at + 2 : at + 2 + n], "big"), at + 2 + n


def tlv(tag, body): return bytes([tag, len(body)]) + body


def raw_of(der):
    r, at = der_int(der, 2)
    s, _ = der_int(der, at)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der_of(raw):
    parts = []
    for half in (raw[:32], raw[32:]):
        n = half.lstrip(b"\0")
        parts.append(tlv(0x02, (b"\0" if not n or n[0] & 0x80 else b"") + n))
    return tlv(0x30, b"".join(parts))


class Client:
    def __init__(self, folder, url, root):
        self.dir = pathlib.Path(folder)
        self.url = url
        self.tls = ssl.create_default_context(cafile=root)
        self.key = self.dir / "account.pem"
        self.nonce = None

    def request(self, url, data=None):
        r = urllib.request.Request(url, data=data, headers={"Content-Type": "application/jose+json"} if data else {})
        try:
            with urllib.request.urlopen(r, context=self.tls, timeout=60) as a:
                status, headers, body = a.status, a.headers, a.read()
        except urllib.error.HTTPError as a:
            status, headers, body = a.code, a.headers, a.read()
        self.nonce = headers.get("Replay-Nonce", self.nonce)
        return status, headers, body

    def directory(self): return json.loads(self.request(self.url + "/acme/directory")[2])

    def jwk(self):
        point = openssl("pkey", "-in", str(self.key), "-pubout", "-outform", "DER")[-64:]
        return {"crv": "P-256", "kty": "EC", "x": b64(point[:32]), "y": b64(point[32:])}

    def thumbprint(self): return b64(hashlib.sha256(compact(self.jwk())).digest())

    def post(self, url, payload, **who):
        head = b64(compact({"alg": "ES256", "nonce": self.nonce, "url": url, **who}))
        text = b64(payload)
        der = openssl("dgst", "-sha256", "-sign", str(self.key), data=f"{head}.{text}".encode())
        return self.request(url, compact({"protected": head, "payload": text, "signature": b64(raw_of(der))}))

    def new(self):
        self.dir.mkdir(exist_ok=True)
        self.key.write_bytes(openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout"))
        d = self.directory()
        self.request(d["newNonce"])
        status, headers, body = self.post(d["newAccount"], b"{}", jwk=self.jwk())
        if status != 201:
            sys.exit(f"newAccount: {status} {body.decode()}")
        (self.dir / "kid").write_text(headers["Location"])

    def join_token(self, token, stale):
        secret = unb64(token[len("mjt1_") :])[:32]
        fresh = "stale" if stale else self.nonce
        digest = hashlib.sha256(f"{fresh}.{self.thumbprint()}".encode()).digest()
        binding = hmac.new(secret, b"mayfly join token v1" + digest, hashlib.sha256).digest()
        return ["application/vnd.mayfly.join-token+json", b64(compact({"secret": b64(secret), "binding": b64(binding)}))]

    def ask(self, spiffe_id, audience, *options):
        d = self.directory()
        self.request(d["newNonce"])
        payload = {"spiffe_id": spiffe_id, "audience": json.loads(audience)}
        if "--ttl" in options:
            payload["ttl"] = int(options[options.index("--ttl") + 1])
        if "--token" in options:
            payload["evidence"] = self.join_token(options[options.index("--token") + 1], "--stale" in options)
        status, _, body = self.post(d["newJwtSvid"], compact(payload), kid=(self.dir / "kid").read_text())
        print(json.dumps({"status": status, "body": json.loads(body)}, ensure_ascii=False))

    def verify(self, svid, audience):
        """As a relying party does: the header's kid among the bundle's keys for JWT-SVIDs, then ES256, aud and exp."""
        head, claims, sig = svid.split(".")
        header = json.loads(unb64(head))
        bundle = json.loads(self.request(self.url + "/spiffe/bundle")[2])
        keys = [k for k in bundle["keys"] if k["use"] == "jwt-svid" and k["kid"] == header["kid"]]
        assert header == {"alg": "ES256", "kid": header["kid"], "typ": "JWT"}, header
        assert len(keys) == 1 and keys[0]["kty"] == "EC" and keys[0]["crv"] == "P-256" and keys[0]["alg"] == "ES256", keys
        thumb = compact({m: keys[0][m] for m in ("crv", "kty", "x", "y")})
        assert b64(hashlib.sha256(thumb).digest()) == header["kid"], "the kid is no RFC 7638 thumbprint"
        point = b"\4" + unb64(keys[0]["x"]) + unb64(keys[0]["y"])
        spki = tlv(0x30, bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107") + tlv(0x03, b"\0" + point))
        (self.dir / "jwt.der").write_bytes(spki)
        (self.dir / "jwt.sig").write_bytes(der_of(unb64(sig)))
        args = ["dgst", "-sha256", "-verify", str(self.dir / "jwt.der"), "-keyform", "DER", "-signature", str(self.dir / "jwt.sig")]
        openssl(*args, data=f"{head}.{claims}".encode())
        text = json.loads(unb64(claims))
        assert audience in text["aud"] and isinstance(text["aud"], list), text
        assert text["iat"] <= time.time() + 60 and time.time() < text["exp"], text
        print(json.dumps(text, ensure_ascii=False))


def main():
    folder, url, root, command, *rest = sys.argv[1:]
    getattr(Client(folder, url, root), command)(*rest)


main()
