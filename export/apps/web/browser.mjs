/** Headless Chromium for tests, with an empty profile and without background network requests. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function launch(...flags) {
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: [...FLAGS, ...flags] });
}

const TYPES = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** The headers that browsers require for threads. */
export const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/** Serves a static folder; resolves to its address and a function that stops it. */
export async function serve(folder, headers = ISOLATION) {
  const server = createServer(async ({ url }, response) => {
    const name = url === '/' ? 'index.html' : url.slice(1);
    const body = await readFile(join(folder, name)).catch(() => null);
    const type = TYPES[extname(name)] ?? 'application/octet-stream';
    response.writeHead(body ? 200 : 404, { 'Content-Type': type, ...headers }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { address: `http://localhost:${server.address().port}/`, stop: () => server.close() };
}

/** Runs `w2v-edge serve`; resolves to its bench page and a function that stops it. */
export async function lend(bundles, reports, ...options) {
  const words = ['-m', 'w2v_edge', 'serve', ...bundles, '--port', '0', '--json'];
  const server = spawn(process.env.PYTHON ?? 'python3', [...words, '--reports', reports, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: server.stdout });
  const line = await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    server.once('exit', () => reject(new Error('the server did not start')));
  });
  return { address: JSON.parse(line).bench[0], stop: () => server.kill() };
}

/** Opens the page and records console errors and requests to other origins. */
export async function visit(browser, address, viewport = { width: 1100, height: 900 }) {
  const context = await browser.newContext({
    permissions: ['clipboard-read', 'clipboard-write', 'microphone'],
    viewport,
    // Certificates of the tests are signed by themselves.
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  const complaints = [];
  const strangers = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  context.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== new URL(address).origin && !['data:', 'blob:'].includes(protocol)) {
      strangers.push(request.url());
    }
  });
  await page.goto(address);
  return { page, complaints, strangers };
}
