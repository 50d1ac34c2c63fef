// One entry: its proof, checked here, and a certificate's story.
import { base64, hex } from './bytes.js';
import { serialOf } from './decode.js';
import { code, count, dateText, definitions, details, el, entryLink, plural, searchLink, span, verdict, when } from './dom.js';
import { Unanswered, decoded, log, prove, readEntry, searchEntries } from './log.js';
import { flipBit, writeProof } from './verify.js';
import { fieldPairs, kindName, reasonName, sentence } from './words.js';

// --- the proof -------------------------------------------------------------------------------------

function provenWords(x) {
  return `Your browser hashed the entry’s ${plural(x.entry.length, 'byte')}, joined them with ${plural(x.path.length, 'hash', 'hashes')} of the log, and came to the root that the log’s key signed over ${count(x.note.size)} entries.`;
}

async function tamper(x, place) {
  const altered = flipBit(x.entry);
  try {
    await prove(x.index, altered, x.path, x.note);
    place.replaceChildren(verdict('warn', 'the altered entry was accepted', 'That must not happen: do not rely on this page.'));
  } catch (e) {
    place.replaceChildren(verdict('bad', 'the altered entry', `One bit of a copy was changed, and the same check says: ${e.message} So the check does see a change.`));
  }
}

export function proofBox(x, refused) {
  if (refused)
    return el('div', { id: 'proof', role: 'alert' }, verdict('bad', 'this entry is not proven', refused));
  const place = el('div', { id: 'tampered', role: 'status', 'aria-live': 'polite' });
  return el('div', {},
    el('div', { id: 'proof', role: 'status', 'aria-live': 'polite' }, verdict('good', `this stands in the log as entry ${count(x.index)}`, provenWords(x))),
    el('button', { type: 'button', class: 'quiet', id: 'tamper', onclick: () => tamper(x, place) }, 'Change one bit and check again'), place);
}

function bytesBox(x) {
  return details('The bytes, and a proof to keep',
    el('p', {}, 'The entry, in base64:'), el('pre', {}, base64(x.entry)),
    el('p', {}, 'A C2SP tlog-proof of it, which can be verified without this server:'), el('pre', {}, writeProof(x.index, x.path, x.note.note)));
}

// --- revocations of a certificate --------------------------------------------------------------------

export function revokes(r, f, serial) {
  const below = (id, prefix) => id === prefix || id.startsWith(prefix.replace(/\/$/, '') + '/');
  switch (r.code) {
  case 'serial':
    return serial !== null && r.value === serial;
  case 'spiffe_id':
    return f.uris.includes(r.value);
  case 'prefix':
    return f.uris.some((id) => below(id, r.value));
  case 'entry':
    return r.value === f.entry_id;
  case 'agent':
    return r.value === f.requester;
  default:
    return r.value === f.key;
  }
}

async function findRevocation(f, serial) {
  let cursor = null;
  for (let pages = 0; pages < 5; pages++) {
    const got = await searchEntries({ outcome: 'revoked', from: f.not_before, order: 'oldest', limit: 1000, ...(cursor && { cursor }) });
    const hit = got.entries.find((x) => !x.refused && x.fields.kind === 'revocation' && revokes(x.fields, f, serial));
    if (hit || !got.next)
      return hit ?? null;
    cursor = got.next;
  }
  throw new Unanswered(0, 'There are too many revocations since to go through here; search for them by name.');
}

function revocationText(hit) {
  return [verdict('revoked', 'this certificate is revoked', `On ${dateText(hit.fields.time)}, by ${hit.fields.actor}: ${reasonName(hit.fields.reason)}. `, entryLink(hit.index))];
}

async function revocationStep(place, f, serial) {
  try {
    const hit = await findRevocation(f, serial);
    place.replaceChildren(...(hit ? revocationText(hit)
      : [el('p', {}, 'The server’s search names no revocation of it since then.'),
         el('p', { class: 'hint' }, 'What a search leaves out cannot be proven here: to be certain, search a copy of the log of your own (mayfly log search --log).')]));
  } catch (e) {
    place.replaceChildren(el('p', {}, e.status === 403 ? 'Whether it was revoked is not shown: this server’s search is open to its operators only.' : `Whether it was revoked could not be found out: ${e.message}`));
  }
}

// --- a certificate's story ----------------------------------------------------------------------------

const step = (title, ...body) => el('li', {}, el('h2', {}, title), ...body);

function validity(f) {
  const now = Date.now() / 1000;
  if (now < f.not_before)
    return 'It is not valid yet.';
  return now > f.not_after ? `It ended ${span(now - f.not_after)} ago.` : `It is valid for another ${span(f.not_after - now)}.`;
}

function story(f, index, revocation) {
  const serial = log.number === null ? null : serialOf(log.number, index);
  const asked = f.requester
    ? ['The agent ', searchLink({ agent: f.requester }, f.requester), ' asked for it, on behalf of a workload beside it.']
    : [f.authority ? 'The authority made it for itself.' : f.attestor ? 'The workload’s own agent asked for it.' : 'The entry does not say who asked: it may be the authority’s own.'];
  const steps = [
    step('Asked', el('p', {}, ...asked), f.session ? el('p', { class: 'hint' }, 'Session key (SHA-256): ', code(f.session)) : null),
    step('Attested', f.attestor
      ? el('p', {}, 'Its evidence was of the kind ', searchLink({ attestor: f.attestor }, f.attestor), '. The evidence itself stays with the authority; the log holds its salted hash.')
      : el('p', {}, 'No evidence is recorded.'),
    f.evidence ? el('p', { class: 'hint' }, 'SHA-256(salt, evidence): ', code(f.evidence)) : null,
    f.entry_id ? el('p', {}, 'Registration entry ', searchLink({ entry: f.entry_id }, code(f.entry_id)), `, revision ${f.revision}, allowed it.`) : null),
    step('Logged', el('p', {}, `It was put into the log as entry ${count(index)}, before it could be signed.`)),
    step('Signed', el('p', {}, 'For ', searchLink({ spiffe_id: f.spiffe_id }, f.spiffe_id || f.subject), ', valid from ', when(f.not_before), ' until ', when(f.not_after), ` (${span(f.not_after - f.not_before)}). ${validity(f)}`),
      serial ? el('p', {}, 'Its serial number can only be ', code(serial), '.') : null,
      el('p', { class: 'hint' }, 'The signature itself is in the certificate, not in the log: logging comes first, so an entry may stand here whose certificate was never signed. If you have the certificate, ', el('a', { href: '#/certificate' }, 'check it'), '.')),
    step('Revoked?', revocation),
  ];
  return [el('ol', { class: 'story' }, steps), serial];
}

function title(f, index) {
  const kind = kindName(f).toLowerCase().replace(/^ca /, 'CA ');
  return `Entry ${count(index)}: ${kind}${f.kind === 'certificate' ? ` of ${f.spiffe_id || f.subject}` : ''}`;
}

export async function entryPage(main, index) {
  main.append(el('h1', {}, `Entry ${count(index)}`));
  const busy = el('div', { role: 'status' }, verdict('busy', 'reading the entry and computing its proof'));
  main.append(busy);
  let x;
  try {
    x = decoded(await readEntry(index));
  } catch (e) {
    busy.replaceChildren(verdict(e.rule ? 'bad' : 'failed', 'the entry', e.message));
    return;
  }
  const refused = await prove(x.index, x.entry, x.path, x.note).then(() => null, (e) => e.message);
  const f = x.fields;
  busy.replaceWith(proofBox(x, refused));
  main.querySelector('h1').textContent = title(f, index);
  if (refused)
    return;
  if (f.kind === 'certificate') {
    const place = el('div', { role: 'status', 'aria-live': 'polite' }, el('p', {}, 'Looking for revocations…'));
    const [list, serial] = story(f, index, place);
    main.append(list);
    revocationStep(place, f, serial);
  } else {
    main.append(el('p', {}, ...sentence(f)));
  }
  main.append(details('All that it says', definitions(fieldPairs(f))), bytesBox(x),
    el('p', {}, index > 0 ? entryLink(index - 1) : null, index > 0 && index + 1 < log.note.size ? ' · ' : null, index + 1 < log.note.size ? entryLink(index + 1) : null));
}
