// Which page is shown: the part of the address behind #/.
import { $, el, verdict } from './dom.js';
import { certificatePage } from './certificate.js';
import { entryPage } from './entry.js';
import { headPage, showStatus } from './head.js';
import { checkHead, log } from './log.js';
import { searchPage } from './search.js';
import { timePage } from './time.js';
import { trustPage } from './trust.js';

const TITLES = { '': 'Head', search: 'Search', certificate: 'Check a certificate', time: 'Over time', trust: 'Trust' };

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [page, ...rest] = path.split('/');
  return { page, rest: rest.join('/'), query: new URLSearchParams(query) };
}

function draw(main) {
  const { page, rest, query } = where();
  switch (page) {
  case '':
    return headPage(main);
  case 'search':
    return searchPage(main, query);
  case 'certificate':
    return certificatePage(main);
  case 'time':
    return timePage(main);
  case 'trust':
    return trustPage(main, start);
  case 'entry':
    if (/^(0|[1-9][0-9]{0,14})$/.test(rest))
      return entryPage(main, Number(rest));
  }
  main.append(el('h1', {}, 'There is no such page'));
}

function show(focus) {
  const main = $('main');
  const { page } = where();
  const place = el('div'); // a page that is still being made when another is asked for goes with it
  main.replaceChildren(place);
  document.title = `${TITLES[page] ?? location.hash.slice(2)} – Mayfly log`;
  for (const a of document.querySelectorAll('nav a')) {
    if (a.getAttribute('href') === '#/' + page)
      a.setAttribute('aria-current', 'page');
    else
      a.removeAttribute('aria-current');
  }
  Promise.resolve(draw(place)).catch((e) => place.append(verdict('failed', 'this page', e.message)));
  if (focus) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

async function start() {
  if (!globalThis.crypto?.subtle) {
    $('status').replaceChildren(verdict('failed', 'this browser cannot check anything here', 'It offers its cryptography only over HTTPS, and this page was not loaded so.'));
    return;
  }
  log.changed = showStatus;
  $('status').replaceChildren(verdict('busy', 'the log’s head'));
  await checkHead();
  show(false);
}

addEventListener('hashchange', () => show(true));
document.querySelector('.skip').addEventListener('click', (e) => { // its #main would be a page of ours
  e.preventDefault();
  $('main').focus();
});
start();
