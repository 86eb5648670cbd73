/**
 * `node build.mjs OUTPUT BUNDLE...`: writes a static web page with onnxruntime and bundles,
 * atomically.
 */
import { access, cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = join(HERE, '../../../w2v_edge/web/page');
const ORT = join(HERE, 'node_modules/onnxruntime-web/dist');
const VENDOR = ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'];
const MARK = '.w2v-edge-page';

const [output, ...bundles] = process.argv.slice(2);
if (!output || !bundles.length) fail('usage: node build.mjs OUTPUT BUNDLE...', 2);
if (!(await exists(ORT))) fail(`error: onnxruntime-web is not installed; run: npm ci --prefix ${HERE}`);
if ((await exists(output)) && !(await exists(join(output, MARK)))) {
  fail(`error: ${output} exists and was not written by this program; choose another output`);
}
const manifests = await Promise.all(bundles.map(readManifest));

const part = `${resolve(output)}.part`;
await rm(part, { recursive: true, force: true });
await mkdir(join(part, 'vendor'), { recursive: true });
await cp(PAGE, part, { recursive: true });
for (const name of VENDOR) await cp(join(ORT, name), join(part, 'vendor', name));
for (const [i, folder] of bundles.entries()) {
  const target = join(part, 'bundles', basename(resolve(folder)));
  for (const name of ['manifest.json', ...Object.keys(manifests[i].files)]) {
    await cp(join(folder, name), join(target, name));
  }
}
await writeFile(join(part, 'bundles.json'), JSON.stringify(bundles.map((x) => basename(resolve(x)))));
await writeFile(join(part, MARK), '');
await rm(output, { recursive: true, force: true });
await rename(part, output);

async function readManifest(folder) {
  const text = await readFile(join(folder, 'manifest.json'), 'utf8').catch(() => {
    fail(`error: ${folder}: expected a bundle; make one: w2v-edge export --target web`);
  });
  return JSON.parse(text);
}

async function exists(path) {
  return access(path).then(() => true, () => false);
}

function fail(line, code = 1) {
  console.error(line);
  process.exit(code);
}
