/** Opens a bundle on disk with onnxruntime-node. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import ort from 'onnxruntime-node';

import { UserError } from '../../../w2v_edge/web/page/bundle/errors.js';
import { openBundle } from '../../../w2v_edge/web/page/bundle/files.js';
import { Model } from '../../../w2v_edge/web/page/bundle/model.js';

/**
 * @param {string} folder the bundle
 * @returns {Promise<Model>} its graphs are verified and opened at their first run
 */
export async function load(folder) {
  const bundle = await openBundle((name) => read(join(folder, name)));
  const open = async (graph) => {
    const files = [`${graph}.onnx`, ...bundle.manifest.graphs[graph].data];
    await Promise.all(files.map(bundle.file));
    return ort.InferenceSession.create(join(folder, files[0]), { logSeverityLevel: 4 });
  };
  return new Model(bundle, open, ort.Tensor);
}

async function read(path) {
  try {
    return await readFile(path);
  } catch (error) {
    throw new UserError(`${path}: cannot be read (${error.code}); make a bundle: w2v-edge export`);
  }
}
