/**
 * One trial in a fresh worker: `{case, files, module, excerpts, steady_s, hashed, each}` in,
 * `{trial, version}` or `{error}` out; the version is onnxruntime's. With `each`, every query of the
 * steady state is reported as `{at_s, ms}` when it ends.
 */
const start_ms = performance.now();

// Imports are made in the trial, which measures them.
let median;

/**
 * Browsers compile hot code again while it runs, which takes seconds. The warm-up goes on, part by
 * part, until a part's median is not lower than this share of the one before.
 */
const STEADY_SHARE = 0.95;
const WARM_UP_PART_MS = 1000;
const MAX_WARM_UP_MS = 20_000;

/** A latency is refused if the clock's step is more than this share of it. */
const COARSE = 0.2;

self.onmessage = async ({ data: job }) => {
  try {
    self.postMessage(await run(job));
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error).replaceAll(/\s+/g, ' ').slice(0, 300) });
  }
};

async function run(job) {
  const memory = watchMemory();
  const onGpu = job.case.provider === 'webgpu';
  const begun = performance.now();
  const { VENDOR, openGraph } = await import('../session.js');
  ({ median } = await import('./statistics.js'));
  const { openBundle } = await import('../bundle/files.js');
  const ort = await import(`${VENDOR}${onGpu ? 'ort.webgpu.min.mjs' : 'ort.wasm.min.mjs'}`);
  const imported = performance.now();

  ort.env.logLevel = 'fatal';
  Object.assign(ort.env.wasm, { wasmPaths: VENDOR, numThreads: job.case.threads });
  useModule(ort, job.module);
  const read = async (name) => new Uint8Array(await job.files[name].arrayBuffer());
  const bundle = await openBundle(read, job.hashed);
  const session = await openGraph(ort, bundle, job.case.graph, job.case.provider);
  const loaded = performance.now();
  const loaded_mb = onGpu ? null : memory();

  const query = queries(ort, session, job.excerpts);
  const [first_ms, ...warm_up_ms] = await warmUp(query);
  const steady = await measure(query, job);
  const trial = {
    start_ms,
    import_ms: imported - begun,
    load_ms: loaded - imported,
    first_ms,
    warm_up_ms,
    ...steady,
    loaded_mb,
    peak_mb: onGpu ? null : memory(),
  };
  return { trial, version: ort.env.versions.web };
}

/** Returns a function that runs the next excerpt and returns its latency in ms. */
function queries(ort, session, excerpts) {
  const feeds = excerpts.map((waveform) => ({
    waveform: new ort.Tensor('float32', waveform, [1, waveform.length]),
    lengths: new ort.Tensor('int64', BigInt64Array.of(BigInt(waveform.length)), [1]),
  }));
  let count = 0;
  return async () => {
    const begun = performance.now();
    await session.run(feeds[count % feeds.length]);
    count += 1;
    return performance.now() - begun;
  };
}

/** Returns the latencies of the first query and of the warm-up, in ms. */
async function warmUp(query) {
  const first = await query();
  const begun = performance.now();
  const parts = [await queriesFor(WARM_UP_PART_MS, query), await queriesFor(WARM_UP_PART_MS, query)];
  const isFalling = () => median(parts.at(-1)) < STEADY_SHARE * median(parts.at(-2));
  while (isFalling() && performance.now() < begun + MAX_WARM_UP_MS) {
    parts.push(await queriesFor(WARM_UP_PART_MS, query));
  }
  return [first, ...parts.flat()];
}

async function measure(query, { steady_s: seconds, case: { seconds: audio }, each }) {
  const begun = performance.now();
  const report = (ms) => {
    if (each) self.postMessage({ at_s: (performance.now() - begun) / 1000, ms });
  };
  const latencies_ms = await queriesFor(1000 * seconds, query, report);
  const steady_s = (performance.now() - begun) / 1000;
  const step = clockStep();
  if (median(latencies_ms) * COARSE < step) {
    throw new Error(`too short for this browser's clock, which has steps of ${step.toFixed(2)} ms; measure longer speech`);
  }
  return { latencies_ms, steady_s, audio_s: audio * latencies_ms.length };
}

/** Returns the latencies of as many queries as begin within a time, at least one. */
async function queriesFor(duration, query, report = () => {}) {
  const latencies = [];
  const begun = performance.now();
  while (!latencies.length || performance.now() < begun + duration) {
    const ms = await query();
    latencies.push(ms);
    report(ms);
  }
  return latencies;
}

/** Returns the smallest step of the clock in ms. */
function clockStep() {
  const steps = [];
  for (let i = 0; i < 5; i += 1) {
    const begun = performance.now();
    let now = begun;
    while (now === begun) now = performance.now();
    steps.push(now - begun);
  }
  return Math.min(...steps);
}

/**
 * Lets onnxruntime instantiate the page's compiled module, so that trials share its machine code
 * and need not compile it.
 */
function useModule(ort, module) {
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (_, imports) => ({ module, instance: await instantiate(module, imports) });
  // Some content, so that onnxruntime fetches none.
  ort.env.wasm.wasmBinary = new ArrayBuffer(8);
}

/**
 * Returns a function for the size of WebAssembly's memory in MB. It only grows, so the last size is
 * the peak. No browser reports the memory of a worker in any other way.
 */
function watchMemory() {
  const made = [];
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory {
    constructor(...parameters) {
      super(...parameters);
      made.push(this);
    }
  };
  return () => made.reduce((sum, { buffer }) => sum + buffer.byteLength, 0) / 1e6 || null;
}
