/**
 * Everything that takes time: files, hashes, the model. It answers each request with one message,
 * `{id, result}` or `{id, error}`, in the order they came.
 */
import * as ort from './vendor/ort.wasm.min.mjs';

import { openBundle } from './bundle/files.js';
import { UserError } from './bundle/errors.js';
import { checkGolden } from './bundle/golden.js';
import { Model } from './bundle/model.js';
import { VENDOR, openGraph } from './session.js';

ort.env.wasm.wasmPaths = VENDOR;
ort.env.logLevel = 'error';
// Threads share memory, which browsers allow to pages served with COOP and COEP headers only.
ort.env.wasm.numThreads = self.crossOriginIsolated
  ? Math.min(4, navigator.hardwareConcurrency || 1)
  : 1;

let model;

const actions = {
  async open(name) {
    const folder = new URL(`./bundles/${encodeURIComponent(name)}/`, import.meta.url);
    const bundle = await openBundle((file) => download(new URL(file, folder), file));
    const opened = new Model(bundle, (graph) => openGraph(ort, bundle, graph), ort.Tensor);
    await opened.warmUp();
    model = opened;
    return { manifest: bundle.manifest, threads: ort.env.wasm.numThreads };
  },

  async tokenize(waveform) {
    const start = performance.now();
    const found = await model.tokenize(waveform);
    return { ...found, took: (performance.now() - start) / 1000 };
  },

  golden: () => checkGolden(model),
};

async function download(url, name) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    throw new UserError(`no bundle here: ${name} is missing; build the page again: make web`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

// A request waits for the one before it: one session runs one thing at a time.
let last = Promise.resolve();

self.onmessage = ({ data: { id, action, argument } }) => {
  last = last.then(() => answer(id, action, argument));
};

async function answer(id, action, argument) {
  try {
    self.postMessage({ id, result: await actions[action](argument) });
  } catch (error) {
    self.postMessage({ id, error: String(error.message ?? error).replaceAll(/\s+/g, ' ') });
  }
}
