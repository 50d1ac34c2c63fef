// Log entries (tlog/FORMAT.md), decoded as strictly as that page asks. Unknown types are said to be
// unknown and are no error: they are hashed and proven like any other.
import { Refused, Reader, concat, hex, textOf } from './bytes.js';
import { parseBody } from './cert.js';

const ENTRY_MAX = 65535;
const RECORD_MAX = 8192;
const NAME_MAX = 2048;

const BY = [, 'serial', 'spiffe_id', 'prefix', 'entry', 'agent', 'key'];
const STAGE = [, 'attestation', 'registration', 'policy', 'signer'];
const CHANGE = [, 'created', 'updated', 'deleted'];
const AUTHORITY = [, 'root', 'issuing', 'crl', 'policy', 'clock', 'jwt_key'];
const JWT = [, 'svid'];
const AUDIENCES_MAX = 3072;
const AUDITOR = 1;
const REASONS = new Set([0, 1, 2, 3, 4, 5, 6, 9, 10]);

function fail(why) {
  throw new Refused('entry-format', `The entry is malformed: ${why}.`);
}

function text(bytes, min, max) {
  if (bytes.length < min || bytes.length > max)
    fail('a text is missing or too long');
  const s = textOf(bytes);
  if (/\p{Cc}/u.test(s))
    fail('a text has control characters');
  return s;
}

function number(big) {
  return big <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(big) : String(big);
}

function code(r, names) {
  return names[r.u8()] ?? fail('a code is unknown');
}

function time(r) {
  const t = r.u64();
  return t < 2n ** 63n ? number(t) : fail('its time is not below 2^63');
}

function revocation(r) {
  const out = { kind: 'revocation', time: time(r), code: code(r, BY), value: text(r.vec16(), 1, NAME_MAX), reason: r.u8() };
  if (!REASONS.has(out.reason))
    fail('its reason is none of RFC 5280');
  return { ...out, actor: text(r.vec8(), 1, 128), comment: text(r.vec16(), 0, 512) };
}

function refusal(r) {
  const out = {
    kind: 'refusal', time: time(r), code: code(r, STAGE), rule: text(r.vec8(), 1, 63), why: text(r.vec16(), 1, 512),
    spiffe_id: text(r.vec16(), 0, NAME_MAX), attestor: text(r.vec8(), 0, 32), requester: text(r.vec16(), 0, NAME_MAX),
  };
  const session = r.vec8();
  if (session.length && session.length !== 32)
    fail('its session key is no thumbprint');
  const count = r.u32();
  return count ? { ...out, session: hex(session), count } : fail('it stands for no refusal');
}

function change(r) {
  const out = {
    kind: 'entry', time: time(r), code: code(r, CHANGE), entry_id: text(r.vec8(), 1, 64), revision: number(r.u64()),
    spiffe_id: text(r.vec16(), 1, NAME_MAX), parent: text(r.vec16(), 0, NAME_MAX), ttl: r.u32(), digest: hex(r.take(32)),
    actor: text(r.vec8(), 1, 128),
  };
  if (r.left) {
    if (r.u8() !== AUDITOR)
      fail('its flags are not known');
    out.auditor = true;
  }
  return out;
}

function authority(r) {
  return { kind: 'authority', time: time(r), code: code(r, AUTHORITY), value: text(r.vec16(), 0, NAME_MAX), digest: hex(r.take(32)) };
}

function audiences(bytes) {
  const r = new Reader(bytes, 'entry-format');
  const out = [];
  while (r.left)
    out.push(text(r.vec8(), 1, 255));
  return bytes.length <= AUDIENCES_MAX && out.length >= 1 && out.length <= 16 ? out : fail('its audiences are none, or too many');
}

function maybeHash(bytes, what) {
  return !bytes.length || bytes.length === 32 ? hex(bytes) : fail(`its ${what} is no hash`);
}

function jwt(r) {
  const out = { kind: 'jwt', time: time(r), code: code(r, JWT), expires: time(r) };
  if (!(out.expires > out.time))
    fail('it ends before it begins');
  return {
    ...out, spiffe_id: text(r.vec16(), 1, NAME_MAX), audiences: audiences(r.vec16()), kid: text(r.vec8(), 1, 64), attestor: text(r.vec8(), 0, 32),
    evidence: maybeHash(r.vec8(), 'evidence'), entry_id: text(r.vec8(), 1, 64), revision: number(r.u64()), requester: text(r.vec16(), 0, NAME_MAX),
    session: maybeHash(r.vec8(), 'session key'),
  };
}

const RECORDS = { 0xff01: revocation, 0xff02: refusal, 0xff03: change, 0xff04: authority, 0xff05: jwt };

function digest(bytes) {
  return bytes.length === 32 ? hex(bytes) : fail('a digest does not have 32 bytes');
}

const EXTENSIONS = {
  0xff01: (x, b) => { x.attestor = text(b, 1, ENTRY_MAX); },
  0xff02: (x, b) => { x.evidence = digest(b); },
  0xff03: (x, b) => {
    const r = new Reader(b, 'entry-format');
    x.revision = number(r.u64());
    x.entry_id = text(r.take(r.left), 1, ENTRY_MAX);
  },
  0xff04: (x, b) => { x.requester = text(b, 1, ENTRY_MAX); },
  0xff05: (x, b) => { x.session = digest(b); },
};

function extensions(list, type) {
  const r = new Reader(list, 'entry-format');
  const x = {};
  for (let last = -1; r.left;) {
    const t = r.u16();
    const data = r.vec16();
    if (t <= last)
      fail('its extensions are not in order');
    last = t;
    if (type === 1)
      EXTENSIONS[t]?.(x, data);
  }
  return x;
}

function certificate(body, x) {
  const c = parseBody(body);
  return {
    kind: 'certificate', time: c.notBefore, spiffe_id: c.uris[0] ?? '', uris: c.uris, dns: c.dns, issuer: c.issuer, subject: c.subject,
    not_before: c.notBefore, not_after: c.notAfter, key: hex(c.keyHash), authority: c.authority,
    extensions: c.extensions.map((e) => e.oid), ...x,
  };
}

// { type, kind, …fields }, kind one of null, certificate, revocation, refusal, entry, authority, jwt, unknown.
export function decodeEntry(bytes, index) {
  if (bytes.length > ENTRY_MAX)
    fail('it is too long');
  const r = new Reader(bytes, 'entry-format');
  const list = r.vec16();
  const type = r.u16();
  const body = r.take(r.left);
  const x = extensions(list, type);
  if ((index === 0) !== (type === 0) && index !== undefined)
    fail('the null entry stands at index 0 and nowhere else');
  if (type === 0)
    return body.length || list.length ? fail('a null entry is empty') : { type, kind: 'null' };
  if (type === 1)
    return { type, ...certificate(body, x) };
  if (!RECORDS[type])
    return { type, kind: 'unknown' };
  if (list.length || body.length > RECORD_MAX)
    fail('a record has no extensions and at most 8,192 bytes');
  const b = new Reader(body, 'entry-format');
  const out = { type, ...RECORDS[type](b) };
  b.end();
  return out;
}

// The entry that a certificate stands for: its body behind the extension list of its proof's extra.
export function certificateEntry(body, extra) {
  return concat([extra.length >> 8, extra.length & 0xff], extra, [0, 1], body);
}

// The serial that the certificate of an entry carries, and back.
export function serialOf(logNumber, index) {
  return ((BigInt(logNumber) << 48n) | BigInt(index)).toString(16);
}

export function serialParts(serial) {
  const v = typeof serial === 'bigint' ? serial : BigInt('0x' + serial);
  const logNumber = Number(v >> 48n);
  if (logNumber < 1 || logNumber > 65535)
    throw new Refused('serial', 'That serial number names no entry of a Mayfly log.');
  return { logNumber, index: Number(v & 0xffffffffffffn) };
}
