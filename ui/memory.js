// What this browser remembers of the log between visits: its key, the last head it saw, and what a
// person entered. One object in localStorage; a browser that keeps none is said so to the person.
const NAME = 'mayfly-log';

// Whatever is not as this page writes it is as if it were not there.
function tidy({ key, head, witnesses }) {
  const texts = (o, ...names) => o && names.every((n) => typeof o[n] === 'string');
  return {
    key: texts(key, 'text', 'from', 'since') ? key : undefined,
    head: texts(head, 'root', 'note', 'seen') && Number.isSafeInteger(head.size) ? head : undefined,
    witnesses: Array.isArray(witnesses) ? witnesses.filter((w) => typeof w === 'string') : [],
  };
}

function read() {
  try {
    const m = JSON.parse(localStorage.getItem(NAME) ?? '{}');
    return m && typeof m === 'object' ? tidy(m) : {};
  } catch {
    return {};
  }
}

export const memory = read();
memory.witnesses ??= [];

// False: the browser keeps nothing.
export function remember(change) {
  Object.assign(memory, change);
  try {
    localStorage.setItem(NAME, JSON.stringify(memory));
    return true;
  } catch {
    return false;
  }
}

export function forget() {
  for (const k of Object.keys(memory))
    delete memory[k];
  memory.witnesses = [];
  try {
    localStorage.removeItem(NAME);
  } catch { /* there was nothing */ }
}
