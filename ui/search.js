// Search over /audit. The server finds; what it finds is proven here, line by line.
import { serialParts } from './decode.js';
import { count, el, entryLink, plural, table, verdict } from './dom.js';
import { ROW_HEADS, row } from './head.js';
import { log, searchEntries } from './log.js';

const PAGE = 50;
const TYPED = ['spiffe_id', 'prefix', 'serial', 'key']; // what the one box understands
const FIELDS = [
  ['agent', 'Agent that asked'], ['attestor', 'Kind of evidence'], ['entry', 'Registration entry'], ['rule', 'Rule of a refusal'],
];
const OUTCOMES = [['', 'anything'], ['issued', 'certificates'], ['jwt', 'JWT-SVIDs'], ['refused', 'refusals'], ['revoked', 'revocations'], ['changed', 'changes of registrations'], ['authority', 'changes of the authority']];
const MORE = [...FIELDS.map(([name]) => name), 'outcome', 'from', 'to', 'order'];
const NAMES = [...TYPED, ...MORE];

// What a person typed into the one box, as a query; a string: the entry's page. null: not understood.
export function guess(text) {
  const s = text.trim();
  const plain = s.replace(/^0x|[:\s]/g, '').toLowerCase();
  if (/^spiffe:\/\/.+/.test(s))
    return /\/\*?$/.test(s) ? { prefix: s.replace(/\/\*?$/, '') } : { spiffe_id: s };
  if (/^[0-9][0-9,]{0,11}$/.test(s))
    return `entry/${Number(s.replaceAll(',', ''))}`;
  if (/^[0-9a-f]{64}$/.test(plain))
    return { key: plain };
  if (/^0?[0-9a-f]{13,16}$/.test(plain))
    return { serial: plain.replace(/^0+/, '') };
  return null;
}

function toSeconds(text) { // of a datetime-local field, meant as UTC
  const t = Date.parse(text + 'Z');
  return Number.isNaN(t) ? '' : String(t / 1000);
}
const fromSeconds = (s) => (/^\d{1,12}$/.test(s ?? '') ? new Date(Number(s) * 1000).toISOString().slice(0, 16) : '');

function input(id, label, attributes, hint) {
  return el('div', {}, el('label', { for: id }, label), hint ? el('p', { class: 'hint', id: id + '-hint' }, hint) : null,
    el('input', { id, name: id, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': hint ? id + '-hint' : null, ...attributes }));
}

function choice(id, label, options, chosen) {
  return el('div', {}, el('label', { for: id }, label), el('select', { id, name: id }, options.map(([value, text]) => el('option', { value, selected: value === chosen }, text))));
}

function submitted(form, complain) {
  const data = new FormData(form);
  const query = {};
  for (const name of MORE) {
    const value = String(data.get(name) ?? '').trim();
    const v = name === 'from' || name === 'to' ? value && toSeconds(value) : value;
    if (v)
      query[name] = v;
  }
  const typed = String(data.get('q') ?? '');
  if (typed.trim()) {
    const meant = guess(typed);
    if (meant === null)
      return complain('That is none of what can be searched for here. Use the fields under “More”.');
    if (typeof meant === 'string')
      return void (location.hash = '#/' + meant);
    Object.assign(query, meant);
  }
  if (query.order === 'newest')
    delete query.order;
  complain('');
  location.hash = '#/search?' + new URLSearchParams(query);
}

function searchForm(query) {
  const problem = el('div', { role: 'alert' });
  const complain = (text) => problem.replaceChildren(...(text ? [verdict('warn', 'not understood', text)] : []));
  const has = (name) => query.get(name) ?? '';
  const form = el('form', { role: 'search', onsubmit: (e) => { e.preventDefault(); submitted(form, complain); } },
    input('q', 'What do you look for?', { type: 'search', value: has('prefix') ? has('prefix') + '/' : has('spiffe_id') || has('serial') || has('key') }, 'A SPIFFE ID (with / at its end: all below it), a serial number, a key’s SHA-256, or the number of an entry.'),
    el('details', { open: MORE.some(has) },
      el('summary', {}, 'More'),
      el('div', { class: 'fields' },
        FIELDS.map(([name, label]) => input(name, label, { type: 'text', value: has(name) })),
        choice('outcome', 'What became of it', OUTCOMES, has('outcome')),
        choice('order', 'Order', [['newest', 'newest first'], ['oldest', 'oldest first']], has('order')),
        input('from', 'From (UTC)', { type: 'datetime-local', value: fromSeconds(has('from')) }),
        input('to', 'Until (UTC)', { type: 'datetime-local', value: fromSeconds(has('to')) }))),
    el('button', { type: 'submit' }, 'Search'), problem);
  return form;
}

export function closedWords() {
  return verdict('note', 'this server keeps its search to its operators', 'Only they, and auditors whose certificate it admits, can search here (audit.access in its configuration). The log itself is open: the newest entries are under Head, and any entry can be shown and proven by its number, a certificate by its serial number or its file.');
}

export function failure(e) {
  if (e.status === 403 || e.status === 401) // 401: auditors show a certificate
    return closedWords();
  if (e.status === 404)
    return verdict('note', 'this server has no search', 'The log itself is open: the newest entries are under Head, and any entry can be shown by its number.');
  return verdict(e.rule ? 'bad' : 'failed', e.rule ? 'the search’s answer' : 'the search', e.message);
}

function serialHint(serial) {
  try {
    const { logNumber, index } = serialParts(serial);
    return el('p', { id: 'serial-entry' }, log.number !== null && logNumber !== log.number ? `That serial number is of log number ${logNumber}; this log’s is ${log.number}.`
      : ['A certificate with this serial number can only be ', entryLink(index), '.']);
  } catch (e) {
    return el('p', {}, e.message);
  }
}

// More and more lines in one table, a page of the server's at a time.
async function results(query, place, shown = []) {
  const status = el('div', { role: 'status', 'aria-live': 'polite' }, verdict('busy', 'searching, and verifying what is found'));
  place.append(status);
  const got = await searchEntries({ limit: PAGE, ...query });
  const from = shown.length;
  shown.push(...got.entries);
  const wrong = shown.filter((x) => x.refused).length;
  const words = wrong ? verdict('bad', `${plural(wrong, 'line')} of this answer`, 'What the server gave there does not stand in the log.')
    : shown.length ? verdict('good', `${plural(shown.length, 'line')}, each proven to stand in the log`, `Under a head of ${count(got.note.size)} entries. That nothing was left out cannot be proven so: for that, search a copy of the log of your own.`)
    : verdict('note', 'nothing was found', 'The server’s search names no such entry.');
  status.replaceChildren(words);
  const list = table(got.indexed < got.note.size ? `What was found. The server has searched ${count(got.indexed)} of the log’s ${count(got.note.size)} entries so far.` : 'What was found', ROW_HEADS, shown.map(row));
  const more = got.next ? el('button', { type: 'button', onclick: () => {
    place.replaceChildren();
    results({ ...query, cursor: got.next }, place, shown).catch((e) => place.append(failure(e)));
  } }, 'Show more') : '';
  place.replaceChildren(status, ...(shown.length ? [list] : []), more);
  if (from > 0)
    list.querySelectorAll('tbody tr')[from]?.querySelector('a')?.focus();
}

export async function searchPage(main, params) {
  const query = Object.fromEntries([...params].filter(([name, value]) => NAMES.includes(name) && value));
  const place = el('div', { id: 'results' });
  main.append(el('h1', {}, 'Search'), searchForm(params));
  if (query.serial)
    main.append(serialHint(query.serial));
  main.append(place);
  if (!Object.keys(query).length)
    return;
  try {
    await results(query, place);
  } catch (e) {
    place.replaceChildren(failure(e));
  }
}
