// A log read from its tiles (C2SP tlog-tiles), as of one size: entries, and proofs computed from
// hashes that the server published. Nothing is believed here: a proof is only worth what
// verify.js says of it against a signed root.
import { Refused, Reader } from './bytes.js';
import { nodeHash } from './verify.js';

const WIDTH = 256;
const KEPT = 256; // tiles, 2 MB

// tile/<L>/<N>[.p/<W>], N in groups of three digits, all but the last behind an x.
export function tilePath(level, n, width) {
  const groups = [String(n % 1000).padStart(3, '0')];
  for (let rest = Math.floor(n / 1000); rest > 0; rest = Math.floor(rest / 1000))
    groups.unshift('x' + String(rest % 1000).padStart(3, '0'));
  return `tile/${level}/${groups.join('/')}${width < WIDTH ? `.p/${width}` : ''}`;
}

function powerBelow(n) {
  let k = 1;
  while (k * 2 < n)
    k *= 2;
  return k;
}

export class TileLog {
  // get(path): the file's bytes, or null when the server has no such file.
  constructor(get, size, kept = new Map()) {
    this.get = get;
    this.size = size;
    this.kept = kept; // of any size: tiles do not change
  }

  // A partial tile goes when a wider one comes; what it had is in front of the full one.
  async tile(level, n) {
    const below = level === 'entries' ? this.size : Math.floor(this.size / WIDTH ** level);
    const width = Math.min(WIDTH, below - n * WIDTH);
    if (width <= 0)
      throw new Refused('log-path', 'The log is not that long.');
    const path = tilePath(level, n, width);
    let bytes = this.kept.get(path);
    if (!bytes) {
      bytes = (await this.get(path)) ?? (width < WIDTH ? await this.get(tilePath(level, n, WIDTH)) : null);
      if (!bytes)
        throw new Refused('log-missing', `The server does not have ${path}.`);
      if (this.kept.size >= KEPT)
        this.kept.delete(this.kept.keys().next().value);
      this.kept.set(path, bytes);
    }
    return { bytes, width };
  }

  // The root of the complete subtree of 2^level leaves that is the index-th of its size.
  async node(level, index) {
    const sub = level % 8;
    const first = index * 2 ** sub;
    const n = Math.floor(first / WIDTH);
    const { bytes, width } = await this.tile((level - sub) / 8, n);
    const at = first - n * WIDTH;
    if (bytes.length < width * 32 || bytes.length % 32)
      throw new Refused('log-tile', 'A tile of the log is damaged: it has the wrong length.');
    let row = Array.from({ length: 2 ** sub }, (_, i) => bytes.slice((at + i) * 32, (at + i + 1) * 32));
    while (row.length > 1)
      row = await Promise.all(Array.from({ length: row.length / 2 }, (_, i) => nodeHash(row[2 * i], row[2 * i + 1])));
    return row[0];
  }

  // The root of the leaves [from, to), aligned as RFC 6962 splits them.
  async range(from, to) {
    const n = to - from;
    const k = powerBelow(n);
    if (n === 1 || k * 2 === n)
      return this.node(Math.round(Math.log2(n)), from / n);
    return nodeHash(await this.range(from, from + k), await this.range(from + k, to));
  }

  async inclusion(index, from = 0, to = this.size) {
    const k = powerBelow(to - from);
    if (to - from === 1)
      return [];
    return index < from + k
      ? [...(await this.inclusion(index, from, from + k)), await this.range(from + k, to)]
      : [...(await this.inclusion(index, from + k, to)), await this.range(from, from + k)];
  }

  // RFC 6962 section 2.1.2, SUBPROOF: `whole` while the subtree is one that the earlier root names.
  async consistency(size1, from = 0, to = this.size, whole = true) {
    if (size1 === 0)
      return [];
    if (size1 === to - from)
      return whole ? [] : [await this.range(from, to)];
    const k = powerBelow(to - from);
    return size1 <= k
      ? [...(await this.consistency(size1, from, from + k, whole)), await this.range(from + k, to)]
      : [...(await this.consistency(size1 - k, from + k, to, false)), await this.range(from, from + k)];
  }

  // The entries of a bundle, in order.
  async bundle(n) {
    const { bytes, width } = await this.tile('entries', n);
    const r = new Reader(bytes, 'log-bundle');
    const entries = [];
    while (r.left && entries.length < width)
      entries.push(r.vec16());
    if (entries.length < width)
      throw new Refused('log-bundle', 'A bundle of the log is damaged: it has too few entries.');
    return entries;
  }

  async entry(index) {
    return (await this.bundle(Math.floor(index / WIDTH)))[index % WIDTH];
  }
}
