/** Runs trials: rounds of all cases in shuffled order, each in a fresh worker. */
import { median } from './statistics.js';

export const STEADY_S = 1;
const DRIFT_POINTS = 30;

/** The user's wish to stop. */
export class Stopped extends Error {}

/**
 * @param {{cases: object[], rounds: number, job: (one: object) => object, clock: () => number,
 *   signal: AbortSignal, show: (done: number, total: number, one: object) => void,
 *   sample: () => void}} plan `job` gives a case's inputs, `sample` records the state of the device
 * @returns {Promise<{results: object[], version: string}>} results as in a report, and the version
 *   of onnxruntime
 */
export async function measure({ cases, rounds, job, clock, signal, show, sample }) {
  const results = cases.map((one) => ({
    case: one,
    trials: [],
    summary: null,
    unstable: [],
    nodes: {},
    operators: [],
    failure: '',
    weights_mb: 0,
    drift: [],
  }));
  const rehearsed = new Set();
  let version = 'unknown';
  let done = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const result of shuffled(results)) {
      show(done, rounds * cases.length, result.case);
      done += 1;
      if (result.failure) continue;
      const { bundle, graph, provider } = result.case;
      const code = [bundle, graph, provider].join('/');
      try {
        // The first trial runs code that is not yet compiled for speed: it does not count.
        if (!rehearsed.has(code)) await runTrial({ ...job(result.case), steady_s: STEADY_S }, signal);
        rehearsed.add(code);
        const begin_s = clock();
        const { trial, version: found } = await runTrial({ ...job(result.case), steady_s: STEADY_S }, signal);
        version = found;
        result.trials.push({ begin_s, end_s: clock(), ...trial });
      } catch (error) {
        if (error instanceof Stopped) throw error;
        result.failure = error.message;
      }
      sample();
    }
  }
  return { results, version };
}

/**
 * Runs one case without a pause.
 *
 * @param {object} job of the case
 * @param {number} seconds duration
 * @param {AbortSignal} signal
 * @param {(points: object[]) => void} show called when a point is complete
 * @returns {Promise<{at_s: number, p50_ms: number, queries: number}[]>} median of each interval, by
 *   the end of the interval
 */
export async function measureDrift(job, seconds, signal, show) {
  const interval = seconds / DRIFT_POINTS;
  const points = [];
  let current = [];
  let end = interval;
  const close = () => {
    if (current.length) points.push({ at_s: end, p50_ms: median(current), queries: current.length });
    current = [];
  };
  await runTrial({ ...job, steady_s: seconds, each: true }, signal, ({ at_s, ms }) => {
    // What ends after the last interval belongs to it.
    while (at_s > end && end < seconds - interval / 2) {
      close();
      end += interval;
      if (points.length) show(points);
    }
    current.push(ms);
  });
  close();
  return points;
}

function runTrial(job, signal, onQuery) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./trial.js', import.meta.url), { type: 'module' });
    const stop = () => settle(reject, new Stopped());
    const settle = (how, value) => {
      worker.terminate();
      signal.removeEventListener('abort', stop);
      how(value);
    };
    signal.addEventListener('abort', stop);
    worker.onmessage = ({ data }) => {
      if (data.trial) settle(resolve, data);
      else if (data.error) settle(reject, new Error(data.error));
      else onQuery(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      settle(reject, new Error(event.message || 'the worker did not start'));
    };
    if (signal.aborted) stop();
    else worker.postMessage(job);
  });
}

function shuffled(items) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i -= 1) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
