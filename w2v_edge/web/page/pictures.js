/** Draws the waveform and the codes over one time axis. */

const ROW = 28;
const GAP = 4;

/** Draws minimum and maximum per column of pixels. */
export function drawWaveform(canvas, waveform) {
  const { context, width, height } = prepare(canvas);
  context.fillStyle = getComputedStyle(canvas).color;
  const step = waveform.length / width;
  const peak = Math.max(0.05, waveform.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
  for (let x = 0; x < width; x += 1) {
    let low = 0;
    let high = 0;
    for (let i = Math.floor(x * step); i < Math.max((x + 1) * step, x * step + 1); i += 1) {
      low = Math.min(low, waveform[i] ?? 0);
      high = Math.max(high, waveform[i] ?? 0);
    }
    const top = (0.5 - (0.48 * high) / peak) * height;
    const bottom = (0.5 - (0.48 * low) / peak) * height;
    context.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

/**
 * @param {{frames: number, groups: number, codes: Int32Array}} found
 * @param {{start: number, end: number}[]} spans horizontal extent of each frame, in [0, 1]
 * @param {number} entries size of a codebook
 */
export function drawRaster(canvas, { frames, groups, codes }, spans, entries) {
  canvas.style.height = `${groups * ROW + (groups - 1) * GAP}px`;
  const { context, width, height } = prepare(canvas);
  const row = (height + scaled(GAP)) / groups;
  for (let n = 0; n < frames; n += 1) {
    const left = Math.round(spans[n].start * width);
    const right = Math.round(spans[n].end * width);
    for (let g = 0; g < groups; g += 1) {
      context.fillStyle = colour(codes[n * groups + g], entries);
      context.fillRect(left, Math.round(g * row), right - left, Math.round(row - scaled(GAP)));
    }
  }
}

/** Hues of successive codes are a golden angle apart, so that changes are visible. */
function colour(code, entries) {
  const hue = (code * 137.508) % 360;
  const lightness = 42 + (28 * ((code * 7) % entries)) / entries;
  return `hsl(${hue} 65% ${lightness}%)`;
}

const scaled = (pixels) => pixels * (window.devicePixelRatio || 1);

function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(scaled(width)));
  canvas.height = Math.max(1, Math.round(scaled(height)));
  return { context: canvas.getContext('2d'), width: canvas.width, height: canvas.height };
}
