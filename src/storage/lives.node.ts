/**
 * Keeps lives (block/life.ts) as files in the user's state folder:
 * `farbus/sources/HASH/OWNER.json`, where HASH is a hash of the source's text. Each life has its
 * own file, so any number of processes can use one source. The file is replaced as a whole,
 * durably, whenever a key is added, and removed when the source is closed without a write in
 * flight. So a file whose process no longer lives was left by a killed process.
 *
 * The file's name contains its owner, the process (base/owned.node.ts). If the owner is in another
 * container or of an earlier boot, only a lock shows whether it lives: it holds one on its file
 * (flock(2), with koffi).
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, messageOf } from '../base/errors.js';
import { makeDurableFolder, replaceMark, syncFolder, temporaryBeside } from '../base/files.node.js';
import type { Logger } from '../base/log.js';
import { ownedName, ownerOf, removeOrphans, type Owner } from '../base/owned.node.js';
import type { EndedLife, Life, FenceKey } from '../block/life.js';
import { stateFolder } from '../base/state-folder.node.js';
import { fileCalls } from '../linux/files.node.js';

/**
 * Longest file that is read, in bytes; longest text in a key, in characters; most keys of a life.
 */
const maxFile = 65536;
const maxValue = 256;
const maxKeys = 64;
/**
 * Attempts to get a lock, which another process may hold only to check it, and the pause between
 * them, in ms.
 */
const lockTries = 5;
const lockPauseMs = 20;

const suffix = '.json';

/** The content of a life's file. */
interface Content {
  readonly version: 1;
  /** The source's text, for people who read the file. */
  readonly source: string;
  /** True if the owner holds a lock on the file as long as it lives. */
  readonly locked: boolean;
  /**
   * True if the owner has closed the source with writes in flight. The owner itself may still live.
   */
  readonly ended: boolean;
  readonly marks: readonly FenceKey[];
}

interface EndedFile extends EndedLife {
  readonly path: string;
}

/**
 * Begins a life of a source that is opened for writing, and warns of other processes that use it.
 * Never rejects: if the folder cannot be used, it warns and returns a life that keeps no keys.
 * @param source the source's text, the same in every process that opens the source
 */
export async function beginLife(source: string, log: Logger, env: NodeJS.ProcessEnv = process.env): Promise<Life> {
  const folder = join(stateFolder(env), 'farbus', 'sources', hash(source).slice(0, 32));
  const life = new FileLife(source, folder, log);
  await life.look();
  return life;
}

class FileLife implements Life {
  readonly ended: EndedFile[] = [];
  kept = true;
  readonly #source: string;
  readonly #folder: string;
  readonly #path: string;
  readonly #log: Logger;
  readonly #keys = new Set<FenceKey>();
  #handle: fs.FileHandle | undefined;
  /** The end of the latest change of the file. */
  #changed: Promise<void> = Promise.resolve();

  constructor(source: string, folder: string, log: Logger) {
    this.#source = source;
    this.#folder = folder;
    this.#log = log;
    this.#path = join(folder, ownedName('') + suffix);
  }

  /** Finds the other lives of the source. */
  async look(): Promise<void> {
    try {
      await makeDurableFolder(this.#folder, 0o700);
      // Fencing a forged key could kill a process of this user on the server.
      const { uid, mode } = await fs.lstat(this.#folder);
      const foreign = process.getuid !== undefined && uid !== process.getuid();
      if (foreign || (mode & 0o022) !== 0) throw new Error('others can write there');
      await removeOrphans(this.#folder, replaceMark);
      for (const name of await fs.readdir(this.#folder)) await this.#meet(name);
    } catch (error) {
      this.#lose(error);
    }
  }

  note(key: FenceKey): Promise<void> {
    this.#keys.add(key);
    // Drop the oldest key: a server that restarts again and again must not make the file grow
    // without limit.
    if (this.#keys.size > maxKeys) this.#keys.delete(this.#keys.values().next().value!);
    return this.#change(() => this.#write(false));
  }

  forget(key: FenceKey): void {
    this.#keys.delete(key);
  }

  async fenced(ended: EndedLife): Promise<void> {
    const { path } = ended as EndedFile;
    this.ended.splice(this.ended.indexOf(ended as EndedFile), 1);
    await fs.rm(path, { force: true }).catch((error: unknown) => this.#lose(error));
  }

  close(clean: boolean): Promise<void> {
    return this.#change(async () => {
      if (clean) await fs.rm(this.#path, { force: true });
      else if (this.#keys.size > 0) await this.#write(true);
      this.#keys.clear();
      await this.#handle?.close();
      this.#handle = undefined;
      // Fails if another process has a file there, which is fine.
      await fs.rmdir(this.#folder).catch(() => undefined);
    });
  }

  /** Runs changes of the file one after another. */
  #change(work: () => Promise<void>): Promise<void> {
    this.#changed = this.#changed.then(work).catch((error: unknown) => this.#lose(error));
    return this.#changed;
  }

  /**
   * Replaces the file by one with the present keys. The new file is locked before it gets its
   * name.
   */
  async #write(ended: boolean): Promise<void> {
    await makeDurableFolder(this.#folder, 0o700);
    const temporary = await temporaryBeside(this.#path);
    const handle = await fs.open(temporary, 'wx', 0o600);
    try {
      const locked = await lock(handle);
      const content: Content = { version: 1, source: this.#source, locked, ended, marks: [...this.#keys] };
      await handle.writeFile(`${JSON.stringify(content)}\n`);
      await handle.sync();
      await fs.rename(temporary, this.#path);
    } catch (error) {
      await handle.close();
      await fs.rm(temporary, { force: true });
      throw error;
    }
    await this.#handle?.close();
    this.#handle = handle;
    await syncFolder(this.#path);
  }

  async #meet(name: string): Promise<void> {
    const owner = name.endsWith(suffix) ? ownerOf(name.slice(0, -suffix.length)) : undefined;
    const path = join(this.#folder, name);
    const state = owner && (await judge(path, owner));
    if (!state) return;
    const { pid } = owner;
    if (state === 'lives') {
      // A process may open a source several times, for instance for several partitions of it.
      if (pid !== process.pid) this.#warn(`process ${pid} has it open for writing too: make sure that both may`);
    } else if (state === 'unknown') {
      this.#warn(`process ${pid} of another container or an earlier boot may use it too; if not, remove ${path}`);
    } else {
      this.ended.push({ ...state, path });
    }
  }

  #lose(error: unknown): void {
    if (!this.kept) return;
    this.kept = false;
    this.#warn(
      `cannot keep in ${this.#folder} what fences this process after it is killed (${messageOf(error)}): ` +
        'a write of it may then land after those of the next one',
    );
  }

  #warn(what: string): void {
    this.#log.log('warn', `${this.#source}: ${what}`);
  }
}

/**
 * Judges the owner of a file: it `lives`, that is `unknown`, or it has ended, with its keys.
 * Undefined if the file has been removed or replaced meanwhile.
 */
async function judge(path: string, { pid, state: owner }: Owner): Promise<'lives' | 'unknown' | EndedLife | undefined> {
  let handle: fs.FileHandle;
  try {
    handle = await fs.open(path, 'r+');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    return owner === 'gone' ? { pid, keys: undefined } : owner === 'lives' ? 'lives' : 'unknown';
  }
  try {
    const content = await read(handle);
    if (content?.ended) return { pid: 0, keys: content.marks };
    if (owner === 'lives') return 'lives';
    if (owner === 'gone') return { pid, keys: content?.marks };
    if (!content?.locked || !fileCalls()) return 'unknown';
    for (let tries = 1; !(await lock(handle)); tries++) {
      if (tries === lockTries) return 'lives';
      await new Promise((resolve) => setTimeout(resolve, lockPauseMs));
    }
    // The file has been replaced or removed meanwhile: its owner lives, or has closed the source.
    if ((await handle.stat()).nlink === 0) return undefined;
    return { pid, keys: content.marks };
  } finally {
    await handle.close();
  }
}

/** Reads a life's file; undefined if it is invalid. */
async function read(handle: fs.FileHandle): Promise<Content | undefined> {
  try {
    const stat = await handle.stat();
    if (!stat.isFile() || stat.size > maxFile) return undefined;
    const found = JSON.parse(await handle.readFile('utf8')) as Content;
    const { version, locked, ended, marks } = found;
    const whole = version === 1 && typeof locked === 'boolean' && typeof ended === 'boolean';
    return whole && Array.isArray(marks) && marks.every(isKey) ? found : undefined;
  } catch {
    return undefined;
  }
}

function isKey(found: unknown): boolean {
  if (typeof found !== 'object' || found === null || Array.isArray(found)) return false;
  return Object.values(found).every(
    (value) => Number.isSafeInteger(value) || (typeof value === 'string' && value.length <= maxValue),
  );
}

/**
 * Locks the file as long as it is open. False if another process has locked it, or if there are no
 * locks (no koffi).
 */
async function lock(handle: fs.FileHandle): Promise<boolean> {
  try {
    await fileCalls()?.lock(handle.fd);
    return fileCalls() !== undefined;
  } catch {
    return false;
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
