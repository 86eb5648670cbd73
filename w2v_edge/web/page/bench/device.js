/** What the browser says about the device: the fields of a report's device. */

/** A module with an instruction of SIMD, i8x16.popcnt. */
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
];

/** A module with an instruction of relaxed SIMD, i8x16.relaxed_swizzle. */
const RELAXED_SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15,
  65, 2, 253, 15, 253, 128, 2, 11,
];

/** @returns {Promise<{device: object, hasGpu: boolean}>} all fields but those of onnxruntime */
export async function describeDevice() {
  const hints = await userAgentHints();
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const gpu = gpuName(adapter);
  const cores = navigator.hardwareConcurrency || 1;
  const system = hints.platform ?? systemOf(navigator.userAgent);
  const [browser, version] = hints.browser ?? browserOf(navigator.userAgent);
  const cpu = {
    model: hints.model || `unknown processor of ${modelOf(navigator.userAgent)}`,
    architecture: hints.architecture || navigator.platform || 'unknown',
    features: features(),
    cores,
    physical_cores: null,
    usable_cores: cores,
    affinity: [],
    quota: null,
    governor: null,
    min_mhz: null,
    max_mhz: null,
  };
  const device = {
    identity: hash([cpu.model, cpu.architecture, cores, gpu, system].join('\n')),
    cpu,
    memory_mb: navigator.deviceMemory ? (navigator.deviceMemory * 2 ** 30) / 1e6 : null,
    memory_limit_mb: null,
    gpus: gpu ? [{ name: gpu, driver: 'unknown', memory_mb: null }] : [],
    system,
    container: null,
    virtual: null,
    python: '',
    packages: { [browser]: version },
  };
  return { device, hasGpu: Boolean(adapter) };
}

/** Names that Chromium gives to secure pages; other browsers give none. */
async function userAgentHints() {
  const wanted = ['architecture', 'bitness', 'fullVersionList', 'model', 'platformVersion'];
  const found = await navigator.userAgentData?.getHighEntropyValues(wanted).catch(() => null);
  if (!found) return {};
  const brand = found.fullVersionList?.find(({ brand: name }) => !/not.*brand/i.test(name));
  return {
    model: found.model,
    architecture: found.architecture && `${found.architecture} ${found.bitness} bits`,
    platform: `${found.platform} ${found.platformVersion}`.trim(),
    browser: brand && [brand.brand, brand.version],
  };
}

function modelOf(agent) {
  return /\b(iPhone|iPad|Macintosh|Windows|Android|Linux)\b/.exec(agent)?.[1] ?? 'a device';
}

function systemOf(agent) {
  return /\(([^)]*)\)/.exec(agent)?.[1].slice(0, 80) ?? 'unknown';
}

function browserOf(agent) {
  const known = /\b(Firefox|Edg|OPR|SamsungBrowser|Chrome)\/([\d.]+)/.exec(agent);
  if (known) return [known[1], known[2]];
  return ['Safari', /Version\/([\d.]+)/.exec(agent)?.[1] ?? 'unknown'];
}

/** Browsers hide the processor, but most of them name the GPU, which tells the chip of a phone. */
function gpuName(adapter) {
  const context = document.createElement('canvas').getContext('webgl');
  const names = context?.getExtension('WEBGL_debug_renderer_info');
  const { vendor, architecture, description } = adapter?.info ?? {};
  return (
    (names && context.getParameter(names.UNMASKED_RENDERER_WEBGL))
    || description
    || [vendor, architecture].filter(Boolean).join(' ')
  );
}

function features() {
  const supports = (bytes) => WebAssembly.validate(Uint8Array.from(bytes));
  return [
    ...(supports(SIMD) ? ['wasm_simd128'] : []),
    ...(supports(RELAXED_SIMD) ? ['wasm_relaxed_simd'] : []),
  ];
}

/** 64 bits of FNV-1a: an insecure page has no SHA-256. */
function hash(text) {
  let found = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) {
    found = BigInt.asUintN(64, (found ^ BigInt(byte)) * 0x100000001b3n);
  }
  return found.toString(16).padStart(16, '0');
}
