// The log as this visit knows it: its key, its head, how far both are believed, and entries with
// their proofs. The only file that talks to the server.
import { Refused, base64, equal, fromBase64, textOf, utf8 } from './bytes.js';
import { bindingKey, parseCertificate } from './cert.js';
import { decodeEntry, serialParts } from './decode.js';
import { checker } from './ed25519.js';
import { memory, remember } from './memory.js';
import { TileLog } from './tiles.js';
import * as verify from './verify.js';

const FILE_MAX = 256 * 65537; // a full bundle of the largest entries
const kept = new Map();       // tiles
const agreed = new Map();     // size -> root of heads that were found consistent

// key: by which all is checked; note: the head, null until it is verified; checks: what was found.
// first: nothing was remembered. changed(): told of each check's end.
export const log = { key: null, issuer: null, number: null, note: null, tiles: null, checks: [], witnesses: [], alarm: false, first: false, changed() {} };

// --- asking the server ------------------------------------------------------------------------------

export class Unanswered extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, options) {
  let r;
  try {
    r = await fetch(new URL('../' + path, document.baseURI), { credentials: 'omit', ...options });
  } catch {
    throw new Unanswered(0, 'The server does not answer.');
  }
  const bytes = new Uint8Array(await r.arrayBuffer());
  if (bytes.length > FILE_MAX)
    throw new Unanswered(r.status, 'The server’s answer is too long.');
  return { status: r.status, bytes };
}

async function get(path, options) {
  const { status, bytes } = await ask(path, options);
  if (status !== 200)
    throw new Unanswered(status, `The server answers ${path} with status ${status}.`);
  return bytes;
}

async function logFile(path) {
  const { status, bytes } = await ask('log/' + path);
  if (status !== 200 && status !== 404)
    throw new Unanswered(status, `The server answers ${path} with status ${status}.`);
  return status === 200 ? bytes : null;
}

// JSON of /audit; a refusal's words are in its "detail".
export async function askAudit(what, query) {
  // not URLSearchParams: to /audit a plus sign is no space
  const text = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  const { status, bytes } = await ask(`audit/v1/${what}${text && '?' + text}`, { cache: 'no-store' });
  let doc = null;
  try {
    doc = JSON.parse(textOf(bytes));
  } catch { /* told below */ }
  if (status !== 200 || !doc)
    throw new Unanswered(status, doc?.detail ?? `The server answers the search with status ${status}.`);
  return doc;
}

// --- the key ----------------------------------------------------------------------------------------

const found = (state, title, words) => log.checks.push({ state, title, words });

async function servedKey() {
  try {
    const der = await get('acme/issuer', { cache: 'no-store' });
    log.issuer = await parseCertificate(der);
    log.number = serialParts(log.issuer.serial).logNumber;
    return await bindingKey(der);
  } catch (e) {
    return { error: e.message };
  }
}

async function keyCheck() {
  const served = await servedKey();
  const known = memory.key ? await verify.parseKey(memory.key.text).catch(() => null) : null;
  if (!known && served.error) {
    found('failed', 'there is no key to check with', `The server does not show the log’s key (${served.error}). Enter it under Trust.`);
    return null;
  }
  if (!known) {
    remember({ key: { text: served.text, from: 'server', since: new Date().toISOString() } });
    found('note', 'the log’s key came from this server', 'This is your first visit, so the key is only as good as the server that showed it. Compare it with one from elsewhere under Trust. This browser remembers it and will tell you when it changes.');
    return served;
  }
  if (served.error) {
    found('warn', 'the server does not show the log’s key just now', `${served.error} The remembered key is used.`);
  } else if (served.text !== known.text) {
    log.alarm = true;
    found('alarm', 'the log’s key has changed', `This server now names the key ${served.text}. The key that ${memory.key.from === 'person' ? 'you entered' : 'this browser has known since ' + memory.key.since.slice(0, 10)} is ${known.text}, and only that one is believed here. If the authority announced a new key, get it from the authority itself, not from this page, and enter it under Trust.`);
  } else {
    found('good', memory.key.from === 'person' ? 'the server names the key that you entered' : 'the log’s key is the one remembered',
      memory.key.from === 'person' ? 'You got it from elsewhere, so it does not depend on this server.' : `This browser has known it since ${memory.key.since.slice(0, 10)}.`);
  }
  return known;
}

// --- the head ---------------------------------------------------------------------------------------

const remembered = () => memory.head && { ...memory.head, root: fromBase64(memory.head.root) };

function fork(words) {
  log.alarm = true;
  found('alarm', 'this log shows two histories', words + ' Keep both heads (below): with the log’s signature under each they are evidence. Tell the authority’s operator and its auditors.');
}

// The proof fails: because the head that was seen is not the beginning of this one, which its own
// tiles then prove, or because these are damaged, which proves nothing.
async function accuse(old, was, note, tiles, proof) {
  try {
    await verify.verifyConsistency(old.size, note.size, await tiles.range(0, old.size), note.root, proof);
  } catch {
    log.alarm = true;
    found('alarm', 'the log’s tiles do not fit its signed head', `They are damaged, or altered on the way, so it cannot be told whether the head of ${was}, is the beginning of this one. Load the page again; if it stays so, tell the authority’s operator.`);
    return;
  }
  fork(`The head of ${was}, is not the beginning of the one that the server shows now; the log’s own hashes prove it.`);
}

async function compare(note, tiles) {
  let old = null;
  try {
    old = remembered();
  } catch { /* damaged: as none */ }
  if (!old) {
    log.first = true;
    found('note', 'no earlier head to compare with', 'This browser remembers this one. At your next visit it checks that nothing of it was changed or taken away.');
    return;
  }
  const was = `${old.size.toLocaleString('en')} entries, seen ${old.seen.slice(0, 16).replace('T', ' ')} UTC`;
  if (note.size < old.size) {
    log.alarm = true;
    found('alarm', 'the log has become shorter', `You have seen a head of ${was}; the server now shows one of ${note.size.toLocaleString('en')}. A log never shrinks: it was rolled back, or you are shown an old copy.`);
  } else if (note.size === old.size) {
    if (equal(note.root, old.root))
      found('good', 'the same head as you saw last', `Nothing was added since: ${was}.`);
    else
      fork(`You have seen another head of the same ${was}.`);
  } else {
    const proof = await tiles.consistency(old.size);
    try {
      await verify.verifyConsistency(old.size, note.size, old.root, note.root, proof);
      found('good', 'nothing that you saw before was changed or taken away', `The log grew from ${was}, to ${note.size.toLocaleString('en')}. Your browser checked the proof of consistency.`);
    } catch (e) {
      if (e.rule !== 'consistency')
        throw e;
      await accuse(old, was, note, tiles, proof);
    }
  }
}

async function headOnce() {
  log.checks = [];
  log.alarm = log.first = false;
  log.key = await keyCheck();
  if (!log.key)
    return;
  const note = await verify.openCheckpoint(await get('log/checkpoint', { cache: 'no-store' }), log.key);
  found('good', 'the head is signed by the log’s key',
    (await checker()) === 'browser' ? 'Your browser’s own cryptography checked the Ed25519 signature.' : 'Your browser does not know Ed25519, so this page’s own code checked the signature.');
  const tiles = new TileLog(logFile, note.size, kept);
  await compare(note, tiles);
  log.witnesses = await witnesses(note);
  Object.assign(log, { note, tiles });
  if (log.alarm)
    return;
  agreed.clear();
  agreed.set(note.size, note.root);
  if (!remember({ head: { size: note.size, root: base64(note.root), note: note.note, seen: new Date().toISOString() } }))
    found('warn', 'this browser keeps nothing for this page', 'So it cannot notice when the log’s key changes or its head goes back. Allow site data for this page.');
}

// Tiles may be replaced by wider ones while they are read: then the whole check begins anew, with
// the head of that moment.
export async function checkHead() {
  await headLoop();
  log.changed();
}

function disbelieve(e) {
  log.alarm = true;
  found('bad', 'the head is not believed', e.message);
}

async function headLoop() {
  Object.assign(log, { note: null, tiles: null, witnesses: [] });
  for (let attempt = 0; ; attempt++) {
    try {
      return await headOnce();
    } catch (e) {
      if (e.rule === 'log-missing' && attempt < 3)
        continue;
      if (e instanceof Unanswered || e.rule === 'log-missing')
        found('failed', 'the head could not be checked', e.message);
      else
        disbelieve(e);
      return;
    }
  }
}

// Every signature but the log's own: { name, state, words, time }.
async function witnesses(note) {
  const known = [];
  for (const text of memory.witnesses)
    known.push(await verify.parseWitnessKey(text).catch(() => null));
  const out = [];
  for (const key of known.filter(Boolean)) {
    try {
      const time = await verify.verifyCosignature(note, key);
      out.push(time === null ? { name: key.name, state: 'warn', words: 'has not cosigned this head' } : { name: key.name, state: 'good', words: 'has cosigned this head', time });
    } catch (e) {
      log.alarm = true;
      out.push({ name: key.name, state: 'bad', words: e.message });
      found('alarm', 'a witness’s cosignature is wrong', e.message);
    }
  }
  for (const s of note.signatures)
    if (s.signature.length === 72 && !known.some((k) => k && k.name === s.name && equal(k.id, s.id)))
      out.push({ name: s.name, state: 'note', words: 'has put a cosignature here that is not checked: enter this witness’s key under Trust' });
  return out;
}

// --- other heads -------------------------------------------------------------------------------------

// A head from an answer or a certificate: signed, and of one history with the one that we hold.
export async function agree(bytes) {
  const note = await verify.openCheckpoint(bytes, log.key);
  if (log.note && note.size > log.note.size)
    await checkHead();
  if (!log.note)
    throw new Refused('head', 'The log’s head is not verified.');
  const root = agreed.get(note.size);
  if (root && equal(root, note.root))
    return note;
  if (note.size > log.note.size)
    throw new Refused('head', 'That head is newer than the one that the server publishes. Try again in a second.');
  await verify.verifyConsistency(note.size, log.note.size, note.root, log.note.root, await log.tiles.consistency(note.size));
  agreed.set(note.size, note.root);
  return note;
}

// --- entries -----------------------------------------------------------------------------------------

// Throws what verify.js throws: whoever gets an answer has a proven entry.
export async function prove(index, entry, path, note) {
  await verify.verifyInclusion(index, note.size, await verify.leafHash(entry), path, note.root);
}

export async function readEntry(index) {
  for (let attempt = 0; ; attempt++) {
    if (!log.note)
      throw new Refused('head', 'The log’s head is not verified, so nothing can be proven by it.');
    if (index >= log.note.size && attempt === 0) { // it may have grown
      await checkHead();
      continue;
    }
    const { note, tiles } = log;
    if (index >= note.size)
      throw new Refused('index', `The log has ${note.size.toLocaleString('en')} entries; the last one is number ${(note.size - 1).toLocaleString('en')}.`);
    try {
      const [entry, path] = [await tiles.entry(index), await tiles.inclusion(index)];
      return { index, entry, path, note };
    } catch (e) {
      if (e.rule !== 'log-missing' || attempt === 3)
        throw e;
      await checkHead();
    }
  }
}

// { index, entry, path, note, fields } with fields.kind "malformed" and fields.why where need be.
export function decoded(read) {
  try {
    return { ...read, fields: decodeEntry(read.entry, read.index) };
  } catch (e) {
    return { ...read, fields: { kind: 'malformed', why: e.message } };
  }
}

// Entries of a search, each with what became of its proof: { …, proof: null or the refusal's words }.
export async function searchEntries(query) {
  const doc = await askAudit('entries', query);
  const note = await agree(utf8.encode(doc.checkpoint));
  const entries = [];
  for (const x of doc.entries) {
    const read = { index: x.index, entry: fromBase64(x.entry), path: x.proof.map(fromBase64), note };
    const refused = await prove(read.index, read.entry, read.path, note).then(() => null, (e) => e.message);
    entries.push({ ...decoded(read), refused });
  }
  return { entries, note, next: doc.next, indexed: Number(doc.indexed ?? note.size) };
}
