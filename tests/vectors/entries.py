#!/usr/bin/env python3
"""Writes entries.jsonl: log entries as tlog/FORMAT.md defines them, good and bad, made from that page
alone. Each line: name, type, entry (hex), and either fields or wantErr."""
import json
import pathlib
import struct

T = 1795456800
D = bytes(range(32))
lines = []


def u16(n): return struct.pack(">H", n)
def u32(n): return struct.pack(">I", n)
def u64(n): return struct.pack(">Q", n)
def v8(b): return bytes([len(b)]) + b
def v16(b): return u16(len(b)) + b
def t(s): return s.encode()
def ext(kind, data): return u16(kind) + v16(data)
def envelope(kind, body, exts=b""): return v16(exts) + u16(kind) + body


def good(name, entry_type, body, exts=b"", **fields):
    lines.append({"name": name, "type": entry_type, "entry": envelope(entry_type, body, exts).hex(), "fields": fields})


def bad(name, kind, body, exts=b""):
    lines.append({"name": name, "type": kind, "entry": envelope(kind, body, exts).hex(), "wantErr": True})


# --- DER -------------------------------------------------------------------------------------------
def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    return bytes([tag]) + (bytes([n]) if n < 128 else bytes([0x81, n]) if n < 256 else bytes([0x82]) + u16(n)) + body


def seq(*parts): return tlv(0x30, *parts)


CN = bytes.fromhex("0603550403")
issuer = seq(tlv(0x31, seq(CN, tlv(0x0c, b"Example issuing CA"))))
p256 = seq(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a8648ce3d030107"))
san = seq(bytes.fromhex("0603551d11"), tlv(0x01, b"\xff"), tlv(0x04, seq(tlv(0x86, b"spiffe://example.org/web"))))


point = seq(bytes.fromhex("0603551d1f"),
            tlv(0x04, seq(seq(tlv(0xa0, tlv(0xa0, tlv(0x86, b"https://ca.example.org/crl/16-0.crl")))))))


def certificate(not_before, not_after, subject=seq(), san=san):
    return b"".join([tlv(0xa0, tlv(0x02, b"\x02")), issuer, seq(tlv(0x17, not_before), tlv(0x17, not_after)), subject, p256,
                     tlv(0x04, D), tlv(0xa3, seq(san))])


body = certificate(b"261123200000Z", b"261123200510Z")
why = dict(attestor="join_token", evidence=D.hex(), entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=7,
           requester="spiffe://example.org/agent/7", session=D[::-1].hex())
exts = (ext(0xff01, t(why["attestor"])) + ext(0xff02, D) + ext(0xff03, u64(7) + t(why["entry_id"])) +
        ext(0xff04, t(why["requester"])) + ext(0xff05, D[::-1]))
good("null entry", 0, b"")
good("certificate", 1, body, exts, kind="certificate", not_before=1795464000, not_after=1795464310, spki_hash=D.hex(), **why)
good("certificate that says nothing of why", 1, body, kind="certificate", not_before=1795464000, not_after=1795464310,
     spki_hash=D.hex())
good("certificate with an extension of a later version", 1, body, ext(0xff01, b"x509pop") + ext(0xff7f, b"?"),
     kind="certificate", not_before=1795464000, not_after=1795464310, spki_hash=D.hex(), attestor="x509pop")
good("certificate that names a CRL", 1, certificate(b"261123200000Z", b"261123202000Z", san=point + san), kind="certificate",
     not_before=1795464000, not_after=1795465200, spki_hash=D.hex())
bad("certificate cut short", 1, body[:-1])
bad("certificate with a byte left over", 1, body + b"\0")
bad("certificate with an evidence digest of 31 bytes", 1, body, ext(0xff02, D[:31]))
bad("certificate with a line break in the attestor", 1, body, ext(0xff01, b"join\ntoken"))
bad("certificate with a registration of 7 bytes", 1, body, ext(0xff03, bytes(7)))


# --- records ---------------------------------------------------------------------------------------
def revocation(by, value, reason=1, actor="uid:0", comment="", time=T):
    return u64(time) + bytes([by]) + v16(t(value)) + bytes([reason]) + v8(t(actor)) + v16(t(comment))


def refusal(stage=1, rule="r", why=b"w", spiffe_id="", attestor="", requester="", session=b"", count=1, time=T):
    return (u64(time) + bytes([stage]) + v8(t(rule)) + v16(why) + v16(t(spiffe_id)) + v8(t(attestor)) +
            v16(t(requester)) + v8(session) + u32(count))


def change(what, entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=1, spiffe_id="spiffe://example.org/web",
           parent="spiffe://example.org/mayfly/server", ttl=300, digest=D, actor="uid:0", flags=b""):
    return (u64(T) + bytes([what]) + v8(t(entry_id)) + u64(revision) + v16(t(spiffe_id)) + v16(t(parent)) + u32(ttl) +
            digest + v8(t(actor)) + flags)


def jwt(what=1, expires=T + 300, spiffe_id="spiffe://example.org/web", audiences=("https://api.example.org",), kid="k" * 43,
        attestor="x509pop", evidence=D, entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=7, requester="spiffe://example.org/agent/7",
        session=D[::-1], raw=None):
    return (u64(T) + bytes([what]) + u64(expires) + v16(t(spiffe_id)) +
            v16(b"".join(v8(t(a)) for a in audiences) if raw is None else raw) + v8(t(kid)) + v8(t(attestor)) + v8(evidence) +
            v8(t(entry_id)) + u64(revision) + v16(t(requester)) + v8(session))


def authority(what, value, digest=D): return u64(T) + bytes([what]) + v16(t(value)) + digest


comment = "key found in a public repository"
for n, (by, value) in enumerate([("serial", "1000000000003"), ("spiffe_id", "spiffe://example.org/web"),
                                 ("prefix", "spiffe://example.org/team"), ("entry", "AAAAAAAAAAAAAAAAAAAAAA"),
                                 ("agent", "spiffe://example.org/agent/7"), ("key", D.hex())], 1):
    good("revocation by " + by, 0xff01, revocation(n, value, comment=comment), kind="revocation", time=T, code=by,
         value=value, reason=1, actor="uid:0", comment=comment)
acme = "acme:" + "a" * 43
good("revocation without comment", 0xff01, revocation(1, "1000000000003", 0, acme), kind="revocation", time=T,
     code="serial", value="1000000000003", reason=0, actor=acme, comment="")
for n, stage in enumerate(["attestation", "registration", "policy", "signer"], 1):
    f = dict(rule="selectors", spiffe_id="spiffe://example.org/web", attestor="join_token",
             requester="spiffe://example.org/agent/7")
    good("refusal at " + stage, 0xff02, refusal(n, why=b"entry asks for k8s:ns:prod", session=D, **f), kind="refusal",
         time=T, code=stage, why="entry asks for k8s:ns:prod", session=D.hex(), count=1, **f)
good("refusal that stands for many", 0xff02, refusal(rule="token-unknown", why=b"no such join token", count=1000000),
     kind="refusal", time=T, code="attestation", rule="token-unknown", why="no such join token", session="", count=1000000)
letters = "Grüße, 世界 🐝"
good("refusal in other letters", 0xff02, refusal(why=t(letters)), kind="refusal", time=T, code="attestation", rule="r",
     why=letters, count=1)
for n, what in enumerate(["created", "updated", "deleted"], 1):
    good("entry " + what, 0xff03, change(n, revision=n), kind="entry", time=T, code=what,
         entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=n, spiffe_id="spiffe://example.org/web",
         parent="spiffe://example.org/mayfly/server", ttl=300, digest=D.hex(), actor="uid:0")
good("entry that became an auditor's", 0xff03, change(2, revision=2, flags=b"\1"), kind="entry", time=T, code="updated",
     entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=2, spiffe_id="spiffe://example.org/web",
     parent="spiffe://example.org/mayfly/server", ttl=300, digest=D.hex(), actor="uid:0", auditor=True)
policy = "trust_domain=example.org max_lifetime=3600 rate=0 permitted_dns=example.org quorum=0"
for n, (what, value) in enumerate([("root", "1"), ("issuing", "1"), ("crl", "16-3"), ("policy", policy), ("clock", str(T + 3600)),
                                  ("jwt_key", "k" * 43)], 1):
    good("authority: " + what, 0xff04, authority(n, value), kind="authority", time=T, code=what, value=value, digest=D.hex())

said = dict(kind="jwt", time=T, code="svid", expires=T + 300, spiffe_id="spiffe://example.org/web", kid="k" * 43, attestor="x509pop",
            evidence=D.hex(), entry_id="AAAAAAAAAAAAAAAAAAAAAA", revision=7, requester="spiffe://example.org/agent/7",
            session=D[::-1].hex())
good("JWT-SVID", 0xff05, jwt(), audiences=["https://api.example.org"], **said)
good("JWT-SVID for two, in other letters", 0xff05, jwt(audiences=["a\"b\\c", letters]), audiences=["a\"b\\c", letters], **said)
most = ["a" * 191] * 16
good("JWT-SVID for as many as there may be", 0xff05, jwt(audiences=most), audiences=most, **said)
good("JWT-SVID that says nothing of why", 0xff05, jwt(attestor="", evidence=b"", requester="", session=b""),
     **{**said, "attestor": "", "evidence": "", "requester": "", "session": "", "audiences": ["https://api.example.org"]})

one = revocation(1, "1000000000003")
bad("revocation with a byte left over", 0xff01, one + b"\0")
bad("revocation cut short", 0xff01, one[:-1])
bad("revocation without its value", 0xff01, revocation(1, ""))
bad("revocation by an unknown kind", 0xff01, revocation(7, "x"))
bad("revocation by kind 0", 0xff01, revocation(0, "x"))
bad("revocation with reason 7, which RFC 5280 leaves out", 0xff01, revocation(1, "1", 7))
bad("revocation with removeFromCRL", 0xff01, revocation(1, "1", 8))
bad("revocation with reason 11", 0xff01, revocation(1, "1", 11))
bad("revocation by nobody", 0xff01, revocation(1, "1", actor=""))
bad("revocation at a time over 2^63", 0xff01, revocation(1, "1", time=2 ** 63))
bad("revocation with a comment of 513 bytes", 0xff01, revocation(1, "1", comment="c" * 513))
bad("revocation with a line break", 0xff01, revocation(1, "1", comment="a\nb"))
for name, text in [("a lone continuation byte", b"\x80"), ("an overlong slash", b"\xc0\xaf"),
                   ("an overlong form of three bytes", b"\xe0\x80\xaf"), ("a surrogate", b"\xed\xa0\x80"),
                   ("a character past U+10FFFF", b"\xf4\x90\x80\x80"), ("a C1 control", b"\xc2\x9b"),
                   ("half a character", b"\xe4\xb8")]:
    bad("refusal with " + name, 0xff02, refusal(why=text))
bad("refusal that stands for none", 0xff02, refusal(count=0))
bad("refusal with a session of 31 bytes", 0xff02, refusal(session=D[:31]))
bad("entry change by nobody", 0xff03, change(1, actor=""))
bad("entry change with a short digest", 0xff03, change(1, digest=D[:31]))
bad("entry change with flags of 0", 0xff03, change(1, flags=b"\0"))
bad("entry change with a flag that nobody knows", 0xff03, change(1, flags=b"\2"))
bad("entry change with two bytes of flags", 0xff03, change(1, flags=b"\1\1"))
bad("authority change of an unknown kind", 0xff04, authority(7, ""))
bad("authority change with a value of 2049 bytes", 0xff04, authority(4, "p" * 2049))
bad("JWT-SVID for nobody", 0xff05, jwt(audiences=[]))
bad("JWT-SVID for 17", 0xff05, jwt(audiences=["a"] * 17))
bad("JWT-SVID with an empty audience", 0xff05, jwt(audiences=["a", ""]))
bad("JWT-SVID with audiences of 3073 bytes", 0xff05, jwt(audiences=["a" * 191] * 15 + ["a" * 192]))
bad("JWT-SVID with an audience cut short", 0xff05, jwt(raw=b"\2a"))
bad("JWT-SVID with a line break in an audience", 0xff05, jwt(audiences=["a\nb"]))
bad("JWT-SVID that ends when it begins", 0xff05, jwt(expires=T))
bad("JWT-SVID that ends after 2^63", 0xff05, jwt(expires=2 ** 63))
bad("JWT-SVID of an unknown kind", 0xff05, jwt(what=2))
bad("JWT-SVID without its SPIFFE ID", 0xff05, jwt(spiffe_id=""))
bad("JWT-SVID without its key", 0xff05, jwt(kid=""))
bad("JWT-SVID with an evidence digest of 31 bytes", 0xff05, jwt(evidence=D[:31]))
bad("JWT-SVID without its registration entry", 0xff05, jwt(entry_id=""))
bad("JWT-SVID with a byte left over", 0xff05, jwt() + b"\0")

out = pathlib.Path(__file__).with_suffix(".jsonl")
out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
print(len(lines), "entries")
