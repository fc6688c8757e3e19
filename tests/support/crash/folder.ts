/**
 * A folder on a disk with a volatile write cache. It is driven by recorded system calls
 * (record.ts), and tells what a power cut can leave.
 *
 * Durable for certain are the data and length of a file as of its last acknowledged sync, and the
 * names as of the last sync of the folder. Everything else is uncertain: each sector of 512 bytes
 * independently has its durable content or any later one, so writes are lost, torn and reordered;
 * the same holds for lengths. Of the changes of names, a power cut keeps the first few, as in a
 * file system with a journal. A sector is never torn.
 */
import type { Random } from '../../../src/conformance/random.js';
import type { CallEvent, Change } from './record.js';

const sector = 512;

interface Version {
  readonly data: Buffer;
  /** The call that wrote it. */
  readonly by: Change;
  /** Number of its call, in the order in which calls began. */
  readonly order: number;
  done: boolean;
}

class File {
  readonly durable = new Map<number, Buffer>();
  durableSize: number;
  /** Later contents of each sector, oldest first. */
  readonly pending = new Map<number, Version[]>();
  readonly sizes: { readonly size: number; readonly by: Change; done: boolean }[] = [];

  constructor(content: Uint8Array = new Uint8Array(0)) {
    this.durableSize = content.length;
    for (let at = 0; at < content.length; at += sector) this.durable.set(at / sector, padded(content, at));
  }

  get size(): number {
    return this.sizes.at(-1)?.size ?? this.durableSize;
  }

  now(index: number): Buffer {
    return this.pending.get(index)?.at(-1)?.data ?? this.durable.get(index) ?? Buffer.alloc(sector);
  }
}

/**
 * A power cut keeps everything, nothing, or something in between. `late` keeps the last calls
 * and loses those before, so that a later write overtakes an earlier one.
 */
const modes = ['all', 'none', 'sectors', 'sectors', 'few', 'most', 'calls', 'calls', 'pages', 'late', 'late'] as const;

export class CrashFolder {
  #names: Map<string, File>;
  /** The durable names, and the changes of names since. */
  #durableNames: Map<string, File>;
  readonly #changes: { readonly apply: (names: Map<string, File>) => void; done: boolean; readonly by: Change }[] = [];
  readonly #files = new Set<File>();
  /** By sync call: makes durable what that sync covers. */
  readonly #syncs = new Map<Change, () => void>();
  /** The file of a call when the call began. It may have another name when the call ends. */
  readonly #targets = new Map<Change, File>();
  #calls = 0;
  /** Files that lose nothing. They stand for files on another disk. */
  readonly #elsewhere: ReadonlySet<string>;

  constructor(content: ReadonlyMap<string, Uint8Array>, elsewhere: readonly string[] = []) {
    this.#names = new Map([...content].map(([name, bytes]) => [name, new File(bytes)]));
    this.#durableNames = new Map(this.#names);
    for (const file of this.#names.values()) this.#files.add(file);
    this.#elsewhere = new Set(elsewhere);
  }

  apply({ change, ended }: CallEvent): void {
    if (ended) this.#end(change);
    else this.#begin(change);
  }

  #begin(change: Change): void {
    this.#calls++;
    switch (change.kind) {
      case 'create':
        if (!this.#names.has(change.name)) {
          const file = new File();
          this.#files.add(file);
          this.#rename(change, (names) => names.set(change.name, file));
        } else if (change.truncates) {
          this.#resize(change, this.#names.get(change.name)!, 0);
        }
        return;
      case 'write': {
        const file = this.#names.get(change.name)!;
        this.#targets.set(change, file);
        this.#write(change, file, change.at, change.data);
        return;
      }
      case 'zero': {
        const file = this.#names.get(change.name)!;
        this.#targets.set(change, file);
        const length = Math.min(change.length, file.size - change.at);
        if (length > 0) this.#write(change, file, change.at, Buffer.alloc(length));
        return;
      }
      case 'resize':
        return this.#resize(change, this.#names.get(change.name)!, change.size);
      case 'sync':
        return void this.#syncs.set(change, prepareSync(this.#names.get(change.name)!));
      case 'syncFolder': {
        const done = this.#changes.filter((one) => one.done);
        this.#syncs.set(change, () => this.#settleNames(done));
        return;
      }
      case 'rename':
        return this.#rename(change, (names) => {
          const file = names.get(change.from);
          if (!file) return;
          names.set(change.to, file);
          names.delete(change.from);
        });
      case 'remove':
        return this.#rename(change, (names) => names.delete(change.name));
      case 'mark':
    }
  }

  #end(change: Change): void {
    this.#syncs.get(change)?.();
    this.#syncs.delete(change);
    for (const one of this.#changes) if (one.by === change) one.done = true;
    const file = this.#targets.get(change);
    if (!file) return;
    this.#targets.delete(change);
    for (const size of file.sizes) if (size.by === change) size.done = true;
    const indexes = change.kind === 'write' ? sectorsOf(change.at, change.data.length) : file.pending.keys();
    for (const index of indexes) {
      for (const version of file.pending.get(index) ?? []) if (version.by === change) version.done = true;
    }
    for (const name of this.#elsewhere) if (this.#names.get(name) === file) prepareSync(file)();
  }

  #write(by: Change, file: File, at: number, data: Buffer): void {
    for (const index of sectorsOf(at, data.length)) {
      const start = index * sector;
      const bytes = Buffer.from(file.now(index));
      const from = Math.max(at, start);
      data.copy(bytes, from - start, from - at, Math.min(start + sector, at + data.length) - at);
      const versions = file.pending.get(index);
      const version = { data: bytes, by, order: this.#calls, done: false };
      if (versions) versions.push(version);
      else file.pending.set(index, [version]);
    }
    const end = at + data.length;
    if (end > file.size) file.sizes.push({ size: end, by, done: false });
  }

  #resize(by: Change, file: File, size: number): void {
    this.#targets.set(by, file);
    // The part that is cut off reads as zeroes if the file is extended again.
    for (const index of new Set([...file.durable.keys(), ...file.pending.keys()])) {
      const end = (index + 1) * sector;
      if (end <= size) continue;
      const kept = Math.max(0, size - index * sector);
      this.#write(by, file, index * sector + kept, Buffer.alloc(sector - kept));
    }
    file.sizes.push({ size, by, done: false });
  }

  #rename(by: Change, apply: (names: Map<string, File>) => void): void {
    apply(this.#names);
    this.#changes.push({ apply, by, done: false });
  }

  #settleNames(done: readonly { apply: (names: Map<string, File>) => void }[]): void {
    for (const change of done) {
      const at = this.#changes.findIndex((one) => one === change);
      if (at < 0) continue;
      this.#changes.splice(at, 1);
      change.apply(this.#durableNames);
    }
  }

  /** Makes the files that a power cut at this moment leaves, by name. */
  crash(random: Random): { readonly mode: string; readonly files: Map<string, Buffer> } {
    const mode = random.pick(modes);
    const names = new Map(this.#durableNames);
    const kept = mode === 'all' ? this.#changes.length : mode === 'none' ? 0 : random.below(this.#changes.length + 1);
    for (const { apply } of this.#changes.slice(0, kept)) apply(names);
    return { mode, files: new Map([...names].map(([name, file]) => [name, image(file, mode, random)])) };
  }
}

/**
 * Notes the data that a sync covers: that of calls that had ended when it began. Returns a function
 * that makes this data durable, to be called when the sync ends.
 */
function prepareSync(file: File): () => void {
  const last = new Map<number, Version>();
  for (const [index, versions] of file.pending) {
    const version = versions.findLast(({ done }) => done);
    if (version) last.set(index, version);
  }
  const size = file.sizes.findLast(({ done }) => done);
  return () => {
    for (const [index, version] of last) {
      const versions = file.pending.get(index) ?? [];
      const at = versions.indexOf(version);
      // A sync that began later may have ended earlier.
      if (at < 0) continue;
      file.durable.set(index, version.data);
      if (at + 1 === versions.length) file.pending.delete(index);
      else versions.splice(0, at + 1);
    }
    const at = size ? file.sizes.indexOf(size) : -1;
    if (at < 0) return;
    file.durableSize = size!.size;
    file.sizes.splice(0, at + 1);
  };
}

function image(file: File, mode: (typeof modes)[number], random: Random): Buffer {
  const sizes = [file.durableSize, ...file.sizes.map(({ size }) => size)];
  const size = mode === 'all' ? file.size : mode === 'none' ? file.durableSize : random.pick(sizes);
  const bytes = Buffer.alloc(Math.ceil(size / sector) * sector);
  const put = (index: number, data: Buffer | undefined): void => {
    if (data && (index + 1) * sector <= bytes.length) data.copy(bytes, index * sector);
  };
  for (const [index, data] of file.durable) put(index, data);
  const choice = new Map<unknown, number>();
  /** A random number in [0, limit], the same for everything that belongs together. */
  const together = (what: unknown, limit: number): number => {
    if (!choice.has(what)) choice.set(what, random.below(1_000_000));
    return Math.floor((choice.get(what)! / 1_000_000) * (limit + 1));
  };
  const orders = [...new Set([...file.pending.values()].flat().map(({ order }) => order))].sort((a, b) => b - a);
  const late = orders[random.below(4)] ?? 0;
  for (const [index, versions] of file.pending) {
    const last = versions.length;
    let keep: number;
    if (mode === 'all') keep = last;
    else if (mode === 'none') keep = 0;
    else if (mode === 'few') keep = random.chance(0.12) ? 1 + random.below(last) : 0;
    else if (mode === 'most') keep = random.chance(0.88) ? last : 0;
    else if (mode === 'late') keep = versions.at(-1)!.order >= late ? last : 0;
    else if (mode === 'pages') keep = together(index >> 3, last);
    else if (mode === 'calls') keep = 1 + versions.findLastIndex(({ by }) => together(by, 1) === 1);
    else keep = random.below(last + 1);
    put(index, versions[keep - 1]?.data);
  }
  return bytes.subarray(0, size);
}

function sectorsOf(at: number, length: number): number[] {
  const first = Math.floor(at / sector);
  return Array.from({ length: Math.ceil((at + length) / sector) - first }, (_, i) => first + i);
}

function padded(content: Uint8Array, at: number): Buffer {
  const bytes = Buffer.alloc(sector);
  bytes.set(content.subarray(at, at + sector));
  return bytes;
}
