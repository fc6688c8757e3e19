/** The files for computers in tabs: many who ask for them at once cost the work of one. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { v86Module } from '../../src/app/computer/start.js';
import { tabSnapshotFile } from '../../src/app/web/guest-computer.js';
import { GuestFolder } from '../../src/app/web/guest-files.js';
import { SharedBytes } from '../../src/app/web/shared-bytes.js';
import { silent } from '../../src/base/log.js';
import { sha256 } from '../../src/guest/cache.node.js';
import { snapshotVersion } from '../../src/machine/snapshot.js';

test('the engine is compressed once, whoever asks for it', async () => {
  const folder = new GuestFolder(silent);
  const name = `wasm-${sha256(readFileSync(v86Module())).slice(0, 32)}.wasm`;
  const files = await Promise.all([1, 2, 3].map(() => folder.engineFile(name, 'gzip')));
  const wasm = readFileSync(join(dirname(v86Module()), 'v86.wasm'));
  expect(gunzipSync(files[0]!.bytes).equals(wasm)).toBe(true);
  expect(files[0]).toMatchObject({ type: 'application/wasm', encoding: 'gzip', kept: true });
  for (const file of files) expect(file!.bytes).toBe(files[0]!.bytes);
  const brotli = await folder.engineFile(name, 'br');
  expect(brotliDecompressSync(brotli!.bytes).equals(wasm)).toBe(true);
  expect(brotli).toMatchObject({ type: 'application/wasm', encoding: 'br', kept: true });
  expect(brotli!.bytes.length).toBeLessThan(files[0]!.bytes.length * 0.85);
  expect(await folder.engineFile('wasm-0.wasm', 'br')).toBeUndefined();
  expect(await folder.engineFile('__proto__-0.js', 'gzip')).toBeUndefined();
});

test('shared bytes are made once at a time, and again after a failure', async () => {
  const shared = new SharedBytes();
  let made = 0;
  const make = async (): Promise<Uint8Array> => Uint8Array.of(++made);
  const [one, other] = await Promise.all([shared.get('a', make), shared.get('a', make)]);
  expect(other).toBe(one);
  expect(made).toBe(1);
  const failing = shared.get('b', () => Promise.reject(new Error('no room')));
  await expect(failing).rejects.toThrow('no room');
  expect(await shared.get('b', make)).toEqual(Uint8Array.of(2));
});

test('the snapshot for tabs has the version of its format in its name', () => {
  // A file of another version, which a tab cannot read, stays in caches under its own name.
  const guest = { id: 'debian', image: undefined, version: '', readyText: undefined };
  expect(tabSnapshotFile(guest)).toMatch(new RegExp(`/[0-9a-f]{32}-${snapshotVersion}[.]snapshot$`));
});
