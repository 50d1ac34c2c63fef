// Issuances, refusals, revocations and lifetimes over time, as the server counts them. Each plot has
// its numbers as a table beside it.
import { count, details, el, plural, span, svg, table, verdict } from './dom.js';
import { askAudit } from './log.js';
import { failure } from './search.js';

function bars(values, kind, titles) {
  const top = Math.max(1, ...values);
  const w = 100 / values.length;
  const gap = values.length > 40 ? 0.15 : 0.25;
  return svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    ...values.map((v, i) => svg('rect', { class: `bar ${kind}`, x: (i + gap / 2) * w, width: w * (1 - gap), y: 100 - (v / top) * 100, height: (v / top) * 100 }, svg('title', {}, titles[i]))));
}

function plot({ id, title, kind, heads, labels, values }) {
  const total = values.reduce((a, b) => a + b, 0);
  const top = Math.max(0, ...values);
  const titles = values.map((v, i) => `${labels[i]}: ${count(v)}`);
  const summary = total ? `${count(total)} in all, at most ${count(top)} (${labels[values.indexOf(top)]})` : 'none';
  const caption = el('figcaption', { id: `${id}-title` }, title, el('span', { class: 'soft' }, `: ${summary}`));
  if (!total)
    return el('figure', { id }, caption);
  return el('figure', { id, 'aria-labelledby': `${id}-title` }, caption,
    el('div', { class: 'plot', role: 'img', 'aria-label': `${title}: ${summary}. The numbers are in the table below.` },
      el('div', { class: 'top' }, count(top)), bars(values, kind, titles),
      el('div', { class: 'axis' }, el('span', {}, labels[0]), el('span', {}, labels.at(-1)))),
    details('As a table', table(title, heads, values.map((v, i) => [labels[i], count(v)]).reverse())));
}

const hourText = (t) => new Date(t * 1000).toISOString().slice(0, 13).replace('T', ' ') + ' h';
const dayText = (t) => new Date(t * 1000).toISOString().slice(0, 10);

function counts(list, unit, text) {
  const labels = list.map((c) => text(c.start));
  return [['issued', 'Certificates'], ['refused', 'Refusals'], ['revoked', 'Revocations']].map(([kind, name]) =>
    plot({ id: `${kind}-${unit}`, title: `${name} per ${unit}`, kind, heads: [unit === 'hour' ? 'Hour (UTC)' : 'Day (UTC)', name], labels, values: list.map((c) => Number(c[kind])) }));
}

function share(part, whole) {
  return svg('svg', { class: 'share', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('rect', { class: 'bar', width: whole ? (100 * part) / whole : 0, height: 10 }));
}

function lifetimes(list) {
  const top = Math.max(...list.map((b) => Number(b.count)));
  const label = (b, i) => (b.up_to ? `up to ${span(b.up_to)}` : `more than ${span(list[i - 1]?.up_to ?? 0)}`);
  return el('div', { id: 'lifetimes' }, table('How long certificates live, of those of the last 90 days', ['Lifetime', 'Certificates', 'Compared'],
    list.map((b, i) => [label(b, i), count(b.count), share(Number(b.count), top)])));
}

export async function timePage(main) {
  main.append(el('h1', {}, 'Over time'));
  const busy = el('div', { role: 'status', 'aria-live': 'polite' }, verdict('busy', 'asking the server for its counts'));
  main.append(busy);
  try {
    const s = await askAudit('stats', {});
    busy.replaceChildren(verdict('note', 'these are the server’s own counts', `Of the first ${plural(s.indexed ?? s.size, 'entry', 'entries')} of the log. They are not proven: whoever doubts them counts the log’s entries.`));
    main.append(el('h2', {}, 'The last 48 hours'), ...counts(s.hours, 'hour', hourText), el('h2', {}, 'The last 90 days'), ...counts(s.days, 'day', dayText), el('h2', {}, 'Lifetimes'), lifetimes(s.lifetimes));
  } catch (e) {
    busy.replaceChildren(failure(e));
  }
}
