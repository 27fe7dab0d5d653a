// A remedy in JavaScript: an interpreter in a component, with WASI sealed. What it may do is its manifest's, as for any other.

import files from 'theriac:remedy/files@0.1.0';
import log from 'theriac:remedy/log@0.1.0';

const EVERYTHING = { minAge: 0, minBytes: 0, order: 'oldest-first' };

function entries(dir) {
  const found = [];
  let next = 0;
  while (next !== null && next !== undefined) {
    const page = dir.list(EVERYTHING, next);
    found.push(...page.entries);
    next = page.next;
  }
  return found;
}

/// Runs something that must not be allowed, and says which denial it met.
function denied(what, attempt) {
  try {
    attempt();
  } catch (denial) {
    if (denial && denial.tag) {
      log.info(`${what}: ${denial.tag}`);
      return true;
    }
    throw denial;
  }
  return false;
}

/// Everything here is a call that the manifest does not grant.
function tryOthers() {
  const granted = entries(files.Dir.open('logs'));
  const attempts = {
    'another label': () => files.Dir.open('secrets'),
    'another verb': () => granted[0].truncate(),
    'a changing verb with content': () => granted[0].append(new Uint8Array([1, 2, 3])),
  };
  const leaks = Object.entries(attempts).filter(([what, attempt]) => !denied(what, attempt));
  return leaks.length === 0
    ? { tag: 'gave-up', val: `${Object.keys(attempts).length} calls, all denied` }
    : { tag: 'treated', val: `leak: ${leaks.map(([what]) => what)}` };
}

/// What an interpreter asks of its machine, printed and logged: the same in each run.
function ambient() {
  console.log(`clock ${Date.now()} ${performanceNow()}`);
  log.info(`random ${Math.random()} ${Math.random()}`);
}

function performanceNow() {
  return typeof performance === 'undefined' ? 'none' : performance.now();
}

function spin() {
  for (;;);
}

function hoard() {
  const kept = [];
  for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
}

export function remediate(fault) {
  const attempt = fault.params.find(({ name }) => name === 'attempt')?.value.val ?? 'remove';
  switch (attempt) {
    case 'others':
      return tryOthers();
    case 'spin':
      return spin();
    case 'hoard':
      return hoard();
  }
  ambient();
  let freed = 0;
  let count = 0;
  for (const entry of entries(files.Dir.open('logs'))) {
    log.info(`${entry.name()}: ${entry.stat().size} bytes`);
    freed += entry.remove();
    count += 1;
  }
  return count === 0
    ? { tag: 'nothing-to-do', val: 'there is no old log' }
    : { tag: 'treated', val: `removed ${count} files, ${freed} bytes` };
}

export function check(_fault) {
  const left = entries(files.Dir.open('logs')).length;
  return left === 0 ? { tag: 'satisfied' } : { tag: 'not-improved', val: `${left} files are left` };
}
