/** The bench page in a real browser of a phone's size, served by `w2v-edge serve`. */
import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { launch, lend, visit } from './browser.mjs';

const { BUNDLE, REPORTS, CERTIFICATE, KEY } = process.env;
const AXE = fileURLToPath(import.meta.resolve('axe-core'));
const PHONE = { width: 390, height: 844 };
const PATIENCE = { timeout: 120_000 };

/** A name that is neither localhost nor secure, as the desk has on a network. */
const NAME = 'desk.test';

/** WebGPU is software here. */
const FLAGS = [
  `--host-resolver-rules=MAP ${NAME} 127.0.0.1`,
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
];

let browser;
let desk;

before(async () => {
  [browser, desk] = await Promise.all([launch(...FLAGS), lend([BUNDLE], REPORTS)]);
});

after(async () => {
  await browser?.close();
  desk?.stop();
});

async function opened(t, address = desk.address) {
  const visitor = await visit(browser, address, PHONE);
  t.after(() => visitor.page.context().close());
  await visitor.page.waitForSelector('#measure:enabled', PATIENCE);
  return visitor;
}

/** Chooses one run, 1 s of speech and the rest. */
async function choose(page, { run = '1 thread', rounds = '1', minutes = '0' }) {
  for (const box of await page.locator('#runs input').all()) await box.uncheck();
  await page.getByLabel(run).check();
  await page.selectOption('#seconds', '1');
  await page.fill('#rounds', rounds);
  await page.fill('#minutes', minutes);
}

async function measured(page, options) {
  await choose(page, options);
  await page.click('#measure');
  await page.waitForSelector('#status:not(:empty):is(.good, .bad)', PATIENCE);
  return page.textContent('#status');
}

async function noBarriers(page) {
  await page.evaluate(await readFile(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map((x) => `${x.id}: ${x.help}`), []);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
}

test('a measurement comes back to the desk, with threads and a drift', async (t) => {
  const { page, complaints, strangers } = await opened(t);
  await noBarriers(page);
  const runs = await page.locator('#runs label').allTextContents();
  const cores = await page.evaluate(() => navigator.hardwareConcurrency);
  assert.deepEqual(runs.slice(0, 2), cores > 1 ? ['1 thread', '2 threads'] : ['1 thread', 'WebGPU']);
  const line = await measured(page, { minutes: '0.02' });
  const [, name] = /^The report is at the desk: (\S+\.json)$/.exec(line) ?? assert.fail(line);
  const report = JSON.parse(await readFile(join(REPORTS, name), 'utf8'));
  const [{ case: one, trials, drift, failure }, ...others] = report.cases;
  assert.deepEqual(others, []);
  assert.equal(failure, '');
  assert.deepEqual([one.provider, one.threads, one.seconds, one.graph], ['wasm', 1, 1, 'encoder']);
  assert.equal(trials.length, 1);
  for (const { load_ms, first_ms, peak_mb, loaded_mb } of trials) {
    assert.ok(load_ms > 0 && first_ms > 0 && peak_mb >= loaded_mb && loaded_mb > 1);
  }
  assert.ok(drift.length > 1 && drift.every((x) => x.p50_ms > 0));
  assert.ok(report.device.cpu.features.includes('wasm_simd128'));
  assert.match(await page.textContent('tbody tr'), /^1 thread[\d.]+ m?s/);
  assert.match(await page.getAttribute('#curve', 'aria-label'), /without a pause/);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await noBarriers(page);
    if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${colorScheme}.png`), fullPage: true });
  }
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  const saved = JSON.parse(await readFile(await download.path(), 'utf8'));
  assert.deepEqual(saved.cases[0].trials[0].latencies_ms, trials[0].latencies_ms);
  assert.deepEqual([complaints, strangers], [[], []]);
});

test('WebGPU runs', async (t) => {
  const { page, complaints } = await opened(t);
  assert.match(await measured(page, { run: 'WebGPU' }), /^The report is at the desk/);
  assert.match(await page.textContent('tbody tr'), /^WebGPU[\d.]+ m?s/);
  assert.deepEqual(complaints, []);
});

test('the keyboard is enough, and a stop sends nothing', async (t) => {
  const { page } = await opened(t);
  await choose(page, { minutes: '5' });
  const before = (await readdir(REPORTS)).length;
  await page.focus('#minutes');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#running:not([hidden])');
  await page.waitForFunction(() => document.activeElement.id === 'stop');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#status').textContent.startsWith('Stopped'));
  assert.ok(await page.locator('#choice').isVisible());
  assert.equal((await readdir(REPORTS)).length, before);
});

test('plain http on a network measures one thread; what cannot be sent can be saved', async (t) => {
  const { page } = await opened(t, desk.address.replace('localhost', NAME));
  assert.deepEqual(await page.locator('#runs label').allTextContents(), ['1 thread']);
  assert.match(await page.textContent('#missing'), /one thread.*--certificate/);
  await page.route('**/reports', (route) => route.abort());
  assert.match(await measured(page, {}), /^the desk does not answer/);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  await writeFile(join(REPORTS, 'saved.json'), await readFile(await download.path()));
});

test('https on a network has threads', async (t) => {
  const safe = await lend([BUNDLE], REPORTS, '--certificate', CERTIFICATE, '--key', KEY);
  t.after(safe.stop);
  const { page } = await opened(t, safe.address.replace('localhost', NAME));
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  const run = (await page.getByLabel('2 threads').count()) ? '2 threads' : '1 thread';
  assert.match(await measured(page, { run }), /^The report is at the desk/);
  assert.match(await page.textContent('tbody tr'), new RegExp(`^${run}[\\d.]+ m?s`));
  assert.ok(await page.evaluate(() => document.querySelector('#tables').scrollWidth <= document.querySelector('#tables').clientWidth));
});

test('a page without a desk says so', async (t) => {
  const { page } = await visit(browser, desk.address, PHONE);
  t.after(() => page.context().close());
  await page.route('**/desk.json', (route) => route.fulfill({ status: 404, body: '' }));
  await page.reload();
  await page.waitForSelector('#status.bad');
  assert.match(await page.textContent('#status'), /^there is no desk behind this page; run: w2v-edge serve/);
});
