/** Headless Chromium for tests, with an empty profile and without background network requests. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

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

/** Serves a folder; resolves to its address and a function that stops it. */
export async function serve(folder) {
  const script = fileURLToPath(new URL('./serve.py', import.meta.url));
  const server = spawn(process.env.PYTHON ?? 'python3', [script, folder, '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: server.stdout });
  const line = await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    server.once('exit', () => reject(new Error('the server did not start')));
  });
  return { address: line.split(' ')[0], stop: () => server.kill() };
}

/** Opens the page and records console errors and requests to other origins. */
export async function visit(browser, address) {
  const context = await browser.newContext({
    permissions: ['clipboard-read', 'clipboard-write', 'microphone'],
    viewport: { width: 1100, height: 900 },
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
