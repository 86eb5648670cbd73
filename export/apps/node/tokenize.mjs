/** `node tokenize.mjs BUNDLE FILE.wav`: prints the codes, an array of groups per frame. */
import { readFile } from 'node:fs/promises';

import { UserError } from '../../../w2v_edge/web/page/bundle/errors.js';
import { readWav } from '../../../w2v_edge/web/page/bundle/wav.js';
import { main } from './cli.mjs';
import { load } from './load.mjs';

await main('node tokenize.mjs BUNDLE FILE.wav', 2, async (folder, path) => {
  const model = await load(folder);
  const { rate, waveform } = readWav(await readAudio(path));
  const expected = model.manifest.sample_rate;
  if (rate !== expected) {
    throw new UserError(`${path}: found ${rate} Hz, the model takes ${expected} Hz; resample it`);
  }
  const { frames, groups, codes } = await model.tokenize(waveform);
  const rows = Array.from({ length: frames }, (_, n) => [
    ...codes.subarray(n * groups, (n + 1) * groups),
  ]);
  console.log(JSON.stringify(rows));
  return 0;
});

async function readAudio(path) {
  try {
    return await readFile(path);
  } catch (error) {
    throw new UserError(`${path}: cannot be read (${error.code})`);
  }
}
