/**
 * Firmware for a computer that boots from its drives, unmodified from Debian's packages: SeaBIOS
 * and its VGA BIOS (`seabios`), of which `bios-256k.bin` boots from NVMe, AHCI and IDE drives; and
 * OVMF (`ovmf`), which is UEFI.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Firmware } from '../machine/engine.js';
import { fetchPackages } from './fetch.node.js';
import type { FetchOptions } from './fetch.node.js';
import { readPackageLock } from './lock.node.js';
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

/** UEFI firmware: its code, and the content of the flash for its variables at the first start. */
export interface Uefi {
  readonly code: Uint8Array;
  readonly variables: Uint8Array;
}

const uefiFolder = 'usr/share/OVMF';
/** 64-bit, without Secure Boot, which would need system management mode. */
const uefiFiles = ['OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd'];

/**
 * Gets UEFI's firmware.
 * @throws FarbusError if the package cannot be obtained
 */
export async function prepareUefi(options: FetchOptions = {}): Promise<Uefi> {
  const lock = await readPackageLock(12, 'amd64');
  const parts = uefiFiles.map((name) => `./${uefiFolder}/${name}`);
  const path = await packageFolder('ovmf', parts, { ...options, lock });
  const [code, variables] = await Promise.all(uefiFiles.map((name) => readFile(join(path, uefiFolder, name))));
  return { code: code!, variables: variables! };
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
