/** Reads a bundle's files; each is checked against the manifest first. */
import { UserError } from './errors.js';

const FORMAT_VERSION = 1;

/**
 * @param {(name: string) => Promise<Uint8Array>} read returns a file's bytes
 * @param {boolean} hashed whether hashes are checked; browsers lack them over plain http
 * @returns {Promise<{manifest: object, file: (name: string) => Promise<Uint8Array>}>}
 */
export async function openBundle(read, hashed = true) {
  const manifest = await readManifest(read, hashed);
  const file = async (name) => {
    const expected = manifest.files[name];
    if (!expected) throw new UserError(`${name}: not in the manifest; export again`);
    const bytes = await read(name);
    if (bytes.length !== expected.size || (hashed && (await sha256(bytes)) !== expected.sha256)) {
      throw new UserError(`${name}: damaged or changed, its SHA-256 differs from the manifest`);
    }
    return bytes;
  };
  return { manifest, file };
}

async function readManifest(read, hashed) {
  const bytes = await read('manifest.json');
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new UserError('manifest.json: damaged, not JSON; export again');
  }
  if (manifest.format_version !== FORMAT_VERSION) {
    throw new UserError(
      `manifest.json: format version ${manifest.format_version}, this program reads ${FORMAT_VERSION}`,
    );
  }
  if (hashed && (await contentHash(bytes)) !== manifest.sha256) {
    throw new UserError('manifest.json: damaged or edited, its SHA-256 differs; export again');
  }
  return manifest;
}

/** SHA-256 of a manifest without the line that states it. */
async function contentHash(bytes) {
  const text = new TextDecoder().decode(bytes);
  return sha256(new TextEncoder().encode(text.replace(/^ "sha256": "[0-9a-f]{64}",\n/m, '')));
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new UserError('hashes cannot be checked here: open the page by https or on localhost');
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
