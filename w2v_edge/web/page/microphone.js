/** Records the microphone as PCM: compression would change the codes. */
import { resample } from './audio.js';
import { UserError } from './bundle/errors.js';

/**
 * @param {number} rate sample rate of the result, in Hz
 * @returns {Promise<() => Promise<Float32Array>>} stops and returns the recording
 */
export async function record(rate) {
  const stream = await microphone();
  const context = new AudioContext();
  const blocks = [];
  const stop = async () => {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
    return resample(joined(blocks), context.sampleRate, rate);
  };
  try {
    await context.audioWorklet.addModule(new URL('./recorder-worklet.js', import.meta.url));
    const recorder = new AudioWorkletNode(context, 'recorder', { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => blocks.push(data);
    new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(recorder);
  } catch {
    await stop();
    throw new UserError('this browser cannot record here; choose a recording');
  }
  return stop;
}

async function microphone() {
  // Processing for calls distorts speech for a model.
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
  } catch {
    throw new UserError('no microphone: allow this page to use one, or choose a recording');
  }
}

function joined(blocks) {
  const all = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  return all;
}
