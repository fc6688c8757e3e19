/**
 * Programs that make and check file systems: those of this computer, or else Debian's, which are
 * fetched and verified as the guest's packages are, and run from the cache. They come with their
 * own C library, so they run on any Linux on an x86-64 or ARM64 processor.
 */
import { lstat } from 'node:fs/promises';
import { arch, platform } from 'node:os';
import { join } from 'node:path';
import { FarbusError, messageOf } from '../base/errors.js';
import { fetchPackages, type FetchOptions } from './fetch.node.js';
import { readLock } from './lock.node.js';
import { hasTool, needTools, runTool, type Program, type Tool } from './tools.node.js';
import { unpackPackage } from './unpack.node.js';

interface Architecture {
  readonly lockFile: string;
  /** Name of the folders that hold libraries of this architecture. */
  readonly triplet: string;
  /** The program that loads programs and their libraries (ld.so(8)). */
  readonly loader: string;
}

/** By the names that Node gives to processors. */
const architectures: Readonly<Record<string, Architecture>> = {
  x64: {
    lockFile: 'packages-tools-amd64.lock.json',
    triplet: 'x86_64-linux-gnu',
    loader: 'ld-linux-x86-64.so.2',
  },
  arm64: {
    lockFile: 'packages-tools-arm64.lock.json',
    triplet: 'aarch64-linux-gnu',
    loader: 'ld-linux-aarch64.so.1',
  },
};

/** Folders of programs in packages. */
const binaries = ['sbin', 'usr/sbin', 'usr/bin'];

/** A set of programs that can be run. */
export class Programs {
  readonly #fetched: ReadonlyMap<Tool, Program>;

  private constructor(fetched: ReadonlyMap<Tool, Program>) {
    this.#fetched = fetched;
  }

  /**
   * Finds the programs `tools`, and fetches those that this computer does not have.
   * @throws FarbusError if Debian's do not run on this computer either, or cannot be obtained
   */
  static async find(tools: readonly Tool[], options: FetchOptions = {}): Promise<Programs> {
    const missing = tools.filter((tool) => !hasTool(tool));
    const architecture = platform() === 'linux' ? architectures[arch()] : undefined;
    if (architecture === undefined) needTools(...missing);
    if (architecture === undefined || missing.length === 0) return new Programs(new Map());
    return new Programs(await fetchPrograms(missing, architecture, options));
  }

  /** Names of the programs that were fetched. */
  get fetched(): Tool[] {
    return [...this.#fetched.keys()];
  }

  /**
   * Runs one of the programs.
   * @throws FarbusError if it fails
   */
  async run(tool: Tool, args: readonly string[], signal?: AbortSignal): Promise<void> {
    const { status, errors, output } = await runTool(tool, args, { signal, program: this.#fetched.get(tool) });
    const text = (errors || Buffer.from(output).toString()).trim().split('\n').at(-1);
    if (status !== 0) throw new FarbusError(`${tool} failed with status ${status}: ${messageOf(text ?? '')}`);
  }
}

async function fetchPrograms(
  tools: readonly Tool[],
  { lockFile, triplet, loader }: Architecture,
  options: FetchOptions,
): Promise<Map<Tool, Program>> {
  const lock = await readLock(lockFile);
  const packages = await fetchPackages(
    lock.packages.map(({ name }) => name),
    { ...options, lock },
  );
  const choice = { cacheDir: options.cacheDir, signal: options.signal, without: ['./usr/share'] };
  const folders: string[] = [];
  for (const one of packages) folders.push(await unpackPackage(one, ['.'], choice));
  const libraries = folders.flatMap((folder) => ['lib', 'usr/lib'].map((name) => join(folder, name, triplet)));
  const file = await firstOf(libraries, loader);
  const programs = new Map<Tool, Program>();
  for (const tool of tools) {
    const program = await firstOf(
      folders.flatMap((folder) => binaries.map((name) => join(folder, name))),
      tool,
    );
    programs.set(tool, {
      file,
      args: ['--library-path', libraries.join(':'), program],
      // mcopy converts names between character sets, with tables of the C library.
      environment: { GCONV_PATH: libraries.map((folder) => join(folder, 'gconv')).join(':') },
    });
  }
  return programs;
}

/** The path of `name` in the first of the folders that has it. */
async function firstOf(folders: readonly string[], name: string): Promise<string> {
  for (const folder of folders) {
    const path = join(folder, name);
    const found = await lstat(path).catch(() => undefined);
    if (found !== undefined) return path;
  }
  throw new FarbusError(`Debian's packages have no ${name}: delete the folder "unpacked" of the cache`);
}
