/** What the desk lends: descriptions, files, speech. All of it is fetched once, before the trials. */
import { openBundle } from '../bundle/files.js';
import { UserError } from '../bundle/errors.js';
import { VENDOR } from '../session.js';

const WASM = {
  wasm: 'ort-wasm-simd-threaded.wasm',
  webgpu: 'ort-wasm-simd-threaded.asyncify.wasm',
};

/** Returns the desk's description, and the bundles with their manifests. */
export async function askDesk() {
  const response = await fetch('desk.json').catch(() => null);
  if (!response?.ok) {
    throw new UserError('there is no desk behind this page; run: w2v-edge serve BUNDLE');
  }
  const desk = await response.json();
  const bundles = await Promise.all(
    desk.bundles.map(async ({ name }) => {
      const read = async (file) => new Uint8Array(await (await lent(pathOf(name, file))).arrayBuffer());
      return { name, manifest: (await openBundle(read, isSecureContext)).manifest };
    }),
  );
  return { desk, bundles };
}

/**
 * Fetches all that the cases need.
 *
 * @returns {Promise<{files: object, modules: object, speech: object}>} files by bundle and name,
 *   compiled WebAssembly by provider, speech by sample rate
 */
export async function borrow(cases, bundles, show) {
  const wanted = new Map();
  for (const one of cases) {
    const { data } = bundles.find((x) => x.name === one.bundle).manifest.graphs[one.graph];
    for (const file of ['manifest.json', `${one.graph}.onnx`, ...data]) {
      wanted.set(pathOf(one.bundle, file), [one.bundle, file]);
    }
  }
  const files = {};
  let count = 0;
  for (const [path, [bundle, file]] of wanted) {
    show(count, wanted.size);
    (files[bundle] ??= {})[file] = await lent(path);
    count += 1;
  }
  const modules = {};
  for (const provider of new Set(cases.map((x) => x.provider))) {
    modules[provider] = await WebAssembly.compile(await (await lent(`${VENDOR}${WASM[provider]}`)).arrayBuffer());
  }
  const speech = {};
  for (const { name, manifest } of bundles) {
    const rate = manifest.sample_rate;
    if (files[name]) speech[rate] ??= new Float32Array(await (await lent(`speech-${rate}.f32`)).arrayBuffer());
  }
  return { files, modules, speech };
}

const pathOf = (bundle, file) => `bundles/${encodeURIComponent(bundle)}/${encodeURIComponent(file)}`;

async function lent(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) throw new UserError(`${path.split('/').at(-1)} is missing; start w2v-edge serve again`);
  return response.blob();
}
