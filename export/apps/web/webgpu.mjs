/**
 * Runs the graphs of a bundle with WebGPU in headless Chromium, on a GPU in software:
 *
 *     node webgpu.mjs BUNDLE
 *
 * Each line of stdin is a request, {graph, inputs: {name: {type, dims, data}}} with data in base64.
 * Each line of stdout is its answer: {outputs, placement, seconds} or {error}.
 */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { launch } from './browser.mjs';

const ORIGIN = 'http://localhost';
const RUNTIME = fileURLToPath(new URL('./node_modules/onnxruntime-web/dist/', import.meta.url));
const TYPES = { '.html': 'text/html', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };
const PAGE = '<!doctype html><title>WebGPU</title>';

const bundle = process.argv[2];
const manifest = JSON.parse(await readFile(path.join(bundle, 'manifest.json')));
const browser = await launch('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader');
const page = await (await browser.newContext()).newPage();

// Chromium gives WebGPU to secure origins, and localhost is one; no server listens there.
await page.route(`${ORIGIN}/**`, async (route) => {
  const [, folder, name] = new URL(route.request().url()).pathname.split('/');
  const contentType = TYPES[path.extname(name ?? '')] ?? 'application/octet-stream';
  if (!name) return route.fulfill({ body: PAGE, contentType: 'text/html' });
  const file = path.join(folder === 'runtime' ? RUNTIME : bundle, name);
  return route.fulfill({ body: await readFile(file), contentType });
});

// onnxruntime names each operator's provider in its log alone.
let placement = {};
let provider = '';
page.on('console', (message) => {
  const text = message.text();
  provider = /placed on \[(\w+)\]/.exec(text)?.[1] ?? provider;
  const operator = /VerifyEachNodeIsAssignedToAnEp\] {3}(\w+) \(/.exec(text)?.[1];
  if (!operator) return;
  placement[provider] ??= {};
  placement[provider][operator] = (placement[provider][operator] ?? 0) + 1;
});

await page.goto(`${ORIGIN}/`);
for await (const line of createInterface({ input: process.stdin })) {
  const { graph, inputs } = JSON.parse(line);
  placement = {};
  const answer = await page
    .evaluate(run, { graph, inputs, data: manifest.graphs[graph].data })
    .catch((error) => ({ error: String(error.message).replaceAll(/\s+/g, ' ') }));
  process.stdout.write(`${JSON.stringify({ ...answer, placement })}\n`);
}
await browser.close();

/** In the page: opens a graph, and runs it once. */
async function run({ graph, inputs, data }) {
  const ort = await import('/runtime/ort.webgpu.bundle.min.mjs');
  ort.env.wasm.wasmPaths = '/runtime/';
  ort.env.wasm.numThreads = 1;
  const file = async (name) => new Uint8Array(await (await fetch(`/bundle/${name}`)).arrayBuffer());
  const session = await ort.InferenceSession.create(await file(`${graph}.onnx`), {
    executionProviders: ['webgpu'],
    externalData: await Promise.all(data.map(async (name) => ({ path: name, data: await file(name) }))),
    logSeverityLevel: 0,
    logVerbosityLevel: 1,
  });
  const arrays = { float32: Float32Array, int64: BigInt64Array };
  const tensors = Object.entries(inputs).map(([name, { type, dims, data: text }]) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return [name, new ort.Tensor(type, new arrays[type](bytes.buffer), dims)];
  });
  const begin = performance.now();
  const found = await session.run(Object.fromEntries(tensors));
  const outputs = {};
  for (const [name, tensor] of Object.entries(found)) {
    const { buffer, byteOffset, byteLength } = await tensor.getData();
    let text = '';
    for (const byte of new Uint8Array(buffer, byteOffset, byteLength)) text += String.fromCharCode(byte);
    outputs[name] = { type: tensor.type, dims: tensor.dims, data: btoa(text) };
  }
  const seconds = (performance.now() - begin) / 1000;
  await session.release();
  return { outputs, seconds };
}
