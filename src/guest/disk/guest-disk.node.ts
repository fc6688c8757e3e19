/**
 * A whole Debian on a disk: a "minbase" (the essential packages and apt) with sysvinit, Debian's kernel with an initramfs
 * of ours, and GRUB, out of Debian's i386 packages. Nothing of it is run here, so that it can be made on any computer and
 * by any user. The image is kept in the cache under a hash of all that it depends on.
 *
 * Left out: configuring the packages, which needs their processor: dpkg says "unpacked" of them, and `dpkg --configure -a`
 * in the guest does it. The modules of the kernel are in the initramfs only.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FarbusError } from '../../base/errors.js';
import { cacheFolder, makeFolder, sha256 } from '../cache.node.js';
import { kernelParts } from '../debian.node.js';
import { fetchPackages, knownPackages } from '../fetch.node.js';
import type { FetchOptions, FetchedPackage } from '../fetch.node.js';
import { buildInitramfs } from '../initramfs.node.js';
import { readLock, readPackageLock } from '../lock.node.js';
import type { PackageLock } from '../lock.node.js';
import { needTools } from '../tools.node.js';
import { filesBelow, unpackPackage } from '../unpack.node.js';
import { configuration } from './configuration.js';
import { configure, prepareTree } from './configure.node.js';
import { makeImage, needImageTools } from './image.node.js';
import { unpackPackages } from './packages.node.js';
import { copySparse } from './sparse.node.js';
import { RootTree } from './tree.node.js';

export interface GuestDiskOptions extends FetchOptions {
  /** Bytes, a multiple of 1 MiB. Default: {@link defaultSize}. */
  readonly size?: number | undefined;
}

/** What the system fills half of. */
export const defaultSize = 512 << 20;
/** Packages, journal and tables, and nothing more. */
export const minSize = 256 << 20;

const kernelPackages = ['linux-image-686', 'busybox-static'];
/** Whatever the disk is on, and the board's network card: a driver without its device costs a tenth of a second. */
const modules = ['crc64_rocksoft_generic', 'nvme', 'ahci', 'ata_piix', 'sd_mod', 'ext4', 'ne2k-pci'];

/** To be raised where the same inputs give another image. */
const format = 1;

/**
 * Writes the disk to the file `out`, which is replaced.
 * @throws FarbusError where a program is missing, the packages are not to be had, or the disk is too small.
 */
export async function makeGuestDisk(out: string, options: GuestDiskOptions = {}): Promise<void> {
  const recipe = await Recipe.read(options);
  const onBytes = (done: number, total: number): void => options.onProgress?.({ label: 'copying', done, total });
  const copy = async (): Promise<boolean> => {
    const sum = await readFile(join(recipe.folder, sumName), 'utf8').catch(() => undefined);
    return sum !== undefined && (await copySparse(join(recipe.folder, imageName), out, onBytes)) === sum;
  };
  if (await copy()) return;
  await rm(recipe.folder, { recursive: true, force: true });
  await recipe.make();
  if (!(await copy())) throw new FarbusError(`${recipe.folder} cannot be read: delete it and try again`);
}

const imageName = 'disk.img';
const sumName = 'SUM';

class Recipe {
  /** Where the image is in the cache. */
  readonly folder: string;
  readonly #options: GuestDiskOptions;
  readonly #size: number;
  readonly #lock: PackageLock;
  readonly #init: string;

  private constructor(options: GuestDiskOptions, lock: PackageLock, init: string, key: string) {
    this.#options = options;
    this.#size = options.size ?? defaultSize;
    this.#lock = lock;
    this.#init = init;
    this.folder = join(options.cacheDir ?? cacheFolder(), 'guest-disk', key);
  }

  static async read(options: GuestDiskOptions): Promise<Recipe> {
    const lock = await readLock('packages-minbase.lock.json');
    const init = await readFile(new URL('../../../src/guest/disk/init.sh', import.meta.url), 'utf8');
    const known = [...(await knownPackages(namesOf(lock), { ...options, lock })), ...(await knownPackages(kernelPackages, options))]; // prettier-ignore
    const sums = known.map((one) => one.sha256);
    const inputs = [format, options.size ?? defaultSize, sums, init, configuration, modules];
    return new Recipe(options, lock, init, sha256(JSON.stringify(inputs)).slice(0, 32));
  }

  async make(): Promise<void> {
    const { signal } = this.#options;
    await needImageTools();
    needTools('dpkg-deb', 'tar', 'xz');
    const base = await this.#fetch(this.#lock);
    const kernel = await this.#fetch(await readPackageLock(), kernelPackages);
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
      await this.#putKernel(tree, kernel);
      this.#options.log?.log('info', 'making the file system');
      const image = join(temporary, imageName);
      await makeImage(image, this.#size, tree, temporary, { signal });
      await rm(tree.folder, { recursive: true });
      await writeFile(join(temporary, sumName), await copySparse(image));
    });
  }

  /** All of a lock file's packages, with one line of progress for all. */
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

  async #putKernel(tree: RootTree, packages: readonly FetchedPackage[]): Promise<void> {
    const unpack = { cacheDir: this.#options.cacheDir, signal: this.#options.signal };
    const kernelFolder = await unpackPackage(packages[0]!, kernelParts, unpack);
    const busyboxFolder = await unpackPackage(packages[1]!, ['./bin/busybox'], unpack);
    const [image] = await filesBelow(join(kernelFolder, 'boot'));
    const initramfs = await buildInitramfs({
      kernelFolder,
      busyboxFolder,
      modules,
      init: this.#init,
    });
    await tree.write('boot/vmlinuz', await readFile(join(kernelFolder, 'boot', image!)));
    await tree.write('boot/initrd.img', initramfs);
  }
}

function namesOf(lock: PackageLock): string[] {
  return lock.packages.map(({ name }) => name);
}
