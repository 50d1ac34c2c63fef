// What this browser believes, and how a person changes that.
import { definitions, el, verdict } from './dom.js';
import { log } from './log.js';
import { forget, memory, remember } from './memory.js';
import { parseKey, parseWitnessKey } from './verify.js';

function known() {
  const k = memory.key;
  return definitions([
    ['The log’s key', k && el('code', { id: 'known-key' }, k.text)],
    ['Where it came from', k && (k.from === 'person' ? 'you entered it' : `this server, on ${k.since.slice(0, 10)}, the first time that this browser was here`)],
    ['Last head seen', memory.head && `${memory.head.size.toLocaleString('en')} entries, on ${memory.head.seen.slice(0, 16).replace('T', ' ')} UTC`],
    ['Witnesses', memory.witnesses.length ? memory.witnesses.map((w) => el('div', {}, el('code', {}, w))) : 'none entered'],
  ]);
}

async function enterKey(text, place, again) {
  try {
    const key = await parseKey(text.trim());
    const other = memory.key && memory.key.text !== key.text;
    remember({ key: { text: key.text, from: 'person', since: new Date().toISOString() }, ...(other && { head: undefined }) });
    await again();
  } catch (e) {
    place.replaceChildren(verdict('bad', 'that key', e.message));
  }
}

// One a line: a key, or a `witness NAME KEY` line of a C2SP tlog-policy.
async function enterWitnesses(text, place, again) {
  const keys = [];
  try {
    for (const line of text.split('\n').map((l) => l.trim()).filter((l) => l && !l.startsWith('#')))
      keys.push((await parseWitnessKey(/^witness\s/.test(line) ? line.split(/\s+/)[2] ?? '' : line)).text);
  } catch (e) {
    place.replaceChildren(verdict('bad', `witness ${keys.length + 1}`, e.message));
    return;
  }
  remember({ witnesses: [...new Set(keys)] });
  await again();
}

function keyForm(again) {
  const place = el('div', { role: 'alert' });
  const field = el('input', { id: 'key', name: 'key', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'key-hint' });
  return el('form', { id: 'key-form', onsubmit: (e) => { e.preventDefault(); enterKey(field.value, place, again); } },
    el('label', { for: 'key' }, 'The log’s verifier key'),
    el('p', { class: 'hint', id: 'key-hint' }, 'name+8 hexadecimal digits+44 characters, from the authority’s operator or its documents. Not from this page.'),
    field, el('div', {}, el('button', { type: 'submit' }, 'Believe this key')), place);
}

function witnessForm(again) {
  const place = el('div', { role: 'alert' });
  const field = el('textarea', { id: 'witnesses', name: 'witnesses', spellcheck: 'false', 'aria-describedby': 'witnesses-hint' });
  field.value = memory.witnesses.join('\n');
  return el('form', { id: 'witness-form', onsubmit: (e) => { e.preventDefault(); enterWitnesses(field.value, place, again); } },
    el('label', { for: 'witnesses' }, 'Witnesses’ keys'),
    el('p', { class: 'hint', id: 'witnesses-hint' }, 'One a line, as the witnesses publish them.'),
    field, el('div', {}, el('button', { type: 'submit' }, 'Check these witnesses')), place);
}

export function trustPage(main, again) {
  main.append(el('h1', {}, 'Trust'),
    el('p', {}, 'A log is believed by its key. On your first visit the key comes from this very server, in its issuing certificate: that tells you when it changes later, not whether it was right at first. A key that you got from elsewhere and enter here tells you both.'),
    el('p', {}, 'This browser remembers the key and the last head it saw. At each visit it checks that the head is signed, and that the log has only grown since. It warns you when the key changes, when the log becomes shorter, and when it shows another history.'),
    el('h2', {}, 'What this browser remembers'), known(),
    el('button', { type: 'button', class: 'quiet', id: 'forget', onclick: () => { forget(); again(); } }, 'Forget all of it'),
    el('h2', {}, 'Enter the log’s key'), keyForm(again),
    el('h2', {}, 'Enter witnesses'), witnessForm(again));
  if (!log.key)
    main.append(verdict('warn', 'there is no key just now', 'Nothing can be verified until there is one.'));
}
