/**
 * Reads numpy's .npz: a zip of .npy arrays.
 *
 * Only numpy's own output is supported: stored or deflated members, little-endian, C order. Sizes
 * are checked before memory is allocated.
 */
import { UserError } from './errors.js';

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;
const LARGEST_MEMBER = 2 ** 30;

const TYPES = {
  '<f4': Float32Array,
  '<f8': Float64Array,
  '<i8': BigInt64Array,
};

/**
 * @param {Uint8Array} bytes of the file
 * @returns {Promise<Record<string, {shape: number[], data: TypedArray | string}>>} text is a scalar
 */
export async function readNpz(bytes) {
  const arrays = {};
  for (const entry of directory(bytes)) {
    const member = await inflate(bytes, entry);
    arrays[entry.name.replace(/\.npy$/, '')] = readNpy(member, entry.name);
  }
  return arrays;
}

function damaged(what) {
  return new UserError(`golden.npz: damaged, ${what}; export again`);
}

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function slice(bytes, start, length) {
  if (start + length > bytes.length) throw damaged('it ends early');
  return bytes.subarray(start, start + length);
}

function directory(bytes) {
  const data = view(bytes);
  // numpy writes an empty comment after the end record.
  const end = bytes.length - 22;
  if (end < 0 || data.getUint32(end, true) !== END_OF_DIRECTORY) throw damaged('not a zip file');
  const entries = [];
  let at = data.getUint32(end + 16, true);
  for (let i = 0; i < data.getUint16(end + 10, true); i += 1) {
    const head = view(slice(bytes, at, 46));
    if (head.getUint32(0, true) !== DIRECTORY_ENTRY) throw damaged('its directory is not one');
    const nameLength = head.getUint16(28, true);
    entries.push({
      name: new TextDecoder().decode(slice(bytes, at + 46, nameLength)),
      method: head.getUint16(10, true),
      packed: head.getUint32(20, true),
      size: head.getUint32(24, true),
      offset: head.getUint32(42, true),
    });
    at += 46 + nameLength + head.getUint16(30, true) + head.getUint16(32, true);
  }
  return entries;
}

async function inflate(bytes, { name, method, packed, size, offset }) {
  const head = view(slice(bytes, offset, 30));
  if (head.getUint32(0, true) !== LOCAL_HEADER) throw damaged(`${name} has no header`);
  if (size > LARGEST_MEMBER) throw damaged(`${name} claims ${size} bytes`);
  const start = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const content = slice(bytes, start, packed);
  if (method === 0 && packed === size) return content.slice();
  if (method !== 8) throw damaged(`${name} is packed in a way that numpy does not write`);
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return collect(stream, size, name);
}

async function collect(stream, size, name) {
  const out = new Uint8Array(size);
  let at = 0;
  try {
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      out.set(value, at);
      at += value.length;
    }
  } catch {
    throw damaged(`${name} cannot be unpacked to ${size} bytes`);
  }
  if (at !== size) throw damaged(`${name} holds ${at} bytes instead of ${size}`);
  return out;
}

function readNpy(bytes, name) {
  const magic = String.fromCharCode(...slice(bytes, 1, 5));
  if (bytes[0] !== 0x93 || magic !== 'NUMPY' || bytes[6] !== 1) throw damaged(`${name} is no array`);
  const length = view(bytes).getUint16(8, true);
  const header = new TextDecoder('latin1').decode(slice(bytes, 10, length));
  const [, type] = /'descr': '([^']+)'/.exec(header) ?? [];
  const [, axes] = /'shape': \(([\d, ]*)\)/.exec(header) ?? [];
  if (axes === undefined || !header.includes("'fortran_order': False")) {
    throw damaged(`${name} has a header that is not understood`);
  }
  const shape = axes.split(',').filter((axis) => axis.trim()).map(Number);
  const content = bytes.slice(10 + length);
  const count = shape.reduce((product, axis) => product * axis, 1);
  if (type?.startsWith('<U')) return { shape, data: text(content) };
  const Type = TYPES[type];
  if (!Type || count * Type.BYTES_PER_ELEMENT !== content.length) {
    throw damaged(`${name} is not the ${type} [${shape}] that it says`);
  }
  return { shape, data: new Type(content.buffer) };
}

/** numpy's text is UTF-32, padded with zeros. */
function text(content) {
  const points = new Uint32Array(content.buffer, 0, content.length >> 2);
  return String.fromCodePoint(...points.filter((point) => point));
}
