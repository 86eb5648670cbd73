/** The cases of a measurement, and the inputs of their queries. */
import { UserError } from '../bundle/errors.js';

const MAX_EXCERPTS = 8;
const MAX_EXCERPTS_S = 32;

/** Numbers of threads to offer: powers of two, and all cores. */
export function threadCounts(cores, threaded) {
  if (!threaded) return [1];
  const counts = [1];
  while (counts.at(-1) * 2 < cores) counts.push(counts.at(-1) * 2);
  return cores > 1 ? [...counts, cores] : counts;
}

/**
 * @param {{bundles: {name: string, manifest: object}[], graphs: string[], seconds: number[],
 *   runs: {provider: string, threads: number}[]}} chosen
 * @returns {object[]} cases as in a report
 */
export function makeCases({ bundles, graphs, seconds, runs }) {
  const cases = [];
  for (const { name, manifest } of bundles) {
    for (const graph of graphs.filter((x) => manifest.graphs[x])) {
      for (const length of seconds) {
        checkLength(name, manifest, graph, length);
        for (const { provider, threads } of runs) {
          cases.push({
            bundle: name,
            graph,
            provider,
            provider_options: {},
            threads,
            power: 'high',
            seconds: length,
            batch: 1,
            scenario: 'single',
            driver: 'w2v-edge',
            block_ms: 0,
          });
        }
      }
    }
  }
  return cases;
}

function checkLength(name, manifest, graph, seconds) {
  const longest = manifest.longest_context_seconds;
  if (graph === 'encoder' && seconds > longest) {
    throw new UserError(`${name}: found ${seconds} s of speech, its encoder takes up to ${longest} s; choose less`);
  }
}

/** Returns excerpts that begin evenly over the speech and go on at its beginning. */
export function excerpts(speech, rate, seconds) {
  const size = Math.round(seconds * rate);
  const count = Math.max(1, Math.min(MAX_EXCERPTS, Math.floor(MAX_EXCERPTS_S / seconds)));
  return Array.from({ length: count }, (_, i) => {
    const start = Math.floor((i * speech.length) / count);
    return Float32Array.from({ length: size }, (__, j) => speech[(start + j) % speech.length]);
  });
}
