/** Shows results: a table for each bundle, graph and length, and the curve of the drift. */
import { median } from './statistics.js';

const COLUMNS = ['Load', 'First', 'Median', 'RTF', 'Memory'];
const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [360, 170];
const EDGE = { left: 46, right: 12, top: 12, bottom: 30 };

/** Names how a case runs, such as `2 threads`. */
export function runName({ provider, threads }) {
  if (provider === 'webgpu') return 'WebGPU';
  return threads === 1 ? '1 thread' : `${threads} threads`;
}

/** Returns the tables of all results. */
export function tables(results) {
  const groups = {};
  for (const result of results) {
    const { bundle, graph, seconds } = result.case;
    (groups[`${bundle}, ${graph}, ${seconds} s of speech`] ??= []).push(result);
  }
  return Object.entries(groups).map(([title, rows]) => table(title, rows));
}

function table(title, rows) {
  return make('table', '', [
    make('caption', title),
    make('thead', '', [make('tr', '', ['', ...COLUMNS].map((x) => head(x, 'col')))]),
    make('tbody', '', rows.map(row)),
  ]);
}

function row({ case: one, trials, failure }) {
  const name = head(runName(one), 'row');
  if (failure || !trials.length) {
    const cell = make('td', `failed: ${failure || 'stopped'}`);
    cell.colSpan = COLUMNS.length;
    cell.className = 'bad';
    return make('tr', '', [name, cell]);
  }
  const latency = caseMedian(trials);
  const of = (field) => median(trials.map((x) => x[field]));
  const peaks = trials.map((x) => x.peak_mb).filter((x) => x !== null);
  const cells = [
    milliseconds(of('load_ms')),
    milliseconds(of('first_ms')),
    milliseconds(latency),
    `${Number((latency / 1000 / one.seconds).toPrecision(2))}`,
    peaks.length ? `${Math.ceil(Math.max(...peaks))} MB` : 'unknown',
  ];
  return make('tr', '', [name, ...cells.map((x) => make('td', x))]);
}

/** Median latency over all trials of a case, in ms. */
export function caseMedian(trials) {
  return median(trials.flatMap((x) => x.latencies_ms));
}

/** Describes the drift in a sentence. */
export function driftWords(points, { bundle, graph, seconds, ...run }) {
  const what = `${bundle}, ${graph}, ${seconds} s of speech, ${runName(run)}`;
  if (points.length < 2) return `${what}: too few queries for a curve`;
  const [first, last] = [points[0], points.at(-1)];
  const change = 100 * (last.p50_ms / first.p50_ms - 1);
  return (
    `${what}: ${milliseconds(first.p50_ms)} at the beginning, ${milliseconds(last.p50_ms)} after `
    + `${duration(last.at_s)} without a pause (${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(1)} %)`
  );
}

/** Draws the median of each interval over time; the vertical axis begins at 0. */
export function drawDrift(svg, points, seconds, words) {
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('aria-label', `Median latency over time. ${words}`);
  const top = niceAbove(Math.max(...points.map((x) => x.p50_ms), 1e-3));
  const x = (at) => EDGE.left + (at / seconds) * (WIDTH - EDGE.left - EDGE.right);
  const y = (ms) => HEIGHT - EDGE.bottom - (ms / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const level = y(share * top);
    parts.push(draw('line', { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: level, y2: level, class: 'grid' }));
    parts.push(draw('text', { x: EDGE.left - 6, y: level + 4, class: 'end' }, digits(share * top)));
    const anchor = { 0: 'start', 1: 'end' }[share] ?? 'middle';
    parts.push(draw('text', { x: x(share * seconds), y: HEIGHT - 12, class: anchor }, duration(share * seconds)));
  }
  parts.push(draw('text', { x: EDGE.left + 4, y: EDGE.top + 12, class: 'start' }, 'ms'));
  const line = points.map((p) => `${x(p.at_s).toFixed(1)},${y(p.p50_ms).toFixed(1)}`).join(' ');
  parts.push(draw('polyline', { points: line, class: 'curve' }));
  for (const p of points) {
    const dot = draw('circle', { cx: x(p.at_s), cy: y(p.p50_ms), r: 2.5, class: 'dot' });
    dot.append(draw('title', {}, `${milliseconds(p.p50_ms)} at ${duration(p.at_s)}, ${p.queries} queries`));
    parts.push(dot);
  }
  svg.replaceChildren(...parts);
}

function niceAbove(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1.2, 1.6, 2, 3, 4, 5, 6, 8, 10, 12].find((x) => x * unit >= value * 1.1);
}

export function milliseconds(ms) {
  return ms < 1000 ? `${digits(ms)} ms` : `${digits(ms / 1000)} s`;
}

export function duration(seconds) {
  return seconds < 60 ? `${digits(seconds)} s` : `${digits(seconds / 60)} min`;
}

/** Three digits. */
function digits(value) {
  if (value === 0) return '0';
  if (value >= 100) return value.toFixed(0);
  return `${Number(value.toPrecision(3))}`;
}

function head(text, scope) {
  // An empty header would have no meaning for a screen reader.
  const made = make(text ? 'th' : 'td', text);
  if (text) made.scope = scope;
  return made;
}

function make(tag, text, children = []) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function draw(tag, attributes, text = '') {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}
