/** Calls the worker; each function returns a promise. */
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
    reject(new UserError('the page is incomplete; build it again: make web'));
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

/** Opens a bundle by name; returns `{manifest, threads}`. */
export const open = (name) => ask('open', name);

/** Tokenizes mono PCM; returns `{frames, groups, codes, took}`, `took` in seconds. */
export const tokenize = (waveform) => ask('tokenize', waveform);

/** Runs `checkGolden`. */
export const golden = () => ask('golden');
