// Certificates and what a log keeps of them: a small strict DER reader, names, times, extensions,
// the entry that a certificate stands for (tlog/FORMAT.md), and the issuing certificate's binding
// to its log. Verifies no chain: one signature by one key, where it is asked to.
import { Refused, Reader, concat, equal, fromBase64, hex, textOf } from './bytes.js';
import { parseKey, sha256 } from './verify.js';

const TAG = {
  boolean: 0x01, integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, utc: 0x17,
  generalized: 0x18, sequence: 0x30, set: 0x31, version: 0xa0, uid1: 0x81, uid2: 0x82, extensions: 0xa3,
};
const OID = {
  name: '2.5.29.17', basic: '2.5.29.19', proof: '2.25.1596203714', binding: '2.25.1596203715',
  ec: '1.2.840.10045.2.1', p256: '1.2.840.10045.3.1.7', p384: '1.3.132.0.34',
};
const SIGNATURES = { '1.2.840.10045.4.3.2': 'SHA-256', '1.2.840.10045.4.3.3': 'SHA-384' };
const CURVES = { [OID.p256]: ['P-256', 32], [OID.p384]: ['P-384', 48] };
const NAMES = {
  '2.5.4.3': 'CN', '2.5.4.5': 'serialNumber', '2.5.4.6': 'C', '2.5.4.7': 'L', '2.5.4.8': 'ST', '2.5.4.10': 'O', '2.5.4.11': 'OU',
  '2.5.29.14': 'subject key identifier', '2.5.29.15': 'key usage', '2.5.29.17': 'names', '2.5.29.19': 'basic constraints',
  '2.5.29.31': 'where revocations are listed', '2.5.29.35': 'authority key identifier', '2.5.29.37': 'extended key usage',
  '2.5.29.56': 'no revocation information (RFC 9608)', '2.5.29.30': 'name constraints',
  '2.25.1596203714': 'stapled proof', '2.25.1596203715': 'log binding',
};
const EXTENSIONS_MAX = 64;

// Elements of definite, minimal length and low tag number, up to 65,535 bytes.
class Der extends Reader {
  any() {
    const start = this.at;
    const tag = this.u8();
    const first = this.u8();
    if ((tag & 0x1f) === 0x1f)
      this.fail('a tag is not one of ours');
    if (first > 0x82 || first === 0x80)
      this.fail('a length is malformed');
    const n = first < 0x80 ? first : first === 0x81 ? this.u8() : this.u16();
    if (first >= 0x80 && n < (first === 0x81 ? 0x80 : 0x100))
      this.fail('a length is not minimal');
    const contents = this.take(n);
    return { tag, contents, whole: this.bytes.subarray(start, this.at) };
  }
  get(tag) {
    const e = this.any();
    if (e.tag !== tag)
      this.fail('it does not have the structure that it should');
    return e;
  }
  enter(tag) {
    return new Der(this.get(tag).contents, this.rule);
  }
  has(tag) {
    return this.left > 0 && this.bytes[this.at] === tag;
  }
}

function oidText(bytes) {
  const arcs = [];
  let v = 0n;
  for (const b of bytes) {
    v = (v << 7n) | BigInt(b & 0x7f);
    if (b < 0x80) {
      arcs.push(v);
      v = 0n;
    }
  }
  const first = arcs[0] < 80n ? arcs[0] / 40n : 2n;
  return [first, arcs[0] - first * 40n, ...arcs.slice(1)].join('.');
}
export const oidName = (oid) => NAMES[oid] ?? oid;

// Unix seconds of a UTCTime or GeneralizedTime in the one form of RFC 5280 section 4.1.2.5.
function time(r) {
  const { tag, contents } = r.any();
  const text = textOf(contents);
  const long = tag === TAG.generalized;
  const m = (long ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(text);
  if (!m || (!long && tag !== TAG.utc))
    r.fail('a time is malformed');
  const [year, month, ...rest] = m.slice(1).map(Number);
  const whole = long ? year : year + (year < 50 ? 2000 : 1900);
  const t = Date.UTC(whole, month - 1, ...rest);
  const back = new Date(t).toISOString().replace(/[-:T]|\.000Z/g, '');
  if (back.slice(long ? 0 : 2) !== m.slice(1).join(''))
    r.fail('a time is none of the calendar');
  return t / 1000;
}

function nameText(name, rule) {
  const r = new Der(name, rule).enter(TAG.sequence);
  const parts = [];
  while (r.left) {
    for (const set = r.enter(TAG.set); set.left;) {
      const pair = set.enter(TAG.sequence);
      const oid = oidText(pair.get(TAG.oid).contents);
      parts.push(`${oidName(oid)}=${textOf(pair.any().contents)}`);
    }
  }
  return parts.join(', ');
}

function extensionList(bytes, rule) {
  const r = new Der(bytes, rule);
  const list = [];
  while (r.left) {
    const whole = r.get(TAG.sequence);
    const x = new Der(whole.contents, rule);
    const oid = oidText(x.get(TAG.oid).contents);
    const critical = x.has(TAG.boolean);
    if (critical && x.get(TAG.boolean).contents[0] !== 0xff)
      x.fail('a default value is written out');
    const value = x.get(TAG.octets).contents;
    x.end();
    if (list.length === EXTENSIONS_MAX || list.some((other) => other.oid === oid))
      x.fail('an extension stands twice, or there are too many');
    list.push({ oid, critical, value, whole: whole.whole });
  }
  return list;
}

function alternativeNames(value, rule) {
  const out = { uris: [], dns: [], others: 0 };
  const r = new Der(value, rule);
  for (const names = r.enter(TAG.sequence); names.left;) {
    const { tag, contents } = names.any();
    if (tag === 0x86)
      out.uris.push(textOf(contents));
    else if (tag === 0x82)
      out.dns.push(textOf(contents));
    else if (tag === 0x87 && contents.length === 4)
      out.dns.push(contents.join('.'));
    else
      out.others++;
  }
  r.end();
  return out;
}

function isAuthority(extensions, rule) {
  const basic = extensions.find((x) => x.oid === OID.basic);
  return Boolean(basic) && new Der(basic.value, rule).enter(TAG.sequence).has(TAG.boolean);
}

// issuer, validity, subject
function names(r) {
  const issuer = r.get(TAG.sequence);
  const validity = r.get(TAG.sequence);
  const times = new Der(validity.contents, r.rule);
  const [notBefore, notAfter] = [time(times), time(times)];
  times.end();
  const subject = r.get(TAG.sequence);
  return { issuer: nameText(issuer.whole, r.rule), subject: nameText(subject.whole, r.rule), notBefore, notAfter,
           head: concat(issuer.whole, validity.whole, subject.whole) };
}

// Unique identifiers, extensions, end.
function tail(r) {
  let uids = new Uint8Array();
  for (const tag of [TAG.uid1, TAG.uid2])
    if (r.has(tag))
      uids = concat(uids, r.get(tag).whole);
  let extensions = [];
  if (r.has(TAG.extensions)) {
    const outer = r.enter(TAG.extensions);
    extensions = extensionList(outer.get(TAG.sequence).contents, r.rule);
    outer.end();
  }
  r.end();
  const names = extensions.find((x) => x.oid === OID.name);
  return { uids, extensions, authority: isAuthority(extensions, r.rule),
           ...(names ? alternativeNames(names.value, r.rule) : { uris: [], dns: [], others: 0 }) };
}

function version3(r) {
  const v = r.get(TAG.version).whole;
  if (hex(v) !== 'a003020102')
    r.fail('it is not of version 3');
  return v;
}

// The body of a certificate's entry: contents octets of TBSCertificateLogEntry.
export function parseBody(body) {
  const r = new Der(body, 'entry-format');
  version3(r);
  const named = names(r);
  r.get(TAG.sequence);
  const keyHash = r.get(TAG.octets).contents;
  if (keyHash.length !== 32)
    r.fail('the key’s hash does not have 32 bytes');
  const rest = tail(r);
  if (rest.extensions.some((x) => x.oid === OID.proof))
    r.fail('it has a stapled proof, which no entry has');
  return { ...named, ...rest, keyHash };
}

function header(tag, n) {
  if (n < 0x80)
    return [tag, n];
  return n < 0x100 ? [tag, 0x81, n] : [tag, 0x82, n >> 8, n & 0xff];
}
const wrap = (tag, contents) => concat(header(tag, contents.length), contents);

// A whole certificate (DER), and the body of the entry that it stands for.
export async function parseCertificate(der) {
  const outer = new Der(der, 'cert-format');
  const c = outer.enter(TAG.sequence);
  outer.end();
  const signed = c.get(TAG.sequence);
  const algorithm = c.get(TAG.sequence);
  const signature = c.get(TAG.bits).contents;
  c.end();
  const r = new Der(signed.contents, 'cert-format');
  const version = version3(r);
  const serial = r.get(TAG.integer).contents;
  if (!equal(r.get(TAG.sequence).whole, algorithm.whole))
    r.fail('the inner and outer signature algorithms differ');
  const named = names(r);
  const key = r.get(TAG.sequence);
  const rest = tail(r);
  const keyHash = await sha256(key.whole);
  const kept = rest.extensions.filter((x) => x.oid !== OID.proof).map((x) => x.whole);
  const body = concat(version, named.head, new Der(key.contents, 'cert-format').get(TAG.sequence).whole, wrap(TAG.octets, keyHash),
                      rest.uids, kept.length ? wrap(TAG.extensions, wrap(TAG.sequence, concat(...kept))) : []);
  return { ...named, ...rest, keyHash, key: key.whole, body, serial: BigInt('0x' + hex(serial)), signed: signed.whole, signature,
           algorithm: oidText(new Der(algorithm.contents, 'cert-format').get(TAG.oid).contents),
           proof: rest.extensions.find((x) => x.oid === OID.proof)?.value ?? null };
}

// The log's verifier key that an issuing certificate names.
export async function bindingKey(der) {
  const binding = (await parseCertificate(der)).extensions.find((x) => x.oid === OID.binding);
  if (!binding)
    throw new Refused('binding-missing', 'The issuing certificate names no log.');
  const r = new Der(binding.value, 'cert-format');
  const text = textOf(r.get(TAG.utf8).contents);
  r.end();
  return parseKey(text);
}

function fixed(r, n) { // an INTEGER of a signature as n bytes
  let v = r.get(TAG.integer).contents;
  while (v.length > 1 && v[0] === 0)
    v = v.subarray(1);
  return v.length > n ? r.fail('a signature is malformed') : concat(new Uint8Array(n - v.length), v);
}

// Is the certificate's signature by the issuer's key? null: of a kind that this page does not know.
export async function verifySignature(cert, issuer) {
  const hash = SIGNATURES[cert.algorithm];
  const ids = new Der(issuer.key, 'cert-format').enter(TAG.sequence).enter(TAG.sequence);
  const curve = oidText(ids.get(TAG.oid).contents) === OID.ec ? CURVES[oidText(ids.get(TAG.oid).contents)] : null;
  if (!hash || !curve || cert.signature[0] !== 0)
    return null;
  const name = { name: 'ECDSA', namedCurve: curve[0] };
  const key = await crypto.subtle.importKey('spki', issuer.key, name, false, ['verify']);
  const pair = new Der(cert.signature.subarray(1), 'cert-format').enter(TAG.sequence);
  const raw = concat(fixed(pair, curve[1]), fixed(pair, curve[1]));
  return crypto.subtle.verify({ name: 'ECDSA', hash }, key, raw, cert.signed);
}

// The first certificate of a PEM text, as DER.
export function fromPem(text) {
  const m = /-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]{1,262144}?)-----END CERTIFICATE-----/.exec(text);
  if (!m)
    throw new Refused('cert-format', 'There is no certificate in PEM form in that text.');
  return fromBase64(m[1].replace(/\s+/g, ''));
}
