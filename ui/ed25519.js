// Ed25519 verification (RFC 8032 section 5.1.7). WebCrypto does it where the browser knows the
// curve; elsewhere this file's own arithmetic, which handles public values alone and so need not
// hide its timing. Both refuse keys of small order, under which one signature fits many messages.
import { equal, fromHex, hex } from './bytes.js';

// As tlog/vkey.c has them: encodings of the points of small order, sign bit left out.
const SMALL_ORDER = new Set([
  '00'.repeat(32),
  '01' + '00'.repeat(31),
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ec' + 'ff'.repeat(30) + '7f',
  'ed' + 'ff'.repeat(30) + '7f',
  'ee' + 'ff'.repeat(30) + '7f',
]);

export function smallOrder(key) {
  const plain = key.slice();
  plain[31] &= 0x7f;
  return SMALL_ORDER.has(hex(plain));
}

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (a) => ((a % P) + P) % P;

function power(base, exponent) {
  let out = 1n;
  for (let b = mod(base), e = exponent; e > 0n; e >>= 1n, b = (b * b) % P)
    if (e & 1n)
      out = (out * b) % P;
  return out;
}
const inverse = (a) => power(a, P - 2n);
const D = mod(-121665n * inverse(121666n));
const ROOT_OF_MINUS_ONE = power(2n, (P - 1n) / 4n);

// Extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, xy = T/Z.
const ZERO = [0n, 1n, 1n, 0n];

function add(p, q) {
  const a = ((p[1] - p[0]) * (q[1] - q[0])) % P;
  const b = ((p[1] + p[0]) * (q[1] + q[0])) % P;
  const c = (2n * D * ((p[3] * q[3]) % P)) % P;
  const d = (2n * p[2] * q[2]) % P;
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

function multiply(p, n) {
  let out = ZERO;
  for (let q = p; n > 0n; n >>= 1n, q = add(q, q))
    if (n & 1n)
      out = add(out, q);
  return out;
}

const little = (bytes) => BigInt('0x' + hex(bytes.slice().reverse()));

function decompress(bytes) {
  const raw = little(bytes);
  const sign = raw >> 255n;
  const y = raw & ((1n << 255n) - 1n);
  if (y >= P)
    return null;
  const u = mod(y * y - 1n);
  const v = mod(D * y * y + 1n);
  let x = (u * power(v, 3n) * power(u * power(v, 7n), (P - 5n) / 8n)) % P;
  if (mod(v * x * x - u) !== 0n)
    x = (x * ROOT_OF_MINUS_ONE) % P;
  if (mod(v * x * x - u) !== 0n || (x === 0n && sign))
    return null;
  if ((x & 1n) !== sign)
    x = P - x;
  return [x, y, 1n, (x * y) % P];
}

function compress(p) {
  const z = inverse(p[2]);
  const x = mod(p[0] * z);
  const y = mod(p[1] * z);
  return fromHex((y | ((x & 1n) << 255n)).toString(16).padStart(64, '0')).reverse();
}

const BASE = decompress(fromHex('58' + '66'.repeat(31)));

export async function verifyHere(key, signature, message) {
  const a = decompress(key);
  const s = little(signature.subarray(32));
  if (!a || s >= L)
    return false;
  const input = new Uint8Array(64 + message.length);
  input.set(signature.subarray(0, 32));
  input.set(key, 32);
  input.set(message, 64);
  const h = little(new Uint8Array(await crypto.subtle.digest('SHA-512', input))) % L;
  const minusA = [mod(-a[0]), a[1], 1n, mod(-a[3])];
  return equal(compress(add(multiply(BASE, s), multiply(minusA, h))), signature.subarray(0, 32));
}

// Who checks: 'browser' or 'page'. Asked once.
let who;
export function checker() {
  who ??= crypto.subtle
    .importKey('raw', fromHex('58' + '66'.repeat(31)), { name: 'Ed25519' }, false, ['verify'])
    .then(() => 'browser', () => 'page');
  return who;
}

export async function verify(key, signature, message) {
  if (key.length !== 32 || signature.length !== 64 || smallOrder(key))
    return false;
  if ((await checker()) === 'page')
    return verifyHere(key, signature, message);
  try {
    const k = await crypto.subtle.importKey('raw', key, { name: 'Ed25519' }, false, ['verify']);
    return await crypto.subtle.verify({ name: 'Ed25519' }, k, signature, message);
  } catch {
    return false; // a key that is no point
  }
}
