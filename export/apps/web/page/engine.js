/** The worker as functions that return promises. */
import { UserError } from './bundle/errors.js';

const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
const waiting = new Map();
let count = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new UserError(error));
};

worker.onerror = (event) => {
  event.preventDefault();
  for (const { reject } of waiting.values()) {
    reject(new UserError('the page is not complete; build it again: make web'));
  }
  waiting.clear();
};

function ask(action, argument, transfer = []) {
  return new Promise((resolve, reject) => {
    count += 1;
    waiting.set(count, { resolve, reject });
    worker.postMessage({ id: count, action, argument }, transfer);
  });
}

/** Opens the bundle of that name; returns `{manifest, threads}`. */
export const open = (name) => ask('open', name);

/** Returns `{frames, groups, codes, took}`, the time in seconds, of mono PCM. */
export const tokenize = (waveform) => ask('tokenize', waveform);

/** Returns what `checkGolden` does. */
export const golden = () => ask('golden');
