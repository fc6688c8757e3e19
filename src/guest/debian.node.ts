/**
 * Prepares the guest, Debian's kernel and user land for i386 or amd64, from the archive to what the
 * boot loader takes. All parts are cached; a second call only reads a few files.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, cachedFiles, readCachedFiles, sha256 } from './cache.node.js';
import { fetchPackages, knownPackages } from './fetch.node.js';
import type { FetchOptions, FetchedPackage } from './fetch.node.js';
import { buildInitramfs } from './initramfs.node.js';
import type { ExtraFile } from './initramfs.node.js';
import { unpackKernel } from './kernel.node.js';
import type { Kernel } from './kernel.node.js';
import { readPackageLock, type Architecture, type DebianPackage, type DebianRelease } from './lock.node.js';
import { choosePackages, fetchWithDependencies } from './packages.node.js';
import { checkToolSize, maintainerPackages, toolEntries } from './tool-packages.node.js';
import { filesBelow, unpackPackage } from './unpack.node.js';

/** A guest ready to be loaded. */
export interface DebianGuest {
  readonly kernel: Kernel;
  /** A cpio archive, uncompressed. */
  readonly initramfs: Uint8Array;
  /** The kernel's version: "6.1.0-50-686 (6.1.176-1)". */
  readonly version: string;
  /**
   * Hash of kernel and initramfs. A snapshot of a running guest can only be restored with the same
   * id.
   */
  readonly id: string;
}

export interface GuestOptions extends FetchOptions {
  /** Default: 12. */
  readonly release?: DebianRelease | undefined;
  /** Default: i386. */
  readonly architecture?: Architecture | undefined;
  /** Modules to load at boot. Default: {@link bootModules}. */
  readonly modules?: readonly string[];
  /** Modules that can be loaded later. Default: {@link onDemandModules}. */
  readonly modulesOnDemand?: readonly string[];
  /** Names of further packages of the release to include with their dependencies. Default: none. */
  readonly tools?: readonly string[] | undefined;
  readonly extraFiles?: readonly ExtraFile[];
  /** Replaces the init script that comes with this program. */
  readonly init?: string;
}

/**
 * The kernel's parameters (the kernel's Documentation/admin-guide/kernel-parameters.txt).
 * "nokaslr" is not needed: only the unpacking code of a bzImage moves the kernel, and that code is
 * not used here.
 */
export const defaultCommandLine = [
  'console=ttyS0', // messages and the shell use the serial port, the client computer's console
  'quiet', // no message per driver: each costs emulated port writes
  'cryptomgr.notests', // self-tests take a third of the boot (docs/notes/engine.md, "Boot times")
  'tsc=reliable', // the emulated time-stamp counter is, but under load a watchdog distrusts it
  'no_timer_check', // the timer interrupt works, but the kernel's check of it fails on a busy host
  'panic=-1', // a panic resets the guest at once, which ends the command that runs it
  'rdinit=/init', // the init script of this initramfs
].join(' ');

const diskModules: readonly string[] = [
  'nvme',
  'ext4',
  'vfat',
  'nls_cp437', // vfat's default code page
  'nls_ascii', // vfat's default character set in Debian's kernel
  'nls_iso8859-1',
  'nls_utf8',
];

/** Modules that a release's kernel needs before `diskModules`. */
const firstModules: Readonly<Record<DebianRelease, readonly string[]>> = {
  // Without it, nvme's integrity code runs modprobe for it while it loads.
  12: ['crc64_rocksoft_generic'],
  11: [],
};

/** Modules for the guest's far disk and its file systems, loaded before the shell starts. */
export function bootModules(release: DebianRelease = 12): readonly string[] {
  return [...firstModules[release], ...diskModules];
}

/** Modules for drives on an AHCI adapter: disks, optical discs and their file system. */
export const ahciModules: readonly string[] = ['ahci', 'sd_mod', 'sr_mod', 'isofs'];

/** Modules for drives on the board's IDE controller. */
export const ideModules: readonly string[] = ['ata_piix', 'sd_mod'];

/** Modules for a computer's network card: v86's board has an NE2000, KVM's a virtio card. */
export const networkModules: Readonly<Record<Architecture, readonly string[]>> = {
  i386: ['ne2k-pci'],
  amd64: ['virtio_pci', 'virtio_net'],
};

/** Modules that `modprobe` can load later: disks on other buses, networks, file systems. */
export const onDemandModules: readonly string[] = ['ahci', 'ata_piix', 'sd_mod', 'ne2k-pci', 'aoe', 'loop', 'sg'];

const kernelPackage: Readonly<Record<Architecture, string>> = { i386: 'linux-image-686', amd64: 'linux-image-amd64' };
const busyboxPackage = 'busybox-static';

/**
 * Modules to unpack from the kernel package (180 MB in all). {@link bootModules}, {@link
 * onDemandModules} and callers' lists must be among them.
 */
const kernelModules = [
  'block/*',
  'crypto/*',
  'drivers/ata/*',
  'drivers/block/*',
  'drivers/cdrom/*',
  'drivers/net/ethernet/8390/*',
  'drivers/net/net_failover.ko',
  'drivers/net/virtio_net.ko',
  'drivers/nvme/*',
  'drivers/scsi/s*',
  'drivers/virtio/*',
  'fs/*',
  'lib/*',
  'net/core/*',
];
/** Parts of the kernel package to unpack. */
export const kernelParts: readonly string[] = [
  './boot/vmlinuz-*',
  './lib/modules/*/modules.builtin',
  ...kernelModules.map((path) => `./lib/modules/*/kernel/${path}`),
];

/** Version of the recipe. Raise it when the same inputs lead to another archive. */
const initramfsFormat = 2;

/**
 * Downloads, unpacks and assembles the guest.
 * @throws FarbusError if the packages cannot be obtained
 */
export async function prepareDebianGuest(given: GuestOptions = {}): Promise<DebianGuest> {
  const { architecture = 'i386' } = given;
  const options = { ...given, lock: given.lock ?? (await readPackageLock(given.release, architecture)) };
  const recipe = new Recipe(options, options.init ?? (await readInit()));
  const names = [kernelPackage[architecture], busyboxPackage];
  const { tools = [] } = options;
  const choice = { ...options, without: maintainerPackages, check: checkToolSize };
  const known = await knownPackages(names, options);
  const knownTools = tools.length === 0 ? [] : await choosePackages(tools, choice);
  const ready = await recipe.fromCache([...known, ...knownTools]);
  if (ready !== undefined) return ready;
  const fetched = await fetchPackages(names, options);
  const fetchedTools = tools.length === 0 ? [] : await fetchWithDependencies(tools, choice);
  return await recipe.make([...fetched, ...fetchedTools]);
}

const kernelFiles = ['bzImage', 'vmlinux'] as const;
const initramfsFiles = ['initramfs'] as const;

/** The recipe of one guest, and the cache paths of its parts. */
class Recipe {
  readonly #cacheDir: string;
  readonly #options: GuestOptions;
  readonly #modules: readonly string[];
  readonly #modulesOnDemand: readonly string[];
  readonly #init: string;

  constructor(options: GuestOptions, init: string) {
    this.#cacheDir = options.cacheDir ?? cacheFolder();
    this.#options = options;
    this.#modules = options.modules ?? bootModules(options.release);
    this.#modulesOnDemand = options.modulesOnDemand ?? onDemandModules;
    this.#init = init;
  }

  async fromCache(packages: readonly DebianPackage[]): Promise<DebianGuest | undefined> {
    const [kernel, rest] = await Promise.all([
      readCachedFiles(this.#kernelPath(packages), kernelFiles),
      readCachedFiles(this.#initramfsPath(packages), initramfsFiles),
    ]);
    return kernel && rest && guestOf(packages, kernel, rest.initramfs);
  }

  async make(packages: readonly FetchedPackage[]): Promise<DebianGuest> {
    const [kernelDeb, busyboxDeb, ...tools] = packages as readonly [
      FetchedPackage,
      FetchedPackage,
      ...FetchedPackage[],
    ];
    const unpack = { cacheDir: this.#cacheDir, ...(this.#options.signal && { signal: this.#options.signal }) };
    const kernelFolder = await unpackPackage(kernelDeb, kernelParts, unpack);
    const kernel = await cachedFiles(this.#kernelPath(packages), kernelFiles, async () => {
      const file = (await filesBelow(join(kernelFolder, 'boot')))[0]!;
      return { ...(await unpackKernel(join(kernelFolder, 'boot', file), { signal: this.#options.signal })) };
    });
    const { initramfs } = await cachedFiles(this.#initramfsPath(packages), initramfsFiles, async () => ({
      initramfs: await buildInitramfs({
        kernelFolder,
        busyboxFolder: await unpackPackage(busyboxDeb, ['./bin/busybox'], unpack),
        modules: this.#modules,
        modulesOnDemand: this.#modulesOnDemand,
        tools: await toolEntries(tools, unpack),
        extraFiles: this.#options.extraFiles ?? [],
        init: this.#init,
      }),
    }));
    return guestOf(packages, kernel, initramfs);
  }

  #kernelPath(packages: readonly DebianPackage[]): string {
    return join(this.#cacheDir, 'kernel', packages[0]!.sha256.slice(0, 32));
  }

  #initramfsPath(packages: readonly DebianPackage[]): string {
    const extra = (this.#options.extraFiles ?? []).map(({ path, mode, data }) => [path, mode ?? null, sha256(data)]);
    const sums = packages.map((one) => one.sha256);
    const inputs = [initramfsFormat, sums, this.#modules, this.#modulesOnDemand, extra, this.#init];
    return join(this.#cacheDir, 'initramfs', sha256(JSON.stringify(inputs)).slice(0, 32));
  }
}

function guestOf(packages: readonly DebianPackage[], kernel: Kernel, initramfs: Uint8Array): DebianGuest {
  const { package: name, version } = packages[0]!;
  return {
    kernel,
    initramfs,
    version: `${name.replace('linux-image-', '')} (${version})`,
    id: sha256(sha256(kernel.bzImage), sha256(kernel.vmlinux), sha256(initramfs)),
  };
}

/**
 * The init script that comes with this program. src/guest and dist/guest use the same file, as with
 * the lock file.
 */
async function readInit(): Promise<string> {
  return await readFile(new URL('../../src/guest/init.sh', import.meta.url), 'utf8');
}
