// What an entry says, in words.
import { code, dateText, el, plural, searchLink, span, when } from './dom.js';

const KINDS = {
  null: 'First entry', certificate: 'Certificate', revocation: 'Revocation', refusal: 'Refusal', entry: 'Registration', authority: 'Authority', jwt: 'JWT-SVID',
  unknown: 'Of a later version', malformed: 'Malformed',
};
const STAGES = {
  attestation: 'its evidence was not believed', registration: 'no registration entry lets it', policy: 'a rule of the authority forbids it', signer: 'the signer refused it',
};
const BY = {
  serial: 'the certificate with the serial number', spiffe_id: 'all certificates of', prefix: 'all certificates of this name and everything below it:',
  entry: 'all certificates given by the registration entry', agent: 'all certificates asked for by the agent', key: 'all certificates of the key',
};
const REASONS = ['unspecified', 'key compromise', 'CA compromise', 'affiliation changed', 'superseded', 'cessation of operation', 'certificate hold', , , 'privilege withdrawn', 'AA compromise'];
const CHANGES = { created: 'was registered', updated: 'had its registration changed', deleted: 'lost its registration' };
const AUTHORITY = { root: 'began to use a root certificate', issuing: 'began to use an issuing certificate', crl: 'published a list of revocations',
  policy: 'began to certify under this policy', clock: 'set its clock back, with its operator’s word; it had run ahead to the Unix time',
  jwt_key: 'began to sign JWT-SVIDs with the key' };

export const kindName = (f) => (f.kind === 'certificate' && f.authority ? 'CA certificate' : KINDS[f.kind] ?? f.kind);
export const reasonName = (n) => REASONS[n] ?? `reason ${n}`;
export const stageWords = (f) => STAGES[f.code];

// Whom the entry is about, in a few words for a table.
export function subjectOf(f) {
  switch (f.kind) {
  case 'certificate':
    return f.spiffe_id || f.subject || f.dns.join(', ');
  case 'revocation':
    return f.value;
  case 'refusal':
    return f.spiffe_id || 'no name was asked for';
  case 'entry':
  case 'jwt':
    return f.spiffe_id;
  case 'authority':
    return f.value;
  default:
    return f.why ?? '';
  }
}

// How it came about, for the same table.
export function mannerOf(f) {
  switch (f.kind) {
  case 'certificate':
    return [f.attestor, `for ${span(f.not_after - f.not_before)}`].filter(Boolean).join(', ');
  case 'revocation':
    return `by ${f.code.replace('spiffe_id', 'SPIFFE ID')}, ${reasonName(f.reason)}`;
  case 'refusal':
    return `${f.rule}${f.count > 1 ? `, ${plural(f.count, 'time')}` : ''}`;
  case 'entry':
    return `${f.code}, revision ${f.revision}`;
  case 'authority':
    return f.code === 'crl' ? 'CRL' : f.code === 'jwt_key' ? 'key of JWT-SVIDs' : f.code;
  case 'jwt':
    return [f.attestor, `for ${span(f.expires - f.time)}`].filter(Boolean).join(', ');
  default:
    return '';
  }
}

export function sentence(f) {
  switch (f.kind) {
  case 'null':
    return ['Every Mayfly log begins with an empty entry. It says nothing.'];
  case 'revocation':
    return [`On ${dateText(f.time)}, ${f.actor} revoked ${BY[f.code]} `, code(f.value), `. Reason: ${reasonName(f.reason)}.`, f.comment ? ` “${f.comment}”` : ''];
  case 'refusal':
    return ['On ', when(f.time), `, ${f.requester || 'somebody'} asked for ${f.spiffe_id || 'a certificate'} and got nothing: ${stageWords(f)} (rule `,
      searchLink({ rule: f.rule, outcome: 'refused' }, f.rule), `). “${f.why}”`, f.count > 1 ? ` This line stands for ${plural(f.count, 'refusal')} alike.` : ''];
  case 'entry':
    return ['On ', when(f.time), ', ', searchLink({ spiffe_id: f.spiffe_id }, f.spiffe_id), ` ${CHANGES[f.code]} by ${f.actor} (revision ${f.revision}).`];
  case 'authority':
    return ['On ', when(f.time), `, the authority ${AUTHORITY[f.code]}: `, code(f.value), '.'];
  case 'jwt':
    return ['On ', when(f.time), ', ', searchLink({ spiffe_id: f.spiffe_id }, f.spiffe_id), ` was given a token (JWT-SVID) to show to ${f.audiences.map((a) => `“${a}”`).join(', ')}, good for ${span(f.expires - f.time)}. It was put into the log before it was signed.`];
  case 'unknown':
    return [`An entry of type ${f.type}, which this page does not know. It stands in the log like any other.`];
  default:
    return [f.why ?? ''];
  }
}

// Every field, for who wants to see them all.
export function fieldPairs(f) {
  const ask = (field, key, outcome) => f[field] && searchLink({ [key]: f[field], ...(outcome && { outcome }) }, f[field]);
  const pairs = [['Kind', kindName(f)], ['SPIFFE ID', ask('spiffe_id', 'spiffe_id')], ['DNS names and addresses', f.dns?.join(', ')]];
  if (f.kind === 'certificate')
    pairs.push(['Subject', f.subject], ['Issuer', f.issuer], ['Valid from', when(f.not_before)], ['Valid until', when(f.not_after)], ['Key (SHA-256)', searchLink({ key: f.key }, code(f.key))]);
  else if (f.kind === 'jwt')
    pairs.push(['To be shown to', f.audiences.join(', ')], ['Valid from', when(f.time)], ['Valid until', when(f.expires)], ['Key (kid)', code(f.kid)]);
  else if (f.time !== undefined)
    pairs.push(['Time', when(f.time)]);
  pairs.push(['Kind of evidence', ask('attestor', 'attestor')], ['Evidence (salted SHA-256)', f.evidence && code(f.evidence)],
    ['Registration entry', ask('entry_id', 'entry')], ['Revision', f.revision], ['Asked by', ask('requester', 'agent')],
    ['Session key (SHA-256)', f.session && code(f.session)], ['Rule', ask('rule', 'rule')], ['Why', f.why], ['Count', f.count],
    ['Stage or kind of change', f.code], ['Value', f.value], ['Reason', f.reason === undefined ? '' : reasonName(f.reason)], ['Done by', f.actor],
    ['Comment', f.comment], ['Parent', f.parent], ['Lifetime', f.ttl === undefined ? '' : f.ttl ? span(f.ttl) : 'the authority’s default'],
    ['May search', f.auditor ? 'yes: an auditor' : ''], ['Digest (SHA-256)', f.digest && code(f.digest)]);
  return pairs;
}

export function proofMark(refused) {
  return refused ? el('span', { class: 'proof bad' }, '✗ refused: ' + refused) : el('span', { class: 'proof good' }, '✓ proven');
}
