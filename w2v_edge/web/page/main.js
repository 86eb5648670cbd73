/** Connects the controls: opens bundles, tokenizes recordings, shows codes. */
import { decode } from './audio.js';
import { UserError } from './bundle/errors.js';
import * as engine from './engine.js';
import { record } from './microphone.js';
import { hide, show } from './result.js';

const element = (id) => document.getElementById(id);

let manifest;
let stopRecording;

/** Shows a status line, which replaces the previous one. */
function say(text, kind = '') {
  element('status').textContent = text;
  element('status').className = kind;
}

function setReady(ready) {
  for (const id of ['file', 'record', 'check']) element(id).disabled = !ready;
}

/** Runs one action at a time; an error is shown in one line. */
async function attempt(action) {
  setReady(false);
  try {
    await action();
  } catch (error) {
    if (!(error instanceof UserError)) console.error(error);
    say(error.message, 'bad');
  }
  setReady(manifest !== undefined);
}

async function listBundles() {
  const response = await fetch('bundles.json').catch(() => null);
  const names = response?.ok ? await response.json() : [];
  if (!names.length) {
    element('about').textContent = '';
    throw new UserError('there is no bundle next to this page; build it with one: make web');
  }
  element('bundle').replaceChildren(...names.map((name) => new Option(name)));
  element('bundle').disabled = false;
}

async function openBundle() {
  const name = element('bundle').value;
  manifest = undefined;
  hide();
  say('');
  element('verdict').textContent = '';
  element('about').textContent = 'Loading …';
  let opened;
  try {
    opened = await engine.open(name);
  } catch (error) {
    element('about').textContent = '';
    throw error;
  }
  manifest = opened.manifest;
  const { precision, sample_rate: rate, codebook } = manifest;
  const threads = `${opened.threads} thread${opened.threads > 1 ? 's' : ''}`;
  const books = codebook ? `${codebook.groups} groups of ${codebook.entries} codes, ` : '';
  element('about').textContent = `${precision}, ${rate} Hz, ${books}${threads}`;
}

async function tokenize(name, waveform) {
  say('Working …');
  hide();
  const found = await engine.tokenize(waveform);
  say('');
  show({ name, waveform, manifest, found });
}

async function readFile(file) {
  if (!file) return;
  say('Reading …');
  hide();
  await tokenize(file.name, await decode(await file.arrayBuffer(), manifest.sample_rate));
}

async function toggleRecording() {
  const button = element('record');
  if (!stopRecording) {
    stopRecording = await record(manifest.sample_rate);
    button.textContent = 'Stop';
    button.classList.add('on');
    element('bundle').disabled = true;
    say('Recording …');
    return;
  }
  const stop = stopRecording;
  stopRecording = undefined;
  button.textContent = 'Record';
  button.classList.remove('on');
  element('bundle').disabled = false;
  await tokenize('Microphone', await stop());
}

async function compareWithPython() {
  const verdict = element('verdict');
  verdict.className = 'quiet';
  verdict.textContent = 'Comparing …';
  let result;
  try {
    result = await engine.golden();
  } catch (error) {
    verdict.textContent = '';
    throw error;
  }
  verdict.className = result.ok ? 'good' : 'bad';
  verdict.textContent = `Equal to Python: ${inWords(result)}`;
}

/** With quantized weights some codes may differ by processor; the text states how many. */
function inWords({ rows, codes, changed, ok }) {
  const wrong = rows.filter((row) => !row.ok).map((row) => `${row.output} of ${row.graph}`);
  if (!ok) return `no, ${wrong.join(', ')}`;
  return changed ? `as far as ${manifest.precision} allows, ${changed} of ${codes} codes differ` : `yes, ${codes} codes`;
}

element('bundle').addEventListener('change', () => attempt(openBundle));
element('check').addEventListener('click', () => attempt(compareWithPython));
element('record').addEventListener('click', () => attempt(toggleRecording));
element('file').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  attempt(() => readFile(file));
  // Allows choosing the same file again.
  target.value = '';
});

const drop = element('drop');
for (const kind of ['dragover', 'dragleave', 'drop']) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle('over', kind === 'dragover');
  });
}
window.addEventListener('drop', ({ dataTransfer: { files } }) => {
  if (manifest && !element('file').disabled) attempt(() => readFile(files[0]));
});

await attempt(async () => {
  await listBundles();
  await openBundle();
});
