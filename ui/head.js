// The first page: the head, what was checked of it, its witnesses, and what came last.
import { $, count, definitions, details, el, entryLink, isBad, plural, table, verdict, when } from './dom.js';
import { decoded, log, prove, readEntry } from './log.js';
import { memory } from './memory.js';
import { hex } from './bytes.js';
import { kindName, mannerOf, proofMark, subjectOf } from './words.js';

const NEWEST = 12;

export function row(x) {
  const f = x.fields;
  return [f.time === undefined ? '' : when(f.time), kindName(f), subjectOf(f), mannerOf(f), entryLink(x.index), proofMark(x.refused)];
}
export const ROW_HEADS = ['When', 'What', 'Whom', 'How', 'Where', 'Proof'];

function witnessTable() {
  if (!log.witnesses.length)
    return el('p', {}, 'No witness has cosigned this head. Until one does, two histories of this log would be noticed only by those who compare heads, as this browser does with what it remembers.');
  return table('Witnesses say: at this time, this was the largest tree I had seen of this log, and it fits all smaller ones.', ['Witness', 'Result', 'When'],
    log.witnesses.map((w) => [w.name, { good: '✓ ', bad: '✗ ', warn: '! ', note: 'i ' }[w.state] + w.words, w.time ? when(w.time) : '']));
}

async function newest(place) {
  const rows = [];
  for (let i = log.note.size - 1; i >= 0 && rows.length < NEWEST; i--) {
    const x = await readEntry(i);
    const refused = await prove(i, x.entry, x.path, x.note).then(() => null, (e) => e.message);
    rows.push(row({ ...decoded(x), refused }));
  }
  place.replaceChildren(table(`The newest ${plural(rows.length, 'entry', 'entries')}, read from the log itself; each with its own proof.`, ROW_HEADS, rows));
}

export function headPage(main) {
  main.append(el('h1', {}, 'The log’s head'));
  const { note } = log;
  if (note) {
    main.append(el('dl', { class: 'figures' },
      el('div', {}, el('dt', {}, 'Entries'), el('dd', { id: 'size' }, count(note.size))),
      el('div', {}, el('dt', {}, 'Witnesses'), el('dd', {}, count(log.witnesses.filter((w) => w.state === 'good').length)))));
  }
  main.append(el('h2', {}, 'What your browser checked'), ...log.checks.map((c) => verdict(c.state, c.title, c.words)));
  if (log.alarm && memory.head)
    main.append(details('The two heads, to keep as evidence', el('p', {}, 'Remembered:'), el('pre', {}, memory.head.note), note ? [el('p', {}, 'Shown now:'), el('pre', {}, note.note)] : ''));
  if (!note)
    return;
  main.append(el('h2', {}, 'Witnesses'), witnessTable());
  main.append(details('The head itself', definitions([['Log', note.origin], ['Entries', count(note.size)], ['Root hash', el('code', {}, hex(note.root))], ['Checked with the key', el('code', {}, log.key.text)]]), el('pre', {}, note.note)));
  const place = el('div', {}, el('p', {}, 'Reading the newest entries…'));
  main.append(el('h2', {}, 'What came last'), place);
  newest(place).catch((e) => place.replaceChildren(verdict(e.rule ? 'bad' : 'failed', 'the newest entries', e.message)));
}

// The line above every page.
export function showStatus() {
  const bad = log.checks.filter((c) => isBad(c.state)).map((c) => verdict(c.state, c.title, c.words));
  $('alarm').replaceChildren(...(log.alarm ? bad : []));
  $('origin').textContent = log.note ? log.note.origin : '';
  if (log.note && !log.alarm)
    $('status').replaceChildren(verdict('good', `the log’s head of ${plural(log.note.size, 'entry', 'entries')}`, log.first ? 'Signed by the log’s key. This is the first head of it that this browser sees.' : 'Signed by the log’s key, and nothing that this browser saw before was changed.'));
  else if (!log.alarm)
    $('status').replaceChildren(...bad);
  else
    $('status').replaceChildren();
}
