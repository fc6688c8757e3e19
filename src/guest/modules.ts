/**
 * Computes the load order of kernel modules, and the tables that `modprobe` in the guest reads
 * (modules.dep, modules.alias). Debian's packages do not contain these tables: `depmod` creates
 * them when a package is installed.
 *
 * Specification: depmod(8), modules.dep(5), modprobe.d(5).
 *
 * Left out: patterns of device ids in modules.alias, because the guest loads no driver by them;
 * dependencies by symbol, because modules name their dependencies in `depends=`.
 */
import { moduleName } from './modinfo.js';
import type { ModuleInfo } from './modinfo.js';

/** A module and the path of its file. */
export interface ModuleFile extends ModuleInfo {
  /** Path below lib/modules/VERSION: "kernel/fs/ext4/ext4.ko". */
  readonly path: string;
}

/** The modules of one kernel. */
export class ModuleIndex {
  readonly #byName = new Map<string, ModuleFile>();
  readonly #byAlias = new Map<string, ModuleFile>();
  readonly #builtIn: ReadonlySet<string>;

  /** Names of modules built into the kernel (modules.builtin). */
  constructor(files: Iterable<ModuleFile>, builtIn: Iterable<string>) {
    this.#builtIn = new Set([...builtIn].map(moduleName));
    for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : 1))) {
      this.#byName.set(file.name, file);
      for (const alias of file.aliases) {
        const key = moduleName(alias);
        // Several modules can implement one algorithm. Prefer the generic one, which suits every
        // processor.
        if (!this.#byAlias.has(key) || file.name.endsWith('_generic')) this.#byAlias.set(key, file);
      }
    }
  }

  /**
   * The files to load for `wanted` (names or aliases), each after its dependencies, without
   * duplicates.
   * @throws RangeError for an unknown name, a missing dependency or a dependency cycle
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
      // A soft dependency is optional: it may be missing, or part of a cycle.
      const soft = this.#find(before);
      if (soft !== undefined && !below.includes(soft.name)) this.#visit(before, order, below);
    }
    for (const needed of file.depends) this.#visit(needed, order, below);
    order.add(file);
  }

  #find(name: string): ModuleFile | undefined {
    return this.#byName.get(moduleName(name)) ?? this.#byAlias.get(moduleName(name));
  }

  /**
   * The text of modules.dep for `files`: each file with its dependencies, the one to load first
   * last.
   */
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

/** The text of modules.alias for `files`, without patterns of device ids. */
export function aliasTable(files: readonly ModuleFile[]): string {
  return files
    .flatMap((file) => file.aliases.filter((alias) => !/[*?[\s]/.test(alias)).map((alias) => [alias, file.name]))
    .map(([alias, name]) => `alias ${alias} ${name}\n`)
    .join('');
}
