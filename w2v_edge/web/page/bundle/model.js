/** Runs a bundle's graphs with any build of onnxruntime. */
import { UserError } from './errors.js';

/** Float PCM does not peak 40 dB above full scale; larger values are unscaled integers. */
const MAX_AMPLITUDE = 100;

export class Model {
  #sessions = new Map();
  #open;
  #Tensor;

  /**
   * @param {{manifest: object, file: Function}} bundle from `openBundle`
   * @param {(graph: string) => Promise<InferenceSession>} open checks files and opens a graph
   * @param {typeof import('onnxruntime-common').Tensor} Tensor of that onnxruntime
   */
  constructor(bundle, open, Tensor) {
    this.bundle = bundle;
    this.manifest = bundle.manifest;
    this.#open = open;
    this.#Tensor = Tensor;
  }

  /**
   * Runs one graph on named arrays `{shape, data}` and returns its outputs in the same form.
   * Names, types and shapes are in the manifest.
   */
  async run(graph, arrays) {
    const session = await this.#session(graph);
    const feeds = {};
    for (const { name } of this.manifest.graphs[graph].inputs) {
      const { shape, data } = arrays[name];
      const type = data instanceof BigInt64Array ? 'int64' : 'float32';
      feeds[name] = new this.#Tensor(type, data, shape);
    }
    const outputs = Object.entries(await session.run(feeds));
    return Object.fromEntries(outputs.map(([name, x]) => [name, { shape: x.dims, data: x.data }]));
  }

  /** Opens the graphs of `tokenize`, so that its first call is as fast as later ones. */
  async warmUp() {
    await this.tokenize(new Float32Array(this.manifest.min_samples));
  }

  /**
   * @param {Float32Array} waveform mono PCM in [-1, 1] at the manifest's sample rate
   * @returns {Promise<{frames: number, groups: number, codes: Int32Array}>} frame after frame
   */
  async tokenize(waveform) {
    this.#check(waveform);
    const samples = waveform.length;
    const { codes } = await this.run('tokenizer', {
      waveform: { shape: [1, samples], data: waveform },
      lengths: { shape: [1], data: BigInt64Array.of(BigInt(samples)) },
    });
    const [, frames, groups] = codes.shape;
    return { frames, groups, codes: Int32Array.from(codes.data, Number) };
  }

  #check(waveform) {
    const { min_samples: least, sample_rate: rate, graphs } = this.manifest;
    if (!graphs.tokenizer) {
      throw new UserError('this model has no quantizer and gives no codes; export a model with a quantizer');
    }
    if (waveform.length < least) {
      const found = `${waveform.length} samples`;
      throw new UserError(
        `too short: found ${found}, expected at least ${least} (${(1000 * least) / rate} ms)`,
      );
    }
    if (!waveform.every((sample) => Math.abs(sample) <= MAX_AMPLITUDE)) {
      throw new UserError('found samples that are not float PCM in [-1, 1]; check the recording');
    }
    const longest = this.manifest.longest_context_seconds;
    if (this.manifest.quantizer_input === 'context' && waveform.length > longest * rate) {
      throw new UserError(`too long for this model: more than ${longest} s; split the recording`);
    }
  }

  #session(graph) {
    if (!this.#sessions.has(graph)) this.#sessions.set(graph, this.#open(graph));
    return this.#sessions.get(graph);
  }
}
