// A certificate in hand: which entry it stands for, whether the log has it, and who signed it. The
// certificate is not sent anywhere: only its entry's number is asked for.
import { equal } from './bytes.js';
import { fromPem, parseCertificate, verifySignature } from './cert.js';
import { certificateEntry, serialParts } from './decode.js';
import { count, definitions, details, el, entryLink, verdict, when } from './dom.js';
import { agree, log, prove, readEntry } from './log.js';
import { parseProof } from './verify.js';

async function signatureCheck(cert) {
  if (!log.issuer)
    return verdict('warn', 'its signature was not checked', 'The server does not show its issuing certificate.');
  if (cert.issuer !== log.issuer.subject)
    return verdict('warn', 'its signature was not checked', `Its issuer is “${cert.issuer}”, not the one in use now (“${log.issuer.subject}”).`);
  const ok = await verifySignature(cert, log.issuer).catch(() => false);
  if (ok === null)
    return verdict('warn', 'its signature was not checked', 'It is of a kind that this page does not know.');
  return ok ? verdict('good', 'it is signed by the issuing certificate', 'That certificate came from this server; its root is not checked here.')
    : verdict('bad', 'its signature is not by the issuing certificate', 'It was altered, or somebody else made it.');
}

// The proof that travels in the certificate: all of it offline, but for the two heads' agreement.
async function stapledCheck(cert, index) {
  if (!cert.proof)
    return { result: verdict('warn', 'it carries no proof of its own', 'Programs that demand one will not accept it.') };
  const proof = parseProof(cert.proof);
  if (proof.index !== index)
    return { result: verdict('bad', 'its serial number and its proof disagree', `The serial number names entry ${count(index)}, the proof entry ${count(proof.index)}: mis-issuance. Report it.`) };
  const entry = certificateEntry(cert.body, proof.extra);
  const note = await agree(proof.checkpoint);
  await prove(index, entry, proof.path, note);
  return { entry, result: verdict('good', 'the proof that it carries', `It stands at place ${count(index)} under a signed head of ${count(note.size)} entries, and that head is of one history with the one that you see now.`) };
}

async function logCheck(cert, index, entry) {
  const x = await readEntry(index);
  await prove(index, x.entry, x.path, x.note);
  const same = entry ? equal(entry, x.entry) : x.entry.length > cert.body.length && equal(x.entry.subarray(-cert.body.length), cert.body);
  return same ? verdict('good', 'the log has this very certificate', ['As ', entryLink(index), ', with its names, key and times; where its story is told.'])
    : verdict('bad', 'the log has something else in its place', ['The serial number names ', entryLink(index), ', which stands for another certificate: mis-issuance. Report it.']);
}

const caught = (title) => (e) => ({ result: verdict('bad', title, e.message) });

async function check(text, place) {
  place.replaceChildren(verdict('busy', 'the certificate'));
  try {
    const cert = await parseCertificate(fromPem(text));
    const { index } = serialParts(cert.serial);
    const stapled = await stapledCheck(cert, index).catch(caught('the proof that it carries'));
    const logged = await logCheck(cert, index, stapled.entry).then((result) => ({ result }), caught('it was not found in the log'));
    place.replaceChildren(logged.result, stapled.result, await signatureCheck(cert),
      details('What it says', definitions([['SPIFFE ID', cert.uris.join(', ')], ['DNS names and addresses', cert.dns.join(', ')], ['Subject', cert.subject], ['Issuer', cert.issuer],
        ['Serial number', el('code', {}, cert.serial.toString(16))], ['Valid from', when(cert.notBefore)], ['Valid until', when(cert.notAfter)]])));
  } catch (e) {
    place.replaceChildren(verdict('bad', 'this certificate cannot be checked', e.message));
  }
}

export function certificatePage(main) {
  const place = el('div', { id: 'checked', role: 'status', 'aria-live': 'polite' });
  const text = el('textarea', { id: 'pem', name: 'pem', spellcheck: 'false', 'aria-describedby': 'pem-hint' });
  const file = el('input', { type: 'file', id: 'file', accept: '.pem,.crt,.cer', onchange: async () => {
    if (file.files[0])
      text.value = (await file.files[0].text()).slice(0, 262144);
  } });
  main.append(el('h1', {}, 'Check a certificate'),
    el('form', { onsubmit: (e) => { e.preventDefault(); check(text.value, place); } },
      el('label', { for: 'pem' }, 'Certificate (PEM)'), el('p', { class: 'hint', id: 'pem-hint' }, 'Such as svid.pem. It stays in this browser.'), text,
      el('label', { for: 'file' }, 'Or from a file'), file, el('div', {}, el('button', { type: 'submit' }, 'Check'))), place);
}
