// Bytes and texts, both ways, strictly: whatever is not exactly in its form is refused.

export class Refused extends Error {
  constructor(rule, text) {
    super(text);
    this.rule = rule;
  }
}

export const utf8 = new TextEncoder();
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function textOf(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    throw new Refused('utf8', 'a text is not UTF-8');
  }
}

export function equal(a, b) {
  return a.length === b.length && a.every((v, i) => v === b[i]);
}

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export function hex(bytes) {
  return Array.from(bytes, (v) => v.toString(16).padStart(2, '0')).join('');
}

export function fromHex(text) {
  if (!/^([0-9a-f]{2})*$/i.test(text))
    throw new Refused('hex', 'that is not hexadecimal');
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function base64(bytes) {
  let raw = '';
  for (const v of bytes)
    raw += String.fromCharCode(v);
  return btoa(raw);
}

// Padding where it belongs, and the bits left over zero: one text for the same bytes, not several.
export function fromBase64(text) {
  if (typeof text !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4)
    throw new Refused('base64', 'that is not base64');
  const raw = atob(text);
  if (btoa(raw) !== text)
    throw new Refused('base64', 'that is not base64 as RFC 4648 writes it');
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

// A cursor over big-endian fields. `rule` is what a refusal is named by.
export class Reader {
  constructor(bytes, rule) {
    this.bytes = bytes;
    this.rule = rule;
    this.at = 0;
  }
  get left() {
    return this.bytes.length - this.at;
  }
  fail(why) {
    throw new Refused(this.rule, why);
  }
  take(n) {
    if (n > this.left)
      this.fail('it is cut short');
    this.at += n;
    return this.bytes.subarray(this.at - n, this.at);
  }
  u8() {
    return this.take(1)[0];
  }
  u16() {
    return this.u8() * 256 + this.u8();
  }
  u32() {
    return this.u16() * 65536 + this.u16();
  }
  u64() {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  vec8() {
    return this.take(this.u8());
  }
  vec16() {
    return this.take(this.u16());
  }
  end() {
    if (this.left)
      this.fail('bytes are left over');
  }
}
