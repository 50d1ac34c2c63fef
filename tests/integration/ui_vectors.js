// Test vectors, run in the browser over the page's own modules: proofs, entries, signatures.
// run() answers { name: [how many, failures…] }.
import { Refused, fromBase64, fromHex } from '/ui/bytes.js';
import { decodeEntry } from '/ui/decode.js';
import * as ed25519 from '/ui/ed25519.js';
import { TileLog } from '/ui/tiles.js';
import { emptyRoot, leafHash, nodeHash, verifyConsistency, verifyInclusion } from '/ui/verify.js';

async function lines(path) {
  const r = await fetch(path);
  return r.ok ? (await r.text()).trim().split('\n').map((l) => JSON.parse(l)) : null;
}

async function each(list, name, wantErr, run) {
  const out = [0];
  for (const v of list) {
    out[0]++;
    let why = null;
    try {
      await run(v);
    } catch (e) {
      why = e instanceof Refused ? e.message : 'threw ' + e;
      if (!(e instanceof Refused))
        out.push(`${name(v)}: ${why}`);
    }
    if ((why !== null) !== wantErr(v))
      out.push(`${name(v)}: ${why}`);
  }
  return out;
}

const hashes = (list) => (list ?? []).map(fromBase64);
const proofs = (list, run) => each(list, (v) => v.name, (v) => v.wantErr, run);
const included = (v) => verifyInclusion(v.leafIdx, v.treeSize, fromBase64(v.leafHash), hashes(v.proof), fromBase64(v.root));
const consistent = (v) => verifyConsistency(v.size1, v.size2, fromBase64(v.root1), fromBase64(v.root2), hashes(v.proof));

function entryRead(v) {
  const got = decodeEntry(fromHex(v.entry));
  if (got.type !== v.type)
    throw new Error(`type ${got.type}`);
  for (const [k, want] of Object.entries(v.fields ?? {})) {
    const have = got[k === 'spki_hash' ? 'key' : k]; // the page's word for it
    if (JSON.stringify(have) !== JSON.stringify(want))
      throw new Error(`${k} is ${have}`);
  }
}

// Both ways to check, whichever the page would take.
async function signatures(groups) {
  const out = [0];
  for (const g of groups) {
    for (const t of g.tests) {
      const [key, sig, msg] = [g.publicKey.pk, t.sig, t.msg].map(fromHex);
      out[0]++;
      for (const check of [ed25519.verify, async (...a) => sig.length === 64 && ed25519.verifyHere(...a)])
        if ((await check(key, sig, msg)) !== (t.result === 'valid'))
          out.push(`${t.tcId} ${t.comment}`);
    }
  }
  for (const key of ['00'.repeat(32), '01' + '00'.repeat(31), '01' + '00'.repeat(30) + '80', 'ed' + 'ff'.repeat(30) + '7f'])
    if (await ed25519.verify(fromHex(key), new Uint8Array(64), new Uint8Array()))
      out.push('a key of small order ' + key);
  return out;
}

// RFC 6962 section 2.1, word for word.
async function mth(d) {
  if (d.length < 2)
    return d.length ? d[0] : emptyRoot();
  let k = 1;
  while (2 * k < d.length)
    k *= 2;
  return nodeHash(await mth(d.slice(0, k)), await mth(d.slice(k)));
}

// Proofs computed from tiles, of small trees and of those around a tile's edge.
async function tiles() {
  const out = [0];
  const leaves = await Promise.all(Array.from({ length: 300 }, (_, i) => leafHash(Uint8Array.of(i >> 8, i))));
  const root = (n) => mth(leaves.slice(0, n));
  for (const size of [1, 2, 3, 5, 8, 13, 255, 256, 257, 300]) {
    const get = async (path) => {
      const [, level, n] = /^tile\/(\d)\/(\d{3})/.exec(path);
      if (level === '1')
        return mth(leaves.slice(0, 256));
      const part = leaves.slice(256 * n, Math.min(size, 256 * n + 256));
      return Uint8Array.from(part.flatMap((h) => [...h]));
    };
    const log = new TileLog(get, size);
    for (const i of new Set([0, 1, size >> 1, size - 2, size - 1].filter((x) => x >= 0 && x < size))) {
      out[0]++;
      await verifyInclusion(i, size, leaves[i], await log.inclusion(i), await root(size)).catch((e) => out.push(`${i} of ${size}: ${e.message}`));
      await verifyConsistency(i, size, await root(i), await root(size), await log.consistency(i)).catch((e) => out.push(`${i} to ${size}: ${e.message}`));
    }
  }
  return out;
}

export async function run() {
  const inclusion = await lines('/test/inclusion.jsonl');
  const consistency = await lines('/test/consistency.jsonl');
  const wycheproof = await fetch('/test/ed25519.json').then((r) => (r.ok ? r.json() : null));
  return {
    inclusion: inclusion && (await proofs(inclusion, included)),
    consistency: consistency && (await proofs(consistency, consistent)),
    entries: await each(await lines('/test/entries.jsonl'), (v) => v.name, (v) => Boolean(v.wantErr), entryRead),
    signatures: wycheproof && (await signatures(wycheproof.testGroups)),
    tiles: await tiles(),
  };
}
