/** The report of a measurement, and its way to the desk. */
import { UserError } from '../bundle/errors.js';
import { STEADY_S } from './schedule.js';

/** Returns a report of raw figures; whoever reads it computes the statistics. */
export function makeReport({ desk, device, ort, created, results, samples, rounds }) {
  const measured = new Set(results.map((x) => x.case.bundle));
  return {
    format: 'w2v-edge-latency',
    version: 2,
    created,
    command: desk.command,
    device: {
      ...device,
      onnxruntime: ort.version,
      onnxruntime_build: 'onnxruntime-web',
      providers: ort.providers,
      packages: { 'w2v-edge': desk.version, ...device.packages },
    },
    bundles: desk.bundles.filter((x) => measured.has(x.name)),
    audio: desk.audio,
    settings: { rounds, steady_s: STEADY_S, precision: 0, time_s: 0, confidence: 0.95, seed: 0 },
    conditions: { samples, disturbances: [] },
    cases: results,
    peaks: [],
  };
}

/** Clocks of browsers have steps of 5 µs and more: four digits of a millisecond are enough. */
function toJson(report) {
  return JSON.stringify(report, (_, value) => (typeof value === 'number' ? Number(value.toFixed(4)) : value));
}

/** Posts the report to the desk; returns the name of its file there. */
export async function send(report) {
  const response = await fetch('reports', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: toJson(report),
  }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (!response?.ok || !answer?.report) {
    throw new UserError(answer?.error ?? 'the desk does not answer; is w2v-edge serve still running?');
  }
  return answer.report;
}

/** Offers the report as a file. */
export function save(report) {
  const address = URL.createObjectURL(new Blob([toJson(report)], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = address;
  link.download = `w2v-edge-bench-${report.created.replaceAll(/[^0-9TZ]/g, '')}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
