/** Recordings as mono PCM at the model's rate, decoded and resampled by the browser. */
import { UserError } from './bundle/errors.js';
import { readWav } from './bundle/wav.js';

const MAX_SECONDS = 600;

/**
 * @param {ArrayBuffer} bytes of a file in any format that the browser decodes
 * @param {number} rate in Hz
 * @returns {Promise<Float32Array>}
 */
export async function decode(bytes, rate) {
  if (!bytes.byteLength) throw new UserError('this file is empty; choose a recording');
  const wav = readExactly(bytes);
  if (wav) {
    checkDuration(wav.waveform.length / wav.rate);
    return resample(wav.waveform, wav.rate, rate);
  }
  const context = new OfflineAudioContext(1, 1, rate);
  let buffer;
  try {
    buffer = await context.decodeAudioData(bytes);
  } catch {
    throw new UserError('this file is not readable as audio; choose a WAV, FLAC or MP3');
  }
  checkDuration(buffer.duration);
  return mixDown(buffer);
}

/**
 * Reads common WAV formats exactly. Chromium divides positive 16-bit samples by
 * 32767 and negative ones by 32768: inaudible, but enough to change a few int8 codes.
 */
function readExactly(bytes) {
  try {
    return readWav(new Uint8Array(bytes));
  } catch {
    return null;
  }
}

function checkDuration(seconds) {
  if (seconds > MAX_SECONDS) {
    throw new UserError(
      `found ${Math.round(seconds)} s of audio, this page takes up to ${MAX_SECONDS} s`,
    );
  }
}

/**
 * @param {Float32Array} waveform mono PCM at `from` Hz
 * @param {number} from in Hz
 * @param {number} to in Hz
 * @returns {Promise<Float32Array>} the same at `to` Hz
 */
export async function resample(waveform, from, to) {
  if (from === to || !waveform.length) return waveform;
  try {
    const context = new OfflineAudioContext(1, Math.ceil((waveform.length * to) / from), to);
    const buffer = new AudioBuffer({ length: waveform.length, sampleRate: from });
    buffer.copyToChannel(waveform, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.start();
    return (await context.startRendering()).getChannelData(0);
  } catch {
    throw new UserError(`found ${from} Hz, which this browser cannot resample to ${to} Hz`);
  }
}

function mixDown(buffer) {
  const mono = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; c += 1) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < mono.length; i += 1) mono[i] += channel[i] / buffer.numberOfChannels;
  }
  return mono;
}
