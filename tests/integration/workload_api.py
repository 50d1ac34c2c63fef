#!/usr/bin/python3
"""A client of the Workload API and of SDS, made from our .proto files by grpc_tools.protoc.

    workload_api.py --stubs DIR --socket PATH [--audience NAME] [--fake PID --fake-log FILE]

Without --fake it holds any Workload API to the standard (the caller must have an identity there); with it,
also what only workload_fake can be made to do: rotation, nobody, starting.
"""
import argparse
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--stubs", required=True)
arguments.add_argument("--socket", required=True)
arguments.add_argument("--audience", default="someone")
arguments.add_argument("--fake", type=int)
arguments.add_argument("--fake-log")
arguments.add_argument("--no-jwt", action="store_true", help="the server has no JWT-SVIDs")
args = arguments.parse_args()
sys.path.insert(0, args.stubs)

import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402
import sds_pb2  # noqa: E402
import sds_pb2_grpc  # noqa: E402
import workload_pb2 as wl  # noqa: E402
import workload_pb2_grpc  # noqa: E402

PATIENCE = 30
META = (("workload.spiffe.io", "true"),)
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
Code = grpc.StatusCode


def check(what, good, *details):
    if not good:
        print("FAILED:", what, *details, file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


def channel(**options):
    # a pool of its own for each channel: else they would share one connection
    return grpc.insecure_channel("unix://" + args.socket, options=[("grpc.use_local_subchannel_pool", 1)] + list(options.items()))


def fails(what, code, call, *a, **kw):
    """The call ends with this code; its message is answered."""
    kw.setdefault("timeout", PATIENCE)
    try:
        got = call(*a, **kw)
        if hasattr(got, "__next__"):
            got = next(got)
    except grpc.RpcError as e:
        check(what, e.code() == code, "want", code, "got", e.code(), e.details())
        return e.details()
    check(what, False, "no error, but", got)


class Stream:
    """Messages of a stream, fetched by a thread: next() waits, quiet() says that none came."""

    def __init__(self, call):
        self.call = call
        self.queue = queue.Queue()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            for m in self.call:
                self.queue.put(m)
            self.queue.put(None)
        except grpc.RpcError as e:
            self.queue.put(e)

    def next(self):
        return self.queue.get(timeout=PATIENCE)

    def ends(self, what, code):
        while not isinstance(m := self.next(), (grpc.RpcError, type(None))):
            pass  # what came before
        check(what, isinstance(m, grpc.RpcError) and m.code() == code, "want", code, "got", m)
        return m.details()

    def quiet(self):
        return self.queue.empty()


class Sds:
    """A StreamSecrets stream: ask() sends a request."""

    def __init__(self, ch):
        self.requests = queue.Queue()
        self.stream = Stream(sds_pb2_grpc.SecretDiscoveryServiceStub(ch).StreamSecrets(iter(self.requests.get, None)))

    def ask(self, names, nonce="", error=None, version=""):
        r = sds_pb2.DiscoveryRequest(resource_names=names, type_url=SECRET, response_nonce=nonce, version_info=version)
        if error:
            r.error_detail.code = 13
            r.error_detail.message = error
        self.requests.put(r)

    def next(self):
        return self.stream.next()

    def half_close(self):
        self.requests.put(None)


def secrets(response):
    out = {}
    for any_ in response.resources:
        check("type_url", any_.type_url == SECRET)
        s = sds_pb2.Secret()
        s.ParseFromString(any_.value)
        out[s.name] = s
    return out


def is_pem(data, label):
    text = data.decode()
    return text.startswith(f"-----BEGIN {label}-----\n") and text.endswith(f"-----END {label}-----\n")


# --- the standard ---------------------------------------------------------------------------------------------


def x509(stub):
    m = next(stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=META, timeout=PATIENCE))
    check("svids", len(m.svids) >= 1)
    for s in m.svids:
        check("spiffe_id", s.spiffe_id.startswith("spiffe://") and s.spiffe_id.count("/") > 2)
        for der in (s.x509_svid, s.x509_svid_key, s.bundle):
            check("DER", der[:2] in (b"\x30\x81", b"\x30\x82", b"\x30\x41") or der[:1] == b"\x30")
    b = next(stub.FetchX509Bundles(wl.X509BundlesRequest(), metadata=META, timeout=PATIENCE))
    td = "/".join(m.svids[0].spiffe_id.split("/")[:3])
    check("own bundle", b.bundles[td] == m.svids[0].bundle, list(b.bundles))
    check("federated are not ours", td not in m.federated_bundles)
    check("federated", all(b.bundles[k] == v for k, v in m.federated_bundles.items()))
    return m, b, td


def jwt(stub, m, td):
    b = next(stub.FetchJWTBundles(wl.JWTBundlesRequest(), metadata=META, timeout=PATIENCE))
    keys = json_format.json.loads(b.bundles[td])["keys"]
    check("jwt keys", all(k["use"] == "jwt-svid" and k["kid"] for k in keys))
    r = stub.FetchJWTSVID(wl.JWTSVIDRequest(audience=[args.audience]), metadata=META, timeout=PATIENCE)
    check("one for each identity", [s.spiffe_id for s in r.svids] == [s.spiffe_id for s in m.svids])
    one = m.svids[-1].spiffe_id
    r = stub.FetchJWTSVID(wl.JWTSVIDRequest(audience=[args.audience, "b"], spiffe_id=one), metadata=META, timeout=PATIENCE)
    check("the one asked for", len(r.svids) == 1 and r.svids[0].spiffe_id == one)
    v = stub.ValidateJWTSVID(
        wl.ValidateJWTSVIDRequest(audience="b", svid=r.svids[0].svid), metadata=META, timeout=PATIENCE)
    check("validated", v.spiffe_id == one and v.claims["sub"] == one)
    check("claims", list(v.claims["aud"]) == [args.audience, "b"] and v.claims["exp"] > time.time())

    def asks(**kw):
        return wl.ValidateJWTSVIDRequest(**kw)
    token = r.svids[0].svid
    for what, q in {
        "another audience": asks(audience="c", svid=token),
        "no audience": asks(svid=token),
        "no token": asks(audience="b"),
        "garbage": asks(audience="b", svid="a.b.c"),
        "changed": asks(audience="b", svid=token[:-8] + "AAAAAAAA"),
    }.items():
        fails("validate: " + what, Code.INVALID_ARGUMENT, stub.ValidateJWTSVID, q, metadata=META)
    fails("no audience", Code.INVALID_ARGUMENT, stub.FetchJWTSVID, wl.JWTSVIDRequest(), metadata=META)
    fails("empty audience", Code.INVALID_ARGUMENT, stub.FetchJWTSVID, wl.JWTSVIDRequest(audience=[""]), metadata=META)
    fails("bad id", Code.INVALID_ARGUMENT, stub.FetchJWTSVID,
          wl.JWTSVIDRequest(audience=["a"], spiffe_id="web"), metadata=META)
    said = fails("another's id", Code.PERMISSION_DENIED, stub.FetchJWTSVID,
                 wl.JWTSVIDRequest(audience=["a"], spiffe_id=td + "/some/body/else"), metadata=META)
    if not args.fake:  # who has identities is not told that he has none
        check("another's id is called that", "none of the caller's" in said, said)
    fails("too many audiences", Code.INVALID_ARGUMENT, stub.FetchJWTSVID,
          wl.JWTSVIDRequest(audience=["a"] * 100), metadata=META)
    if not args.fake:  # what a Mayfly authority does not take
        for what, audience in {"17": ["a"] * 17, "long": ["a" * 256], "control": ["a\n"], "all": ["a" * 250] * 13}.items():
            fails("audience: " + what, Code.INVALID_ARGUMENT, stub.FetchJWTSVID,
                  wl.JWTSVIDRequest(audience=audience), metadata=META)
    return v


def metadata(stub):
    calls = [
        (stub.FetchX509SVID, wl.X509SVIDRequest()),
        (stub.FetchX509Bundles, wl.X509BundlesRequest()),
        (stub.FetchJWTSVID, wl.JWTSVIDRequest(audience=["a"])),
        (stub.FetchJWTBundles, wl.JWTBundlesRequest()),
        (stub.ValidateJWTSVID, wl.ValidateJWTSVIDRequest(audience="a", svid="b")),
    ]
    for call, q in calls:
        for m in ((), (("workload.spiffe.io", "false"),), META + META, (("workload.spiffe.io", ""),)):
            fails("metadata %r" % (m,), Code.INVALID_ARGUMENT, call, q, metadata=m)


def unknown(ch):
    def raw(path):
        return ch.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    for path in ("/SpiffeWorkloadAPI/Nothing", "/spiffe.workload.SpiffeWorkloadAPI/FetchX509SVID",
                 "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", "/grpc.health.v1.Health/Check"):
        fails(path, Code.UNIMPLEMENTED, raw(path), b"", metadata=META)
    jwt_ = raw("/SpiffeWorkloadAPI/FetchJWTSVID")
    for what, q, code in (
        ("no message of its type", b"\x0a\x05abc", Code.INTERNAL),
        ("a group", b"\x0b\x0c", Code.INTERNAL),
        ("not UTF-8", b"\x0a\x02\xff\xff", Code.INTERNAL),
        ("too large", b"\x0a" + b"x" * 70000, Code.RESOURCE_EXHAUSTED),
    ):
        fails(what, code, jwt_, q, metadata=META)
    many = ch.stream_unary("/SpiffeWorkloadAPI/FetchJWTSVID", request_serializer=bytes, response_deserializer=bytes)
    fails("two messages", Code.UNIMPLEMENTED, many, iter([b"\x0a\x01a", b"\x0a\x01a"]), metadata=META)
    fails("no message", Code.UNIMPLEMENTED, many, iter([]), metadata=META)
    squeezed = ch.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID", request_serializer=bytes, response_deserializer=bytes)
    fails("compressed", Code.UNIMPLEMENTED, squeezed, b"\x0a\x7fa" + b"a" * 126, metadata=META,
          compression=grpc.Compression.Gzip)
    fails("too much metadata", Code.RESOURCE_EXHAUSTED, jwt_, b"", metadata=META + (("x", "y" * 12000),))


def sds(ch, m, td):
    ids = [s.spiffe_id for s in m.svids]
    stub = sds_pb2_grpc.SecretDiscoveryServiceStub(ch)

    def fetch(*names, **kw):
        kw.setdefault("type_url", SECRET)
        return stub.FetchSecrets(sds_pb2.DiscoveryRequest(resource_names=names, **kw), timeout=PATIENCE)
    r = fetch(ids[-1], "default", td, "ROOTCA", "ALL")
    got = secrets(r)
    check("names", list(got) == [ids[-1], "default", td, "ROOTCA", "ALL"], list(got))
    check("header", r.type_url == SECRET and r.version_info and r.nonce)
    for name in (ids[-1], "default"):
        check("chain", is_pem(got[name].tls_certificate.certificate_chain.inline_bytes, "CERTIFICATE"))
        check("key", is_pem(got[name].tls_certificate.private_key.inline_bytes, "PRIVATE KEY"))
    for name in (td, "ROOTCA"):
        check("roots", is_pem(got[name].validation_context.trusted_ca.inline_bytes, "CERTIFICATE"))
    validator = got["ALL"].validation_context.custom_validator_config
    config = sds_pb2.SPIFFECertValidatorConfig()
    config.ParseFromString(validator.typed_config.value)
    check("validator", validator.name == "envoy.tls.cert_validator.spiffe" and
          validator.typed_config.type_url.endswith(".tls.v3.SPIFFECertValidatorConfig"))
    domains = {d.name: d.trust_bundle.inline_bytes for d in config.trust_domains}
    check("domains", domains[td[9:]] == got[td].validation_context.trusted_ca.inline_bytes)
    check("no merging", not got["ALL"].validation_context.HasField("trusted_ca"))
    every = secrets(fetch())
    check("everything", set(ids) | {td} <= set(every) and "default" not in every, list(every))
    check("default is the first", secrets(fetch(ids[0]))[ids[0]].tls_certificate == secrets(fetch("default"))["default"].tls_certificate)
    for what, names, kw in (("unknown", ["nonsense"], {}), ("another's", [td + "/no/body"], {}), ("empty", [""], {}),
                            ("foreign", ["spiffe://nowhere.example"], {}), ("type", [], {"type_url": "type.googleapis.com/x"})):
        fails("sds: " + what, Code.INVALID_ARGUMENT, lambda **_: fetch(*names, **kw))

    # streams: sent on the first request and on changed names; not for an ACK, a NACK, a stale nonce
    s = Sds(ch)
    s.ask(["default"])
    first = s.next()
    s.ask(["default"], first.nonce, version=first.version_info)
    s.ask(["default"], first.nonce, error="no good")
    s.ask(["ROOTCA"], "not " + first.nonce)
    s.ask(["ROOTCA", "default"], first.nonce)
    second = s.next()
    check("changed names", list(secrets(second)) == ["ROOTCA", "default"] and second.nonce != first.nonce)
    check("the same data", second.version_info == first.version_info)
    s.ask(["ROOTCA"], first.nonce)  # stale now
    s.ask(["ROOTCA", "default"], second.nonce)
    s.half_close()
    check("half-closed", s.next() is None)
    s = Sds(ch)
    s.ask(["nonsense"])
    check("names the name", "nonsense" in s.stream.ends("unknown", Code.INVALID_ARGUMENT))
    s = Sds(ch)
    s.half_close()
    check("nothing asked", s.next() is None)
    s = Sds(ch)
    s.ask(["default"])
    s.half_close()
    check("asked, then half-closed", list(secrets(s.next())) == ["default"] and s.next() is None)


# --- bad bytes -----------------------------------------------------------------------------------------------------


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name, value):
    out = b"\x10"
    for s in (name.encode(), value.encode()):
        out += (bytes([len(s)]) if len(s) < 127 else b"\x7f" + bytes([(len(s) - 127) & 127 | 128, (len(s) - 127) >> 7])) + s
    return out


def request(path="/SpiffeWorkloadAPI/FetchX509SVID", *more):
    h = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
         ("content-type", "application/grpc"), ("te", "trailers"), ("workload.spiffe.io", "true")] + list(more)
    return b"".join(header(*x) for x in h)


class Raw:
    def __init__(self, hello=True):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(PATIENCE)
        self.s.connect(args.socket)
        self.data = b""
        if hello:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data):
        try:
            self.s.sendall(data)
        except OSError:
            pass  # it hung up on us, which next() and closed() see

    def next(self):
        """(kind, flags, stream, payload); None: closed"""
        while len(self.data) < 9 or len(self.data) < 9 + int.from_bytes(self.data[:3], "big"):
            try:
                more = self.s.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.data += more
        n = 9 + int.from_bytes(self.data[:3], "big")
        f, self.data = self.data[:n], self.data[n:]
        return f[3], f[4], int.from_bytes(f[5:9], "big"), f[9:]

    def until(self, kind, stream=None):
        while True:
            f = self.next()
            if f is None or (f[0] == kind and stream in (None, f[2])):
                return f

    def closed(self, what, error=None):
        last = None
        while (f := self.next()) is not None:
            last = f if f[0] == GOAWAY else last
        if error is not None:
            check(what, last and int.from_bytes(last[3][4:8], "big") == error, last)


def bad_bytes(ch, stub):
    def alive(what):
        m = next(stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=META, timeout=PATIENCE))
        check("still serving after " + what, len(m.svids) >= 1)

    for what, data in (("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ("zeros", bytes(4096)),
                       ("ones", b"\xff" * 4096), ("noise", os.urandom(65536)), ("TLS", b"\x16\x03\x01\x02\x00\x01" * 10)):
        r = Raw(hello=False)
        r.send(data)
        r.closed(what)
    alive("garbage")

    r = Raw()
    r.send(frame(DATA, 0, 1, bytes(20000)))  # over the frame size that we allow
    r.closed("oversize frame", 6)
    r = Raw()
    r.send(frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"))
    r.closed("impossible window", 3)
    r = Raw()
    r.send(frame(HEADERS, 4, 2, request()))
    r.closed("even stream", 1)
    r = Raw()
    r.send(frame(HEADERS, 4, 1, b"\xff" * 30))
    r.closed("no HPACK", 9)
    r = Raw()
    r.send(frame(CONTINUATION, 4, 1, request()))
    r.closed("CONTINUATION of nothing", 1)
    r = Raw()
    r.send(frame(HEADERS, 0, 1, request()) + b"".join(frame(CONTINUATION, 0, 1, header("a", "b")) for _ in range(100000)))
    r.closed("CONTINUATION flood")
    alive("bad frames")

    halves = []
    for n in range(1, 60):  # every prefix of a request, left lying
        r = Raw(hello=False)
        r.send((PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, request()) + frame(DATA, 1, 1, bytes(5)))[:n * 4])
        halves.append(r)
    alive("half frames")
    for r in halves:
        r.s.close()

    r = Raw()
    r.send(b"".join(frame(PING, 0, 0, bytes(8)) for _ in range(20000)))
    r.closed("PING flood")
    r = Raw()
    r.send(b"".join(frame(SETTINGS, 0, 0) for _ in range(20000)))
    r.closed("SETTINGS flood")
    r = Raw()
    r.send(frame(HEADERS, 4, 1, request()) + b"".join(frame(DATA, 0, 1) for _ in range(20000)))
    r.closed("empty DATA flood")
    r = Raw()
    r.send(b"".join(frame(HEADERS, 4, i, request()) + frame(RST, 0, i, bytes(4)) for i in range(1, 20001, 2)))
    r.closed("rapid reset")
    alive("floods")

    r = Raw()
    r.send(b"".join(frame(HEADERS, 4, i, request()) for i in range(1, 2001, 2)))
    refused = r.until(RST)
    check("streams beyond the limit are refused", refused and int.from_bytes(refused[3], "big") == 7, refused)
    r.s.close()
    r = Raw()
    r.send(frame(HEADERS, 5, 1, header(":method", "GET") + request("/")[len(header(":method", "POST")):]))
    f = r.until(HEADERS, 1)
    check("GET is answered once and for all", f and f[1] & 1, f)
    r.send(frame(HEADERS, 4, 3, request()) + frame(DATA, 0, 3, b"\0\0\0\0\0"))
    r.send(frame(RST, 0, 9, bytes(4)))  # of a stream that was never opened, as gRPC's C core does
    r.send(frame(PING, 0, 0, b"12345678"))
    check("PING is answered", r.until(PING)[3] == b"12345678")
    r.send(frame(DATA, 1, 3))
    check("DATA comes", r.until(DATA, 3))
    r.s.close()

    # a client that never reads: it holds its streams, and nobody else up
    slow = Raw()
    slow.send(frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + frame(WINDOW, 0, 0, b"\x7f\0\0\0"))
    slow.send(b"".join(frame(HEADERS, 4, i, request()) + frame(DATA, 1, i, bytes(5)) for i in range(1, 120, 2)))
    alive("a slow reader")
    return slow


# --- what the fake can be made to do ---------------------------------------------------------------------------------


class Fake:
    def __init__(self):
        self.log = open(args.fake_log)

    def tell(self, sig, word):
        os.kill(args.fake, sig)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            line = self.log.readline()
            if line.startswith(word):
                return
            if not line:
                time.sleep(0.005)
        check(word, False)

    def rotate(self):
        self.tell(signal.SIGUSR1, "rotated")

    def next_mode(self):
        self.tell(signal.SIGUSR2, "mode")


def pushes(ch, stub):
    fake = Fake()
    svids = Stream(stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=META))
    bundles = Stream(stub.FetchX509Bundles(wl.X509BundlesRequest(), metadata=META))
    roots, certs = Sds(ch), Sds(ch)
    roots.ask(["ROOTCA"])
    certs.ask(["default"])
    seen = {svids.next().svids[0].x509_svid}
    bundles.next(), roots.next()
    envoy = certs.next()
    keys = {secrets(envoy)["default"].tls_certificate.private_key.inline_bytes}
    for _ in range(20):
        fake.rotate()
        seen.add(svids.next().svids[0].x509_svid)
        newer = certs.next()
        check("another version", newer.version_info != envoy.version_info and newer.nonce != envoy.nonce)
        envoy = newer
        keys.add(secrets(envoy)["default"].tls_certificate.private_key.inline_bytes)
    check("each rotation came once", len(seen) == 21 and len(keys) == 21 and svids.quiet())
    check("roots did not change", bundles.quiet() and roots.stream.quiet())

    # who does not read gets the newest at last, not all that was
    lazy = stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=META)
    next(lazy)
    for _ in range(50):
        fake.rotate()
    newest = next(stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=META, timeout=PATIENCE)).svids[0].x509_svid
    count = 1
    while next(lazy).svids[0].x509_svid != newest:
        count += 1
    check("no more than there were", count <= 50)
    lazy.cancel()
    while svids.next().svids[0].x509_svid != newest:
        pass

    late = stub.FetchJWTSVID(wl.JWTSVIDRequest(audience=["late"]), metadata=META, timeout=PATIENCE)
    check("a late answer", len(late.svids) == 2 and late.svids[0].hint == "web" and late.svids[1].hint == "")
    fails("a deadline", Code.DEADLINE_EXCEEDED, stub.FetchJWTSVID, wl.JWTSVIDRequest(audience=["never"]), metadata=META, timeout=0.2)
    gone = stub.FetchJWTSVID.future(wl.JWTSVIDRequest(audience=["never"]), metadata=META)
    gone.cancel()
    deep = stub.FetchJWTSVID(wl.JWTSVIDRequest(audience=["a"]), metadata=META).svids[0].svid
    claims = stub.ValidateJWTSVID(wl.ValidateJWTSVIDRequest(audience="a", svid=deep), metadata=META).claims
    check("claims of every type", json_format.MessageToDict(claims)["deep"] == {"list": [1, None, True, {"x": "y"}]})

    fake.next_mode()  # nobody has an identity
    svids.ends("identity lost", Code.PERMISSION_DENIED)
    certs.stream.ends("identity lost, SDS", Code.PERMISSION_DENIED)
    check("bundles go on", bundles.quiet())
    fails("nobody", Code.PERMISSION_DENIED, stub.FetchX509SVID, wl.X509SVIDRequest(), metadata=META)
    fails("nobody, JWT", Code.PERMISSION_DENIED, stub.FetchJWTSVID, wl.JWTSVIDRequest(audience=["a"]), metadata=META)
    fake.next_mode()  # starting
    check("message", bundles.ends("starting", Code.UNAVAILABLE) == "the agent is starting: 100% soon")
    for call, q in ((stub.FetchX509SVID, wl.X509SVIDRequest()), (stub.FetchX509Bundles, wl.X509BundlesRequest()),
                    (stub.FetchJWTBundles, wl.JWTBundlesRequest()), (stub.FetchJWTSVID, wl.JWTSVIDRequest(audience=["a"]))):
        fails("starting", Code.UNAVAILABLE, call, q, metadata=META)
    s = Sds(ch)
    s.ask([])
    s.stream.ends("starting, SDS", Code.UNAVAILABLE)
    fake.next_mode()


def many():
    """As many clients as a host has workloads, a stream each; then more than are let in."""
    clients = []
    for _ in range(500):
        r = Raw()
        r.send(frame(HEADERS, 4, 1, request()) + frame(DATA, 1, 1, bytes(5)))
        clients.append(r)
    for r in clients:
        check("an answer for each", r.until(DATA, 1))
    fds = len(os.listdir(f"/proc/{args.fake}/fd"))
    check("connected", fds > 500, fds)
    return clients


def rss(what):
    if args.fake:
        with open(f"/proc/{args.fake}/status") as f:
            kb = {l.split(":")[0]: l.split()[1] for l in f if l.startswith(("VmRSS", "VmLck"))}
        print(what, kb)
        return int(kb["VmRSS"])


def main():
    with channel() as ch:
        stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(ch)
        m, _, td = x509(stub)
        metadata(stub)
        unknown(ch)
        if not args.no_jwt:
            jwt(stub, m, td)
        sds(ch, m, td)
        slow = bad_bytes(ch, stub)
        if args.fake:
            pushes(ch, stub)
            slow.s.close()
            before = rss("before 500 clients")
            clients = many()
            per = (rss("with 500 clients") - before) / 500
            print(f"each connection with a stream: {per:.1f} kB")
            check("cheap connections", per < 40 or os.environ.get("MAYFLY_SANITIZED"), per)
            for _ in range(150):
                clients.append(Raw())
            last = clients[-1]
            check("more than are let in", last.next() is None)
            for r in clients:
                r.s.close()
            x509(stub)
    print("all good")


main()
