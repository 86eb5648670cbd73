/** Reads WAV files: 16-bit integers or 32-bit floats, any number of channels. */
import { UserError } from './errors.js';

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/**
 * @param {Uint8Array} bytes of the file
 * @returns {{rate: number, waveform: Float32Array}} channels averaged, PCM in [-1, 1]
 */
export function readWav(bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = findChunks(data);
  const format = readFormat(chunks['fmt ']);
  const { data: samples } = chunks;
  if (!samples) throw new UserError('not readable as WAV: it has no samples');
  const frames = Math.floor(samples.byteLength / format.width / format.channels);
  const waveform = new Float32Array(frames);
  for (let i = 0; i < frames; i += 1) {
    let sum = 0;
    for (let c = 0; c < format.channels; c += 1) {
      sum += format.sample(samples, (i * format.channels + c) * format.width);
    }
    waveform[i] = sum / format.channels;
  }
  return { rate: format.rate, waveform };
}

function findChunks(data) {
  const tag = (at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => data.getUint8(at + i)));
  if (data.byteLength < 12 || tag(0) !== 'RIFF' || tag(8) !== 'WAVE') {
    throw new UserError('not readable as WAV: expected a RIFF file');
  }
  const chunks = {};
  for (let at = 12; at + 8 <= data.byteLength; ) {
    const length = data.getUint32(at + 4, true);
    if (at + 8 + length > data.byteLength) {
      throw new UserError('truncated: its header states more audio than the file holds');
    }
    chunks[tag(at)] ??= new DataView(data.buffer, data.byteOffset + at + 8, length);
    at += 8 + length + (length % 2);
  }
  return chunks;
}

function readFormat(chunk) {
  if (!chunk || chunk.byteLength < 16) throw new UserError('not readable as WAV: it has no format');
  const tag = chunk.getUint16(0, true);
  // The extensible header names the real format in the first two bytes of an identifier.
  const kind = tag === EXTENSIBLE && chunk.byteLength >= 26 ? chunk.getUint16(24, true) : tag;
  const bits = chunk.getUint16(14, true);
  const channels = chunk.getUint16(2, true);
  const samples = {
    [`${PCM} 16`]: (view, at) => view.getInt16(at, true) / 32768,
    [`${FLOAT} 32`]: (view, at) => view.getFloat32(at, true),
  };
  const sample = samples[`${kind} ${bits}`];
  if (!sample || !channels) {
    throw new UserError(
      `found WAV of format ${kind} with ${bits} bits, expected 16-bit integers or 32-bit floats`,
    );
  }
  return { sample, channels, width: bits / 8, rate: chunk.getUint32(4, true) };
}
