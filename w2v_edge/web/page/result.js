/** Shows the result of one recording. */
import { drawRaster, drawWaveform } from './pictures.js';

const element = (id) => document.getElementById(id);

let shown;

/** @param {{name, waveform, manifest, found}} result `found` is the result of `tokenize` */
export function show(result) {
  const { name, waveform, manifest, found } = result;
  const seconds = waveform.length / manifest.sample_rate;
  const texts = {
    name,
    seconds: `${seconds.toFixed(2)} s`,
    frames: `${found.frames}`,
    took: `${(1000 * found.took).toFixed(0)} ms`,
    factor: (found.took / seconds).toFixed(3),
    pointed: 'Point at the picture to read codes.',
  };
  for (const [id, text] of Object.entries(texts)) element(id).textContent = text;
  element('result').hidden = false;
  element('zoom').value = 1;
  shown = { ...result, rows: rowsOf(found), spans: spansOf(result) };
  draw();
}

export function hide() {
  element('result').hidden = true;
  shown = undefined;
}

/** Widest canvas that browsers support, in device pixels. */
const MAX_WIDTH = 30_000;

function draw() {
  if (!shown) return;
  const { width } = element('pictures').parentElement.getBoundingClientRect();
  const zoomed = Math.min(width * element('zoom').value, MAX_WIDTH / (window.devicePixelRatio || 1));
  element('pictures').style.width = `${zoomed}px`;
  drawWaveform(element('waveform'), shown.waveform);
  drawRaster(element('raster'), shown.found, shown.spans, shown.manifest.codebook.entries);
}

function rowsOf({ frames, groups, codes }) {
  return Array.from({ length: frames }, (_, n) => [...codes.subarray(n * groups, (n + 1) * groups)]);
}

/** A frame is drawn one hop wide, centred on its receptive field. */
function spansOf({ waveform, manifest, found }) {
  const stride = manifest.hop * framesPerCode(manifest, found, waveform);
  const middle = (manifest.receptive_field - 1) / 2 - manifest.left_padding;
  return Array.from({ length: found.frames }, (_, n) => ({
    start: clamp((n * stride + middle - stride / 2) / waveform.length),
    end: clamp((n * stride + middle + stride / 2) / waveform.length),
  }));
}

/** Codes made from a context with fewer frames than the features lie further apart. */
function framesPerCode({ hop }, { frames }, waveform) {
  return Math.max(1, Math.round(waveform.length / hop / Math.max(1, frames)));
}

const clamp = (share) => Math.min(1, Math.max(0, share));

function point(event) {
  if (!shown) return;
  const { left, width } = event.currentTarget.getBoundingClientRect();
  const share = (event.clientX - left) / width;
  const n = shown.spans.findIndex(({ start, end }) => start <= share && share < end);
  if (n < 0) return;
  const seconds = (share * shown.waveform.length) / shown.manifest.sample_rate;
  element('pointed').textContent = `${seconds.toFixed(2)} s, frame ${n}: codes ${shown.rows[n].join(',')}`;
}

async function copy() {
  if (!shown) return;
  const button = element('copy');
  try {
    await navigator.clipboard.writeText(JSON.stringify(shown.rows));
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed here';
  }
  setTimeout(() => (button.textContent = 'Copy codes'), 1500);
}

element('zoom').addEventListener('input', draw);
for (const id of ['raster', 'waveform']) element(id).addEventListener('pointermove', point);
element('copy').addEventListener('click', copy);
window.addEventListener('resize', draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
