// The page's pieces. Everything that comes from the log or the server becomes a text node: there is
// no way here to make markup of it.

export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on'))
      e.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

const SVG = 'http://www.w3.org/2000/svg';
export function svg(tag, attributes = {}, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes))
    e.setAttribute(name, value);
  e.append(...children);
  return e;
}

export const $ = (id) => document.getElementById(id);
export const count = (n) => Number(n).toLocaleString('en');
export const plural = (n, one, many = one + 's') => `${count(n)} ${Number(n) === 1 ? one : many}`;

export function dateText(seconds) {
  const d = new Date(Number(seconds) * 1000);
  return Number.isNaN(d.getTime()) ? `second ${seconds}` : d.toISOString().replace('T', ' ').replace(/\.\d+Z/, ' UTC');
}

export function when(seconds) {
  const d = new Date(Number(seconds) * 1000);
  return Number.isNaN(d.getTime()) ? dateText(seconds) : el('time', { datetime: d.toISOString() }, dateText(seconds));
}

export function span(seconds) {
  const parts = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const out = [];
  for (const [name, n] of parts) {
    if (seconds >= n && out.length < 2)
      out.push(plural(Math.floor(seconds / n), name));
    seconds %= n;
  }
  return out.join(' ') || '0 seconds';
}

export const code = (text) => el('code', {}, text);
export const link = (to, ...children) => el('a', { href: '#/' + to }, ...children);
export const entryLink = (index) => link(`entry/${index}`, `entry ${count(index)}`);
export const searchLink = (words, ...children) => link('search?' + new URLSearchParams(words), ...children);

// A verdict never speaks through colour alone: a sign, a word, then the sentence.
// bad: did not verify. alarm: the log itself misbehaves. failed: could not be tried.
const SIGNS = {
  good: ['✓', 'Verified'], bad: ['✗', 'Refused'], alarm: ['✗', 'Alarm', 'bad'], revoked: ['✗', 'Revoked', 'bad'], failed: ['!', 'Failed', 'bad'],
  warn: ['!', 'Take care'], note: ['i', 'Note'], busy: ['…', 'Checking'],
};
export const isBad = (state) => state === 'bad' || SIGNS[state][2] === 'bad';

export function verdict(state, title, ...words) {
  const [sign, word, look = state] = SIGNS[state];
  return el('div', { class: `verdict ${look}`, 'data-state': state },
    el('span', { class: 'sign', 'aria-hidden': 'true' }, sign),
    el('div', {}, el('p', { class: 'title' }, el('span', { class: 'word' }, word + ': '), title),
      words.length ? el('p', {}, ...words) : null));
}

export function definitions(pairs) {
  return el('dl', {}, pairs.filter(([, v]) => v !== undefined && v !== null && v !== '').map(([k, v]) => el('div', {}, el('dt', {}, k), el('dd', {}, v))));
}

// On a narrow screen a row becomes a card (style.css), so the roles are said again here.
export function table(caption, heads, rows) {
  const cell = (c, i) => el('td', { role: 'cell', 'data-label': heads[i] }, c);
  return el('table', { role: 'table' },
    el('caption', {}, caption),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, heads.map((h) => el('th', { role: 'columnheader', scope: 'col' }, h)))),
    el('tbody', { role: 'rowgroup' }, rows.map((r) => el('tr', { role: 'row' }, r.map(cell)))));
}

export function details(summary, ...children) {
  return el('details', {}, el('summary', {}, summary), ...children);
}
