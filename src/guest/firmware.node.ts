/**
 * Firmware for a computer that boots from its drives: SeaBIOS and its VGA BIOS, unmodified from
 * Debian's package `seabios`. `bios-256k.bin` boots from NVMe, AHCI and IDE drives.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Firmware } from '../machine/engine.js';
import { fetchPackages } from './fetch.node.js';
import type { FetchOptions } from './fetch.node.js';
import { unpackPackage } from './unpack.node.js';

const folder = 'usr/share/seabios';
const biosFile = 'bios-256k.bin';
/** VGA BIOS for the engine's adapter: VGA with the Bochs display interface. */
const vgaFile = 'vgabios-stdvga.bin';

/**
 * Gets the firmware.
 * @throws FarbusError if the package cannot be obtained
 */
export async function prepareFirmware(options: FetchOptions = {}): Promise<Firmware> {
  const path = await packageFolder('seabios', [`./${folder}/${biosFile}`, `./${folder}/${vgaFile}`], options);
  const [bios, vgaBios] = await Promise.all([biosFile, vgaFile].map((name) => readFile(join(path, folder, name))));
  return { bios: bios!, vgaBios: vgaBios! };
}

/**
 * The folder with parts of a pinned package: fetches the package and unpacks the parts ({@link
 * fetchPackages}, {@link unpackPackage}).
 */
export async function packageFolder(
  name: string,
  parts: readonly string[],
  options: FetchOptions = {},
): Promise<string> {
  const [fetched] = await fetchPackages([name], options);
  return await unpackPackage(fetched!, parts, {
    cacheDir: options.cacheDir,
    ...(options.signal && { signal: options.signal }),
  });
}
