/** `node verify.mjs BUNDLE`: checks the files' hashes and the golden vectors; exit code 3 if they differ. */
import { checkGolden } from '../../../w2v_edge/web/page/bundle/golden.js';
import { main } from './cli.mjs';
import { load } from './load.mjs';

await main('node verify.mjs BUNDLE', 1, async (folder) => {
  const model = await load(folder);
  const files = Object.keys(model.manifest.files);
  for (const name of files) await model.bundle.file(name);
  const { rows, codes, ok } = await checkGolden(model);
  for (const { graph, output, worst, allowed, ok: fine } of rows) {
    const figures = `${worst.toExponential(2)}, allowed ${allowed.toExponential(2)}`;
    console.log(`${fine ? 'ok   ' : 'FAIL '} ${graph.padEnd(10)} ${output.padEnd(16)} ${figures}`);
  }
  console.log(`${folder}: ${files.length} files, ${codes} codes, ${ok ? 'verified' : 'DIFFERS'}`);
  return ok ? 0 : 3;
});
