/**
 * Makes a disk with a complete Debian from Debian's packages for i386 or amd64: a "minbase" (the
 * essential packages and apt) with sysvinit, Debian's kernel with our initramfs, and GRUB. No
 * program of the packages is run, so any user can make it on any computer. The image is cached
 * under a hash of all its inputs.
 *
 * Left out: configuring the packages, which needs a processor of theirs. dpkg records them as
 * "unpacked", and `dpkg --configure -a` in the guest configures them. Kernel modules are in the
 * initramfs only.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import { cacheFolder, makeFolder, sha256 } from '../cache.node.js';
import { markUsed } from '../cache-use.node.js';
import { kernelParts } from '../debian.node.js';
import { fetchPackages, knownPackages } from '../fetch.node.js';
import type { FetchOptions, FetchedPackage } from '../fetch.node.js';
import { buildInitramfs } from '../initramfs.node.js';
import { readLock, readPackageLock } from '../lock.node.js';
import type { Architecture, DebianPackage, PackageLock } from '../lock.node.js';
import { filesBelow, unpackPackage } from '../unpack.node.js';
import { configuration, grubConfig } from './configuration.js';
import { configure, prepareTree } from './configure.node.js';
import { grubEfiFolder, needEfiTools } from './efi.node.js';
import { makeImage, needImageTools } from './image.node.js';
import { unpackPackages } from './packages.node.js';
import { copySparse } from './sparse.node.js';
import { RootTree } from './tree.node.js';

export interface GuestDiskOptions extends FetchOptions {
  /** Default: i386. UEFI can only boot a disk for amd64. */
  readonly architecture?: Architecture | undefined;
  /** Size of the disk in bytes, a multiple of 1 MiB. Default: {@link defaultSize}. */
  readonly size?: number | undefined;
}

/** Default size; the system fills half of it. */
export const defaultSize = 512 << 20;
/** Minimum size: packages, journal and file system tables just fit. */
export const minSize = 256 << 20;

interface Ingredients {
  /** Lock file of the packages on the disk. */
  readonly lockFile: string;
  readonly kernel: string;
  /** Driver of the board's network card. */
  readonly network: string;
  /** Parts of a disk that UEFI can boot. */
  readonly efi?: {
    /** The package with GRUB's modules for UEFI. */
    readonly grub: string;
    /** Module of the file system that shows UEFI's variables. */
    readonly variables: string;
  };
}

const ingredients: Readonly<Record<Architecture, Ingredients>> = {
  i386: { lockFile: 'packages-minbase.lock.json', kernel: 'linux-image-686', network: 'ne2k-pci' },
  amd64: {
    lockFile: 'packages-minbase-amd64.lock.json',
    kernel: 'linux-image-amd64',
    network: 'virtio_net',
    efi: { grub: 'grub-efi-amd64-bin', variables: 'efivarfs' },
  },
};
/**
 * Drivers for every bus that the disk may be on. Loading a driver without its device costs a tenth
 * of a second.
 */
const diskModules = ['crc64_rocksoft_generic', 'nvme', 'ahci', 'ata_piix', 'sd_mod', 'ext4'];

/** Version of the recipe. Raise it when the same inputs lead to another image. */
const format = 1;

/**
 * Writes the disk image to the file `out`, replacing it.
 * @throws FarbusError if a program is missing, the packages cannot be obtained, or the disk is too
 * small
 */
export async function makeGuestDisk(out: string, options: GuestDiskOptions = {}): Promise<void> {
  const recipe = await Recipe.read(options);
  const onBytes = (done: number, total: number): void => options.onProgress?.({ label: 'copying', done, total });
  const copy = async (): Promise<boolean> => {
    await markUsed(recipe.folder);
    const sum = await readFile(join(recipe.folder, sumName), 'utf8').catch(() => undefined);
    return sum !== undefined && (await copySparse(join(recipe.folder, imageName), out, onBytes)) === sum;
  };
  if (await copy()) return;
  await rm(recipe.folder, { recursive: true, force: true });
  await recipe.make();
  if (!(await copy())) throw new FarbusError(`${recipe.folder} cannot be read: delete it and try again`);
}

/** The work of {@link makeGuestDisk} as far as it is known before it. */
export interface GuestDiskPlan {
  /** The image is in the cache and is only copied. */
  readonly cached: boolean;
  /** Packages that are fetched unless they are in the cache, and their bytes. 0 if `cached`. */
  readonly packages: number;
  readonly bytes: number;
}

/**
 * Says what {@link makeGuestDisk} would do; makes and changes nothing.
 * @throws FarbusError if a program is missing
 */
export async function planGuestDisk(options: GuestDiskOptions = {}): Promise<GuestDiskPlan> {
  const recipe = await Recipe.read(options);
  const cached = [imageName, sumName].every((name) => existsSync(join(recipe.folder, name)));
  if (cached) return { cached, packages: 0, bytes: 0 };
  await recipe.checkTools();
  return { cached, packages: recipe.packages.length, bytes: recipe.packages.reduce((sum, { size }) => sum + size, 0) };
}

const imageName = 'disk.img';
const sumName = 'SUM';

interface Inputs {
  readonly lock: PackageLock;
  readonly kernelLock: PackageLock;
  readonly init: string;
  readonly key: string;
  readonly packages: readonly DebianPackage[];
}

class Recipe {
  /** Cache folder of the image. */
  readonly folder: string;
  /** All packages that are needed. */
  readonly packages: readonly DebianPackage[];
  readonly #options: GuestDiskOptions;
  readonly #size: number;
  readonly #architecture: Architecture;
  readonly #lock: PackageLock;
  readonly #kernelLock: PackageLock;
  readonly #init: string;

  private constructor(options: GuestDiskOptions, { lock, kernelLock, init, key, packages }: Inputs) {
    this.#options = options;
    this.#architecture = options.architecture ?? 'i386';
    this.#size = options.size ?? defaultSize;
    this.#lock = lock;
    this.#kernelLock = kernelLock;
    this.#init = init;
    this.packages = packages;
    this.folder = join(options.cacheDir ?? cacheFolder(), 'guest-disk', key);
  }

  static async read(options: GuestDiskOptions): Promise<Recipe> {
    const architecture = options.architecture ?? 'i386';
    const { lockFile } = ingredients[architecture];
    const lock = await readLock(lockFile);
    const kernelLock = await readPackageLock(12, architecture);
    const init = await readFile(new URL('../../../src/guest/disk/init.sh', import.meta.url), 'utf8');
    const known = [...(await knownPackages(namesOf(lock), { ...options, lock })), ...(await knownPackages(bootPackages(architecture), { ...options, lock: kernelLock }))]; // prettier-ignore
    const sums = known.map((one) => one.sha256);
    const modules = [modulesFor(architecture), modulesOnDemand(architecture)];
    const inputs = [format, options.size ?? defaultSize, sums, init, configuration, grubFor(architecture), modules];
    const key = sha256(JSON.stringify(inputs)).slice(0, 32);
    return new Recipe(options, { lock, kernelLock, init, key, packages: known });
  }

  /** @throws FarbusError if a program that makes the image is missing */
  async checkTools(): Promise<void> {
    await needImageTools();
    if (ingredients[this.#architecture].efi !== undefined) needEfiTools();
  }

  async make(): Promise<void> {
    const { signal } = this.#options;
    await this.checkTools();
    const base = await this.#fetch(this.#lock);
    const kernel = await this.#fetch(this.#kernelLock, bootPackages(this.#architecture));
    await makeFolder(this.folder, async (temporary) => {
      const tree = new RootTree(join(temporary, 'root'));
      await mkdir(tree.folder);
      await prepareTree(tree);
      let done = 0;
      const total = base.reduce((sum, { size }) => sum + size, 0);
      await unpackPackages(
        tree,
        base,
        ({ size }) => {
          done += size;
          this.#options.onProgress?.({ label: 'unpacking', done, total });
        },
        signal,
      );
      await configure(tree);
      await tree.write('boot/grub/grub.cfg', grubFor(this.#architecture));
      await this.#putKernel(tree, kernel);
      const grub = kernel[2] && (await unpackPackage(kernel[2], [`./${grubEfiFolder}/*`], this.#unpacking));
      const efiModules = grub === undefined ? undefined : join(grub, grubEfiFolder);
      this.#options.log?.log('info', 'making the file system');
      const image = join(temporary, imageName);
      await makeImage(image, tree, { size: this.#size, folder: temporary, efiModules }, { signal });
      await rm(tree.folder, { recursive: true });
      await writeFile(join(temporary, sumName), await copySparse(image));
    });
  }

  /** Fetches packages of a lock file and reports them as one piece of progress. */
  async #fetch(lock: PackageLock, names = namesOf(lock)): Promise<FetchedPackage[]> {
    const { onProgress } = this.#options;
    const wanted = lock.packages.filter(({ name }) => names.includes(name));
    const total = wanted.reduce((sum, { size }) => sum + size, 0);
    const fetched: FetchedPackage[] = [];
    let done = 0;
    for (const { name, size } of wanted) {
      const tell = ({ done: now }: { done: number }): void =>
        onProgress?.({ label: 'packages of Debian', done: Math.min(done + now, total - 1), total });
      fetched.push(...(await fetchPackages([name], { ...this.#options, lock, onProgress: tell })));
      done += size;
    }
    onProgress?.({ label: 'packages of Debian', done: total, total });
    return fetched;
  }

  get #unpacking(): { cacheDir: string | undefined; signal: AbortSignal | undefined } {
    return { cacheDir: this.#options.cacheDir, signal: this.#options.signal };
  }

  async #putKernel(tree: RootTree, packages: readonly FetchedPackage[]): Promise<void> {
    const unpack = this.#unpacking;
    const kernelFolder = await unpackPackage(packages[0]!, kernelParts, unpack);
    const busyboxFolder = await unpackPackage(packages[1]!, ['./bin/busybox'], unpack);
    const [image] = await filesBelow(join(kernelFolder, 'boot'));
    const initramfs = await buildInitramfs({
      kernelFolder,
      busyboxFolder,
      modules: modulesFor(this.#architecture),
      modulesOnDemand: modulesOnDemand(this.#architecture),
      init: this.#init,
    });
    await tree.write('boot/vmlinuz', await readFile(join(kernelFolder, 'boot', image!)));
    await tree.write('boot/initrd.img', initramfs);
  }
}

/** Kernel, busybox, and GRUB for UEFI if the disk has it. */
function bootPackages(architecture: Architecture): string[] {
  const { kernel, efi } = ingredients[architecture];
  return [kernel, 'busybox-static', ...(efi === undefined ? [] : [efi.grub])];
}

function grubFor(architecture: Architecture): string {
  return grubConfig(architecture === 'i386');
}

function modulesFor(architecture: Architecture): string[] {
  return [...diskModules, ingredients[architecture].network];
}

/** Modules that the initramfs loads only if UEFI has booted the disk. */
function modulesOnDemand(architecture: Architecture): string[] {
  const { efi } = ingredients[architecture];
  return efi === undefined ? [] : [efi.variables];
}

function namesOf(lock: PackageLock): string[] {
  return lock.packages.map(({ name }) => name);
}
