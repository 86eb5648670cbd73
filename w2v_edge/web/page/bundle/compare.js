/**
 * Compares outputs with the expected ones, by the rules of `w2v-edge verify`.
 *
 * Arrays are `{shape: [batch, frames, width], data}`; each function returns `{worst, allowed, ok}`.
 * Frames at or past an utterance's length must be zero.
 */

/** Tolerance relative to large values, near the resolution of float32. */
const LARGE_VALUE_BAR = 1e-6;

/** Logits of two labels closer than this, in a frame's standard deviations, are a close call. */
const CLOSE_CALL = 0.05;

/** The two highest logits tie if closer than this, in standard deviations of all logits. */
const TIE_MARGIN = 1e-4;

export function sameShape(found, expected) {
  return found.shape.length === expected.shape.length
    && found.shape.every((axis, i) => axis === expected.shape[i]);
}

/** Largest deviation; the tolerance is `bar` standard deviations `std` of the reference. */
export function compareValues(found, expected, lengths, std, bar) {
  const peak = expected.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const allowed = Math.max(bar * std, Math.min(bar, LARGE_VALUE_BAR * peak));
  let worst = 0;
  forFrames(found, lengths, (start, end) => {
    for (let i = start; i < end; i += 1) {
      const deviation = Math.abs(found.data[i] - expected.data[i]);
      // The negation makes NaN the worst deviation.
      if (!(deviation <= worst)) worst = deviation;
    }
  });
  return { worst, allowed, ok: worst <= allowed && paddingIsZero(found, lengths) };
}

/** One minus the smallest cosine similarity of a frame and its reference. */
export function compareFrames(found, expected, lengths, minCosine) {
  let worst = 0;
  forFrames(found, lengths, (start, end) => {
    const distance = 1 - cosine(found.data, expected.data, start, end);
    if (!(distance <= worst)) worst = distance;
  });
  const allowed = 1 - minCosine;
  return { worst, allowed, ok: worst <= allowed && paddingIsZero(found, lengths) };
}

/** Number of frames whose best label differs, close calls excluded. */
export function compareLabels(found, expected, lengths, share) {
  let worst = 0;
  let frames = 0;
  forFrames(found, lengths, (start, end) => {
    const logits = expected.data.subarray(start, end);
    const label = argmax(found.data.subarray(start, end));
    const lead = Math.max(...logits) - logits[label];
    if (!(lead <= CLOSE_CALL * standardDeviation(logits))) worst += 1;
    frames += 1;
  });
  const allowed = Math.ceil(share * frames);
  return { worst, allowed, ok: worst <= allowed && paddingIsZero(found, lengths) };
}

/** Number of differing codes, ties excluded; `margins` are differences of the two best logits. */
export function compareCodes(found, expected, lengths, margins) {
  return countCodes(found, expected, lengths, 0, (i) => margins.data[i] < TIE_MARGIN);
}

/** Number of differing codes, of which `share` is allowed. */
export function compareMostCodes(found, expected, lengths, share) {
  return countCodes(found, expected, lengths, share, () => false);
}

function countCodes(found, expected, lengths, share, excused) {
  let compared = 0;
  let worst = 0;
  forFrames(found, lengths, (start, end) => {
    for (let i = start; i < end; i += 1) {
      compared += 1;
      if (found.data[i] !== expected.data[i] && !excused(i)) worst += 1;
    }
  });
  const allowed = Math.ceil(share * compared);
  return { worst, allowed, ok: worst <= allowed, compared };
}

/** Vectors must be exact in frames whose codes all agree. */
export function compareVectors(found, expected, codes, expectedCodes, lengths) {
  const width = found.shape[2];
  const groups = codes.shape[2];
  let worst = 0;
  forFrames(found, lengths, (start, end) => {
    const first = (start / width) * groups;
    for (let i = first; i < first + groups; i += 1) {
      if (codes.data[i] !== expectedCodes.data[i]) return;
    }
    for (let i = start; i < end; i += 1) {
      const deviation = Math.abs(found.data[i] - expected.data[i]);
      if (!(deviation <= worst)) worst = deviation;
    }
  });
  return { worst, allowed: 0, ok: worst === 0 };
}

export function compareLengths(found, expected) {
  const ok = sameShape(found, expected) && found.data.every((x, i) => x === expected.data[i]);
  return { worst: ok ? 0 : 1, allowed: 0, ok };
}

export function paddingIsZero({ shape: [batch, frames, width], data }, lengths) {
  for (let b = 0; b < batch; b += 1) {
    const start = (b * frames + lengths[b]) * width;
    if (data.subarray(start, (b + 1) * frames * width).some((x) => Number(x) !== 0)) return false;
  }
  return true;
}

function forFrames({ shape: [batch, frames, width] }, lengths, visit) {
  for (let b = 0; b < batch; b += 1) {
    for (let n = 0; n < lengths[b]; n += 1) {
      const start = (b * frames + n) * width;
      visit(start, start + width);
    }
  }
}

function cosine(a, b, start, end) {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = start; i < end; i += 1) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  if (aa === 0 && bb === 0) return 1;
  return dot / (Math.sqrt(aa * bb) || 1);
}

function argmax(values) {
  return values.reduce((best, x, i) => (x > values[best] ? i : best), 0);
}

function standardDeviation(values) {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
}
