/** Opens graphs with onnxruntime-web; used by both pages. */

/** Address of onnxruntime-web's files. */
export const VENDOR = new URL('./vendor/', import.meta.url).href;

/**
 * @param {typeof import('onnxruntime-web')} ort
 * @param {{manifest: object, file: Function}} bundle from `openBundle`; checks the files
 * @param {string} graph
 * @param {'wasm' | 'webgpu'} provider operators that it lacks run in WebAssembly
 * @returns {Promise<InferenceSession>}
 */
export async function openGraph(ort, bundle, graph, provider = 'wasm') {
  const { data } = bundle.manifest.graphs[graph];
  const [bytes, ...weights] = await Promise.all([`${graph}.onnx`, ...data].map(bundle.file));
  return ort.InferenceSession.create(bytes, {
    executionProviders: [provider],
    logSeverityLevel: 3,
    externalData: data.map((path, i) => ({ path, data: weights[i] })),
  });
}
