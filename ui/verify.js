// The log's mathematics and signatures: RFC 6962 hashes and proofs, C2SP verifier keys, signed
// notes, checkpoints, cosignatures and offline proofs. Pure: fetches nothing, remembers nothing.
// Whatever does not verify is a Refused with words for people; nothing here answers "maybe".
//
// Sizes and indexes are Numbers, so a log has fewer than 2^53 entries.
import { Refused, base64, concat, equal, fromBase64, hex, Reader, textOf, utf8 } from './bytes.js';
import * as ed25519 from './ed25519.js';

export const NOTE_MAX = 65536;
export const NOTE_SIGNATURES = 100;
const KEY_LOG = 1;
const KEY_WITNESS = 4;

// --- hashes ---------------------------------------------------------------------------------------

export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}
export const leafHash = (entry) => sha256(concat([0], entry));
export const nodeHash = (left, right) => sha256(concat([1], left, right));
export const emptyRoot = () => sha256(new Uint8Array());

// --- proofs (RFC 9162 section 2.1.3.2 and 2.1.4.2) --------------------------------------------------

const odd = (n) => n % 2 === 1;
const half = (n) => Math.floor(n / 2);
const isSize = (n) => Number.isSafeInteger(n) && n >= 0;
const areHashes = (list) => list.every((h) => h.length === 32);

function isPower(n) {
  while (n > 1 && n % 2 === 0)
    n /= 2;
  return n === 1;
}

function unproven(rule, why) {
  throw new Refused(rule, why);
}

export async function verifyInclusion(index, size, leaf, proof, root) {
  const fail = (why) => unproven('inclusion', `The proof of inclusion is wrong: ${why}.`);
  if (!isSize(index) || !isSize(size) || index >= size)
    fail(`there is no entry ${index} in a log of ${size}`);
  if (!areHashes([leaf, root, ...proof]))
    fail('a hash in it does not have 32 bytes');
  let [fn, sn, r] = [index, size - 1, leaf];
  for (const p of proof) {
    if (sn === 0)
      fail('it has too many hashes');
    if (odd(fn) || fn === sn) {
      r = await nodeHash(p, r);
      while (!odd(fn) && fn !== 0)
        [fn, sn] = [half(fn), half(sn)];
    } else {
      r = await nodeHash(r, p);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0)
    fail('it has too few hashes');
  if (!equal(r, root))
    fail('it leads to another root than the signed one, so the entry or the proof was altered');
}

export async function verifyConsistency(size1, size2, root1, root2, proof) {
  const fail = (why) => unproven('consistency', `The proof of consistency is wrong: ${why}.`);
  if (!isSize(size1) || !isSize(size2) || size1 > size2)
    fail('the earlier log is not the smaller one');
  if (!areHashes([root1, root2, ...proof]))
    fail('a hash in it does not have 32 bytes');
  if (size1 === 0 || size1 === size2) {
    if (proof.length)
      fail('it has hashes where none are needed');
    if (!equal(root1, size1 === 0 ? await emptyRoot() : root2))
      fail('the roots differ');
    return;
  }
  const given = isPower(size1); // then its root is the first hash, and is not sent
  if (!proof.length)
    fail('it is empty');
  let [fn, sn] = [size1 - 1, size2 - 1];
  while (odd(fn))
    [fn, sn] = [half(fn), half(sn)];
  let fr = given ? root1 : proof[0];
  let sr = fr;
  for (const p of given ? proof : proof.slice(1)) {
    if (sn === 0)
      fail('it has too many hashes');
    if (odd(fn) || fn === sn) {
      fr = await nodeHash(p, fr);
      sr = await nodeHash(p, sr);
      while (!odd(fn) && fn !== 0)
        [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = await nodeHash(sr, p);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0)
    fail('it has too few hashes');
  if (!equal(fr, root1))
    fail('it does not lead to the earlier root');
  if (!equal(sr, root2))
    fail('it does not lead to the later root');
}

// --- verifier keys (C2SP signed-note) -------------------------------------------------------------

// { text, name, type, id, key } of name+hex8(keyID)+base64(type ‖ public key).
export async function parseKey(text, type = KEY_LOG) {
  const bad = (why) => unproven('vkey-format', why);
  const m = /^([^\s+\p{Cc}]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/iu.exec(text);
  if (!m)
    bad('A verifier key reads name+8 hexadecimal digits+44 characters. Check that it was copied whole.');
  const blob = fromBase64(m[3]);
  if (blob[0] !== type)
    bad(type === KEY_LOG ? 'That is not the key of a log that signs with Ed25519 (type 1).'
                         : 'That is not the key of a witness (type 4).');
  const id = (await sha256(concat(utf8.encode(m[1] + '\n'), blob))).subarray(0, 4);
  if (hex(id) !== m[2].toLowerCase())
    bad('The key’s identifier does not fit the key: it was mistyped or altered.');
  const key = blob.subarray(1);
  if (ed25519.smallOrder(key))
    bad('That key is of small order: anybody can sign for it.');
  return { text, name: m[1], type, id, key };
}
export const parseWitnessKey = (text) => parseKey(text, KEY_WITNESS);

// --- signed notes and checkpoints -----------------------------------------------------------------

function decimal(text) {
  const n = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(n))
    unproven('checkpoint-format', 'The head’s second line is no size.');
  return n;
}

function tried(read) {
  try {
    return read();
  } catch {
    return null;
  }
}

function signatureLine(line) {
  const m = /^— ([^\s+]+) ([A-Za-z0-9+/=]+)$/u.exec(line);
  if (!m)
    unproven('checkpoint-format', 'A signature line of the head is malformed.');
  const blob = tried(() => fromBase64(m[2])) ?? new Uint8Array(); // nobody's: of unknown keys it may be anything
  return { name: m[1], id: blob.subarray(0, 4), signature: blob.subarray(4) };
}

// Taken apart, nothing of it verified: { note, text, origin, size, root, signatures }.
export function parseNote(bytes) {
  const bad = (why) => unproven('checkpoint-format', `That is no head of a log: ${why}.`);
  if (bytes.length > NOTE_MAX)
    bad('it is too long');
  const note = tried(() => textOf(bytes)) ?? bad('it is not UTF-8');
  if (/[\x00-\x09\x0b-\x1f\x7f]/.test(note))
    bad('it has a control character');
  const blank = note.indexOf('\n\n');
  if (blank < 0 || !note.endsWith('\n'))
    bad('it has no signatures, or is cut short');
  const lines = note.slice(0, blank).split('\n');
  if (lines.length < 3 || lines[0].length === 0 || utf8.encode(lines[0]).length > 255)
    bad('it does not begin with origin, size and root');
  const root = tried(() => fromBase64(lines[2]));
  if (root?.length !== 32)
    bad('its third line is no hash');
  const below = note.slice(blank + 2, -1).split('\n');
  if (below.length > NOTE_SIGNATURES)
    bad('it has more than 100 signatures');
  return {
    note, text: note.slice(0, blank + 1), origin: lines[0], size: decimal(lines[1]), root,
    signatures: below.map(signatureLine),
  };
}

const signedBy = (note, key) => note.signatures.filter((s) => s.name === key.name && equal(s.id, key.id));

// Parses and verifies against the log's key.
export async function openCheckpoint(bytes, key) {
  const note = parseNote(bytes);
  if (note.origin !== key.name)
    unproven('checkpoint-origin', `The head is of the log “${note.origin}”, not of “${key.name}”.`);
  const [mine] = signedBy(note, key);
  if (!mine)
    unproven('checkpoint-signature', 'The head does not carry a signature by the log’s key: it is another log’s, or the key was replaced.');
  if (!(await ed25519.verify(key.key, mine.signature, utf8.encode(note.text))))
    unproven('checkpoint-signature', 'The head’s signature is wrong: the head was altered or forged.');
  return note;
}

// The time of the witness's cosignature (C2SP tlog-cosignature), or null when it has none.
export async function verifyCosignature(note, key) {
  let newest = null;
  for (const s of signedBy(note, key)) {
    const time = s.signature.length === 72 ? new Reader(s.signature, 'cosignature').u64() : null;
    const text = utf8.encode(`cosignature/v1\ntime ${time}\n${note.text}`);
    if (time === null || !(await ed25519.verify(key.key, s.signature.subarray(8), text)))
      unproven('cosignature', `The cosignature by the witness “${key.name}” is wrong: the head was altered or forged.`);
    if (newest === null || time > newest)
      newest = time;
  }
  return newest === null ? null : Number(newest);
}

// --- offline proofs (C2SP tlog-proof) ---------------------------------------------------------------

export function parseProof(bytes) {
  const bad = (why) => unproven('proof-format', `That is no log proof: ${why}.`);
  const text = textOf(bytes);
  const m = /^c2sp\.org\/tlog-proof@v1\n(?:extra ([A-Za-z0-9+/=]+)\n)?index (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/]{43}=\n){0,64})\n/.exec(text);
  if (!m || bytes.length > 16384)
    bad('it does not have that form');
  const index = Number(m[2]);
  if (!Number.isSafeInteger(index))
    bad('its index is too large');
  return {
    extra: fromBase64(m[1] ?? ''), index, path: m[3].split('\n').slice(0, -1).map(fromBase64),
    checkpoint: utf8.encode(text.slice(m[0].length)),
  };
}

export function writeProof(index, path, note) {
  return ['c2sp.org/tlog-proof@v1', `index ${index}`, ...path.map(base64), '', note].join('\n');
}

// One bit of a copy changed; for showing that a proof does not bear it.
export function flipBit(bytes, at = Math.floor(bytes.length / 2)) {
  const out = bytes.slice();
  out[at] ^= 1;
  return out;
}
