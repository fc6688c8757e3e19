/**
 * Which kernel modules must be loaded for those that are wanted, and in which order; and the tables by which `modprobe`
 * finds that out in the guest (modules.dep and modules.alias, which Debian's packages do not carry: `depmod` makes them
 * where a package is installed).
 *
 * Specification: depmod(8), modules.dep(5), modprobe.d(5). Left out: patterns of device ids in modules.alias (nothing in
 * the guest asks for a driver by them) and dependencies by symbol, which a module lists by name in `depends=`.
 */
import { moduleName } from './modinfo.js';
import type { ModuleInfo } from './modinfo.js';

/** A module and where its file is. */
export interface ModuleFile extends ModuleInfo {
  /** Path below lib/modules/VERSION: "kernel/fs/ext4/ext4.ko". */
  readonly path: string;
}

/** The modules of one kernel. */
export class ModuleIndex {
  readonly #byName = new Map<string, ModuleFile>();
  readonly #byAlias = new Map<string, ModuleFile>();
  readonly #builtIn: ReadonlySet<string>;

  /**
   * @param builtIn Names of what is part of the kernel itself (modules.builtin), and so is always there.
   */
  constructor(files: Iterable<ModuleFile>, builtIn: Iterable<string>) {
    this.#builtIn = new Set([...builtIn].map(moduleName));
    for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : 1))) {
      this.#byName.set(file.name, file);
      for (const alias of file.aliases) {
        const key = moduleName(alias);
        // Several modules can offer one algorithm; the portable one suits every processor.
        if (!this.#byAlias.has(key) || file.name.endsWith('_generic')) this.#byAlias.set(key, file);
      }
    }
  }

  /**
   * The files to load for `wanted` (names or aliases), each after what it needs, none twice.
   * @throws RangeError for a name that is not there, or a dependency that is not, or one in a circle.
   */
  loadOrder(wanted: Iterable<string>): ModuleFile[] {
    const order = new Set<ModuleFile>();
    for (const name of wanted) this.#visit(name, order, []);
    return [...order];
  }

  #visit(name: string, order: Set<ModuleFile>, path: readonly string[]): void {
    const file = this.#find(name);
    if (file === undefined) {
      if (this.#builtIn.has(moduleName(name))) return;
      const forWhom = path.length === 0 ? '' : `, which ${path.at(-1)} needs`;
      throw new RangeError(`the kernel has no module ${name}${forWhom}`);
    }
    if (order.has(file)) return;
    if (path.includes(file.name)) throw new RangeError(`modules need each other: ${[...path, file.name].join(', ')}`);
    const below = [...path, file.name];
    for (const before of file.before) {
      // A soft dependency is a wish: it may be absent, or one that is being loaded already.
      const soft = this.#find(before);
      if (soft !== undefined && !below.includes(soft.name)) this.#visit(before, order, below);
    }
    for (const needed of file.depends) this.#visit(needed, order, below);
    order.add(file);
  }

  #find(name: string): ModuleFile | undefined {
    return this.#byName.get(moduleName(name)) ?? this.#byAlias.get(moduleName(name));
  }

  /** The text of modules.dep for `files`: each with what must be loaded before it, the first to be loaded last. */
  dependencyTable(files: readonly ModuleFile[]): string {
    const line = (file: ModuleFile): string => {
      const needs = this.loadOrder([file.name]).filter((other) => other !== file);
      return `${file.path}:${needs
        .reverse()
        .map((other) => ` ${other.path}`)
        .join('')}\n`;
    };
    return files.map(line).join('');
  }
}

/** The text of modules.alias for `files`, without the patterns of device ids. */
export function aliasTable(files: readonly ModuleFile[]): string {
  return files
    .flatMap((file) => file.aliases.filter((alias) => !/[*?[\s]/.test(alias)).map((alias) => [alias, file.name]))
    .map(([alias, name]) => `alias ${alias} ${name}\n`)
    .join('');
}
