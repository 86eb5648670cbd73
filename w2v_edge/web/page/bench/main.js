/** The bench page: choice, progress, results. */
import { UserError } from '../bundle/errors.js';
import { describeDevice } from './device.js';
import { askDesk, borrow } from './lend.js';
import { excerpts, makeCases, threadCounts } from './plan.js';
import { makeReport, save, send } from './report.js';
import { Stopped, measure, measureDrift } from './schedule.js';
import { caseMedian, drawDrift, driftWords, duration, runName, tables } from './show.js';
import { State } from './state.js';

const element = (id) => document.getElementById(id);

let lender;
let device;
let stopping;
let report;

function say(text, kind = '') {
  element('status').textContent = text;
  element('status').className = kind;
}

function sayError(error) {
  if (error instanceof Stopped) {
    say('Stopped; nothing was sent.');
    return;
  }
  if (!(error instanceof UserError)) console.error(error);
  say(error.message, 'bad');
}

async function prepare() {
  lender = await askDesk();
  device = await describeDevice();
  const graphs = ['encoder', 'tokenizer'].filter((x) => lender.bundles.some(({ manifest }) => manifest.graphs[x]));
  element('graph').replaceChildren(...graphs.map((x) => new Option(x)));
  if (graphs.length > 1) element('graph').append(new Option('encoder and tokenizer', graphs));
  element('bundles').replaceChildren(...lender.bundles.map(({ name }) => checkbox(name, name)));
  const runs = threadCounts(device.device.cpu.cores, crossOriginIsolated).map((threads) => ({ provider: 'wasm', threads }));
  if (device.hasGpu) runs.push({ provider: 'webgpu', threads: 1 });
  element('runs').replaceChildren(...runs.map((x) => checkbox(runName(x), JSON.stringify(x))));
  element('missing').replaceChildren(...missing().map(item));
  element('measure').disabled = false;
}

/** Names what this browser lacks at this address, with the remedy. */
function missing() {
  if (!isSecureContext) {
    return [
      'Over plain http browsers have one thread, no WebGPU, no check of hashes, and do not keep the screen on. '
        + 'Open the page by https: w2v-edge serve --certificate FILE --key FILE.',
    ];
  }
  return [
    ...(crossOriginIsolated ? [] : ['Threads: the server does not send the headers COOP and COEP.']),
    ...(device.hasGpu ? [] : ['WebGPU: this browser offers none here.']),
    ...(navigator.wakeLock ? [] : ['This browser does not keep the screen on: touch it now and then.']),
  ];
}

function checkbox(text, value) {
  const label = document.createElement('label');
  const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: true, value });
  label.append(box, text);
  return label;
}

function item(text) {
  return Object.assign(document.createElement('li'), { textContent: text });
}

const checked = (id) => [...element(id).querySelectorAll('input:checked')].map((x) => x.value);

function chosenCases() {
  const names = checked('bundles');
  const cases = makeCases({
    bundles: lender.bundles.filter((x) => names.includes(x.name)),
    graphs: element('graph').value.split(','),
    seconds: element('seconds').value.split(',').map(Number),
    runs: checked('runs').map(JSON.parse),
  });
  if (!cases.length) throw new UserError('nothing to measure; choose a bundle and a run');
  return cases;
}

async function run(cases, signal) {
  const rounds = Number(element('rounds').value);
  const created = new Date().toISOString();
  const begun = performance.now();
  const clock = () => (performance.now() - begun) / 1000;
  const state = new State(clock);
  await state.begin();
  let found;
  try {
    found = await measureAll(cases, { rounds, clock, signal, sample: () => state.sample() });
  } finally {
    state.end();
  }
  const providers = ['wasm', ...(device.hasGpu ? ['webgpu'] : [])];
  const ort = { version: found.version, providers };
  const { results } = found;
  return makeReport({ desk: lender.desk, device: device.device, ort, created, results, samples: state.samples, rounds });
}

async function measureAll(cases, plan) {
  phase('Fetching and compiling …');
  const { files, modules, speech } = await borrow(cases, lender.bundles, (done, total) => {
    progress(done / total, `${done} of ${total} files`);
    if (plan.signal.aborted) throw new Stopped();
  });
  const job = (one) => {
    const { sample_rate: rate } = lender.bundles.find((x) => x.name === one.bundle).manifest;
    return {
      case: one,
      files: files[one.bundle],
      module: modules[one.provider],
      excerpts: excerpts(speech[rate], rate, one.seconds),
      hashed: isSecureContext,
    };
  };
  phase('Measuring …');
  const show = (done, total, one) => {
    const what = `${one.bundle}, ${one.graph}, ${one.seconds} s, ${runName(one)}`;
    progress(done / total, `trial ${done + 1} of ${total}: ${what}`);
  };
  const found = await measure({ ...plan, cases, job, show });
  showResults(found.results);
  const drift_s = 60 * Number(element('minutes').value);
  if (drift_s) await drift(found.results, job, drift_s, plan.signal);
  return found;
}

/** Runs the fastest case of the longest speech without a pause, and adds the curve to its result. */
async function drift(results, job, seconds, signal) {
  const able = results.filter((x) => !x.failure);
  const longest = Math.max(...able.map((x) => x.case.seconds));
  const [fastest] = able
    .filter((x) => x.case.seconds === longest)
    .sort((a, b) => caseMedian(a.trials) - caseMedian(b.trials));
  if (!fastest) return;
  phase(`Running for ${duration(seconds)} without a pause …`);
  const show = (points) => {
    const words = driftWords(points, fastest.case);
    progress(points.at(-1).at_s / seconds, words);
    element('drift').hidden = false;
    element('drift-words').textContent = words;
    drawDrift(element('curve'), points, seconds, words);
  };
  fastest.drift = await measureDrift(job(fastest.case), seconds, signal, show);
  show(fastest.drift);
}

function showResults(results) {
  element('tables').replaceChildren(...tables(results));
  element('result').hidden = false;
}

function phase(text) {
  element('phase').textContent = text;
  progress(0, '');
}

function progress(share, text) {
  element('progress').value = share;
  element('detail').textContent = text;
}

function setRunning(running) {
  element('running').hidden = !running;
  element('choice').hidden = running;
  if (running) element('stop').focus();
}

async function start() {
  report = undefined;
  stopping = new AbortController();
  for (const id of ['result', 'drift']) element(id).hidden = true;
  say('');
  try {
    const cases = chosenCases();
    setRunning(true);
    report = await run(cases, stopping.signal);
    say('Sending …');
    say(`The report is at the desk: ${await send(report)}`, 'good');
  } catch (error) {
    sayError(error);
  }
  element('save').disabled = !report;
  setRunning(false);
  element('measure').focus();
}

element('choice').addEventListener('submit', (event) => {
  event.preventDefault();
  start();
});
element('stop').addEventListener('click', () => stopping.abort());
element('save').addEventListener('click', () => save(report));

try {
  await prepare();
} catch (error) {
  element('bundles').replaceChildren();
  sayError(error);
}
