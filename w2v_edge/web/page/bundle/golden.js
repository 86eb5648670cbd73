/**
 * Reproduces a bundle's golden vectors: a padded batch of two and each graph's outputs at export.
 * `golden.npz` also has the tolerances by precision.
 */
import {
  compareCodes,
  compareFrames,
  compareLabels,
  compareLengths,
  compareMostCodes,
  compareValues,
  compareVectors,
  paddingIsZero,
  sameShape,
} from './compare.js';
import { readNpz } from './npz.js';

/**
 * @param {import('./model.js').Model} model
 * @returns {Promise<{rows: {graph, output, worst, allowed, ok}[], codes: number, changed: number,
 *   ok: boolean}>}
 */
export async function checkGolden(model) {
  const expected = await readNpz(await model.bundle.file('golden.npz'));
  const bars = JSON.parse(expected.bars.data)[model.manifest.precision];
  const rows = [];
  let codes = 0;
  let changed = 0;
  for (const [graph, inputs] of await graphInputs(model, expected)) {
    const found = await model.run(graph, inputs);
    for (const { name: output, axes } of model.manifest.graphs[graph].outputs) {
      if (output === 'statistics') continue;
      const result = compare({ model, graph, output, axes, found, expected, bars });
      if (graph === 'tokenizer' && output === 'codes') {
        codes = result.compared ?? 0;
        changed = result.worst;
      }
      rows.push({ graph, output, ...result });
    }
  }
  return { rows, codes, changed, ok: rows.every((row) => row.ok) };
}

/** Returns each graph of the bundle with its golden inputs. */
async function graphInputs(model, expected) {
  const { graphs } = model.manifest;
  const statistics = graphs.statistics ? await model.run('statistics', expected) : {};
  return Object.keys(graphs)
    .filter((graph) => graph !== 'statistics')
    .map((graph) => [graph, graph === 'frontend' ? { ...expected, ...statistics } : expected]);
}

function compare({ model, graph, output, axes, found, expected, bars }) {
  const ofContext = model.manifest.quantizer_input === 'context';
  const codeLengths = ofContext ? 'context_lengths' : 'frame_lengths';
  if (output.endsWith('_lengths')) {
    return compareLengths(found[output], expected[graph === 'tokenizer' ? codeLengths : output]);
  }
  const [mine, reference] = [asFrames(found[output]), asFrames(expected[output])];
  if (!sameShape(mine, reference)) return { worst: Infinity, allowed: 0, ok: false };
  const lengthsOf = (name) => Array.from(expected[name].data, Number);
  if (output === 'codes') {
    const lengths = lengthsOf(codeLengths);
    const result = 'cosine' in bars
      ? compareMostCodes(mine, reference, lengths, bars.code_drift)
      : compareCodes(mine, reference, lengths, expected.margins);
    // The quantizer has no lengths: its codes at padding are undefined.
    return { ...result, ok: result.ok && (graph === 'quantizer' || paddingIsZero(mine, lengths)) };
  }
  if (output === 'vectors') {
    const lengths = lengthsOf(codeLengths);
    return compareVectors(mine, reference, found.codes, expected.codes, lengths);
  }
  const lengths = mine === found[output]
    ? lengthsOf(axes[1] === 'context_frames' ? 'context_lengths' : 'frame_lengths')
    : new Array(mine.shape[0]).fill(1);
  if (!('cosine' in bars)) {
    const [std] = expected[`${output}_std`].data;
    return compareValues(mine, reference, lengths, std, bars[output] ?? bars.context);
  }
  if (output.startsWith('logits')) return compareLabels(mine, reference, lengths, bars.code_drift);
  return compareFrames(mine, reference, lengths, bars.cosine);
}

/** Treats an output per utterance as one frame. */
function asFrames(array) {
  const { shape, data } = array;
  return shape.length === 3 ? array : { shape: [shape[0], 1, shape[1]], data };
}
