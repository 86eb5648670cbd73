/** The page in a real browser, on real speech, against the codes that Python gives. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { launch, serve, visit } from './browser.mjs';

const { FIXTURE, PAGE } = process.env;
const CLIP = join(FIXTURE, 'clip.wav');
const AXE = fileURLToPath(import.meta.resolve('axe-core'));
const expected = JSON.parse(await readFile(join(FIXTURE, 'expected.json'), 'utf8'));

let browser;
let server;
let scratch;

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'w2v-edge-page-'));
  [browser, server] = await Promise.all([launch(), serve(PAGE)]);
});

after(async () => {
  await browser?.close();
  server?.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function opened(t, address = server.address, from = browser) {
  const visitor = await visit(from, address);
  t.after(() => visitor.page.context().close());
  await visitor.page.waitForSelector('#check:enabled', { timeout: 60_000 });
  return visitor;
}

async function choose(page, name) {
  await page.selectOption('#bundle', name);
  await page.waitForSelector('#check:disabled');
  await page.waitForSelector('#check:enabled', { timeout: 60_000 });
}

async function codesOf(page, file) {
  await page.setInputFiles('#file', file);
  return shownCodes(page);
}

async function shownCodes(page) {
  await page.waitForSelector('#result:not([hidden])', { timeout: 60_000 });
  await page.click('#copy');
  await page.waitForFunction(() => document.querySelector('#copy').textContent === 'Copied');
  return JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
}

async function complaint(page, file) {
  await page.setInputFiles('#file', file);
  const line = page.locator('#status.bad:not(:empty)');
  await line.waitFor();
  assert.ok(await page.locator('#result').isHidden());
  return line.textContent();
}

function drift(found, wanted) {
  assert.equal(found.length, wanted.length);
  const [a, b] = [found.flat(), wanted.flat()];
  return a.filter((code, i) => code !== b[i]).length / b.length;
}

for (const file of ['clip.wav', 'clip.flac']) {
  test(`float32 codes of ${file} equal those of Python`, async (t) => {
    const { page, complaints, strangers } = await opened(t);
    await choose(page, 'tiny-int8');
    await choose(page, 'tiny-fp32');
    assert.deepEqual(await codesOf(page, join(FIXTURE, file)), expected['tiny-fp32']);
    assert.equal(await page.textContent('#frames'), `${expected['tiny-fp32'].length}`);
    assert.deepEqual([complaints, strangers], [[], []]);
  });
}

test('a recording may be dropped on the page', async (t) => {
  const { page } = await opened(t);
  const bytes = (await readFile(CLIP)).toString('base64');
  const transfer = await page.evaluateHandle((text) => {
    const data = new DataTransfer();
    const content = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    data.items.add(new File([content], 'dropped.wav'));
    return data;
  }, bytes);
  await page.dispatchEvent('#drop', 'drop', { dataTransfer: transfer });
  assert.deepEqual(await shownCodes(page), expected['tiny-fp32']);
  assert.equal(await page.textContent('#name'), 'dropped.wav');
});

test('int8 codes equal those of Python within the golden tolerance', async (t) => {
  const { page } = await opened(t);
  await choose(page, 'tiny-int8');
  const found = await codesOf(page, CLIP);
  const differ = drift(found, expected['tiny-int8']);
  t.diagnostic(`share of int8 codes that differ: ${differ.toFixed(4)}`);
  assert.ok(differ <= 0.02, `${differ}`);
});

const verdicts = {
  'tiny-fp32': /^Equal to Python: yes, 502 codes$/,
  'tiny-int8': /^Equal to Python: (yes, 502 codes|as far as int8 allows, \d+ of 502 codes differ)$/,
};
for (const [name, verdict] of Object.entries(verdicts)) {
  test(`golden vectors of ${name} are reproduced`, async (t) => {
    const { page, complaints } = await opened(t);
    if (name !== 'tiny-fp32') await choose(page, name);
    await page.click('#check');
    await page.waitForSelector('#verdict.good, #verdict.bad', { timeout: 60_000 });
    assert.match(await page.textContent('#verdict'), verdict);
    assert.deepEqual(complaints, []);
  });
}

test('a recording at another rate is resampled', async (t) => {
  const { page } = await opened(t);
  const bytes = await readFile(CLIP);
  bytes.writeUInt32LE(32_000, 24);
  const fast = join(scratch, 'fast.wav');
  await writeFile(fast, bytes);
  const found = await codesOf(page, fast);
  assert.ok(Math.abs(found.length - expected['tiny-fp32'].length / 2) <= 1, `${found.length}`);
});

test('invalid or too short audio is reported in one line', async (t) => {
  const { page, complaints } = await opened(t);
  const noise = join(scratch, 'noise.wav');
  await writeFile(noise, 'this is text');
  assert.match(await complaint(page, noise), /^this file is not readable as audio/);
  const empty = join(scratch, 'empty.wav');
  await writeFile(empty, '');
  assert.match(await complaint(page, empty), /^this file is empty/);
  const short = join(scratch, 'short.wav');
  const bytes = (await readFile(CLIP)).subarray(0, 44 + 2 * 399);
  bytes.writeUInt32LE(36 + 2 * 399, 4);
  bytes.writeUInt32LE(2 * 399, 40);
  await writeFile(short, bytes);
  assert.match(await complaint(page, short), /^too short: found 399 samples, expected at least 400/);
  // And the page goes on working.
  assert.deepEqual(await codesOf(page, CLIP), expected['tiny-fp32']);
  assert.deepEqual(complaints, []);
});

/** Serves a copy of the page that `spoil` has changed; returns what the page says. */
async function spoilt(t, spoil) {
  const folder = await mkdtemp(join(scratch, 'spoilt-'));
  await cp(PAGE, folder, { recursive: true });
  await spoil(folder);
  const { address, stop } = await serve(folder);
  t.after(stop);
  const { page } = await visit(browser, address);
  t.after(() => page.context().close());
  await page.waitForSelector('#status.bad:not(:empty)');
  return page.textContent('#status');
}

test('a page without bundles says so', async (t) => {
  const line = await spoilt(t, (folder) => writeFile(join(folder, 'bundles.json'), '[]'));
  assert.match(line, /^there is no bundle next to this page/);
});

test('a file that is missing is named', async (t) => {
  const line = await spoilt(t, (folder) => rm(join(folder, 'bundles/tiny-fp32/manifest.json')));
  assert.match(line, /^no bundle here: manifest.json is missing/);
});

for (const name of ['manifest.json', 'tokenizer.onnx', 'frontend.bin']) {
  test(`one changed byte of ${name} is refused`, async (t) => {
    const line = await spoilt(t, async (folder) => {
      const path = join(folder, 'bundles/tiny-fp32', name);
      const bytes = await readFile(path);
      // In the manifest that is a digit of some hash: the JSON stays whole.
      const at = name === 'manifest.json' ? bytes.indexOf('"sha256": "') + 11 : bytes.length >> 1;
      bytes[at] = bytes[at] === 0x30 ? 0x31 : 0x30;
      await writeFile(path, bytes);
    });
    assert.match(line, new RegExp(`^${name}: damaged`));
  });
}

test('a static server without special headers is enough', async (t) => {
  const plain = await serve(PAGE, {});
  t.after(plain.stop);
  const { page } = await opened(t, plain.address);
  assert.match(await page.textContent('#about'), /1 thread$/);
  assert.deepEqual(await codesOf(page, CLIP), expected['tiny-fp32']);
});

for (const colorScheme of ['light', 'dark']) {
  test(`nothing keeps people out, in ${colorScheme} colours on a phone`, async (t) => {
    const { page } = await opened(t);
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 390, height: 800 });
    // The page's policy forbids scripts of others; a debugger may still run one.
    await page.evaluate(await readFile(AXE, 'utf8'));
    for (const show of [async () => {}, () => codesOf(page, CLIP)]) {
      await show();
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map((found) => `${found.id}: ${found.help}`), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    }
  });
}

test('the microphone records, and its codes are shown', async (t) => {
  const flags = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];
  const listening = await launch(...flags, `--use-file-for-fake-audio-capture=${CLIP}`);
  t.after(() => listening.close());
  const { page, complaints } = await opened(t, server.address, listening);
  await page.click('#record');
  await page.waitForSelector('#record.on:enabled');
  await page.waitForTimeout(1500);
  await page.click('#record');
  const codes = await shownCodes(page);
  assert.ok(codes.length > 20, `${codes.length} frames`);
  assert.ok(new Set(codes.map(String)).size > 5, 'speech has many codes');
  assert.deepEqual(complaints, []);
});
