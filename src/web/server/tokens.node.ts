/**
 * Tokens of access to a user's web servers, as files in the state folder, `farbus/web`:
 *
 * - `console`: the console token itself, because its address is printed at each start;
 * - `ID.json` for each token of exports: its rights, its end, and its SHA-256. A token has 256
 *   random bits, so a hash without salt and rounds does not help to guess it.
 *
 * A file never changes: it is made and removed. So processes need no lock, and a server notices
 * both by the folder's time.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, failed, FarbusError } from '../../base/errors.js';
import { replaceFile } from '../../base/files.node.js';
import { makeFolders } from '../../base/folders.node.js';
import { stateFolder } from '../../base/state-folder.node.js';

/** The name of the console token in lists and logs. */
export const consoleId = 'console';
const tokenBytes = 32;
/** A change of the folder within this time may not show in its time, in ms. */
const racyMs = 2000;
const idPattern = /^[0-9a-f]{8}$/;
/** Most tokens of exports. */
const mostTokens = 1000;
/** Longest file that is read, in bytes. */
const maxFile = 65_536;

/** A token of exports, as it is listed. */
export interface TokenEntry {
  readonly id: string;
  /** The exports that it may use. */
  readonly exports: readonly string[];
  readonly write: boolean;
  /** If true, it may lend a disk under these names, or under any if there are none, and no more. */
  readonly lend?: boolean;
  /** Times in ISO 8601. Without `expires` it never expires. */
  readonly made: string;
  readonly expires?: string;
}

interface StoredToken extends TokenEntry {
  readonly version: 1;
  /** SHA-256 in hex. */
  readonly hash: string;
}

/** The rights of a token. */
export interface Rights {
  readonly id: string;
  /** True for the console token, which has every right. */
  readonly control: boolean;
  /** True if it may lend a disk under some name. */
  readonly lend: boolean;
  /** True if it is the console token, or a token of exports: not one for lending alone. */
  readonly reads: boolean;
  /** The right to an export; undefined if there is none. */
  to(exportName: string): 'read' | 'write' | undefined;
  /** True if it may lend a disk under that name. */
  lends(exportName: string): boolean;
}

const everything: Rights = {
  id: consoleId,
  control: true,
  lend: true,
  reads: true,
  to: () => 'write',
  lends: () => true,
};

/** The folder of tokens. It may not exist. */
export function tokenFolder(env: NodeJS.ProcessEnv): string {
  return join(stateFolder(env), 'farbus', 'web');
}

interface Known {
  readonly hash: Buffer;
  readonly rights: Rights;
  /** Time in ms since 1970; Infinity if it never expires. */
  readonly expires: number;
}

export class Tokens {
  readonly #folder: string;
  #known: readonly Known[] = [];
  #console = '';
  /** The folder's time when it was read, in ms, or undefined if it must be read again. */
  #read: number | undefined;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Opens the folder, and makes it and the console token if they do not exist. Rejects with a
   * FarbusError if they cannot be made, or if other users can change them.
   */
  static async open(env: NodeJS.ProcessEnv): Promise<Tokens> {
    const folder = tokenFolder(env);
    try {
      makeFolders(folder, 0o700);
      const { uid, mode } = lstatSync(folder);
      if (process.getuid !== undefined && uid !== process.getuid()) throw new FarbusError('another user owns it');
      if ((mode & 0o077) !== 0) throw new FarbusError('other users have access to it: chmod go= it');
    } catch (error) {
      throw new FarbusError(`cannot keep tokens in ${folder}: ${failed('it cannot be made', error).message}`);
    }
    const tokens = new Tokens(folder);
    if (tokens.consoleToken === '') await tokens.renewConsole();
    return tokens;
  }

  /** The console token. */
  get consoleToken(): string {
    this.#refresh();
    return this.#console;
  }

  /** The rights of a token that a client shows; undefined if it is unknown or has expired. */
  find(token: string): Rights | undefined {
    this.#refresh();
    const given = hashOf(token);
    let found: Known | undefined;
    // Compare with each of them completely, so that the time reveals nothing.
    for (const one of this.#known) if (timingSafeEqual(one.hash, given)) found = one;
    return found && found.expires > Date.now() ? found.rights : undefined;
  }

  /** True as long as the token has not expired and was not revoked. */
  holds({ id }: Rights, token: Buffer): boolean {
    this.#refresh();
    const now = Date.now();
    return this.#known.some(({ rights, hash, expires }) => rights.id === id && expires > now && hash.equals(token));
  }

  /** Makes a token of exports. Rejects with a FarbusError if there are too many. */
  async make(
    exports: readonly string[],
    write: boolean,
    seconds: number | undefined,
    lend = false,
  ): Promise<TokenMade> {
    await this.#sweep();
    if (this.list().length >= mostTokens) throw new FarbusError(`there are ${mostTokens} tokens: revoke some first`);
    const token = newToken();
    const entry: TokenEntry = {
      id: randomBytes(4).toString('hex'),
      exports,
      write,
      ...(lend && { lend }),
      made: new Date().toISOString(),
      ...(seconds !== undefined && { expires: new Date(Date.now() + seconds * 1000).toISOString() }),
    };
    const stored: StoredToken = { version: 1, ...entry, hash: hashOf(token).toString('hex') };
    await this.#write(`${entry.id}.json`, `${JSON.stringify(stored)}\n`);
    return { token, entry };
  }

  /** The tokens of exports, the oldest first, with expired ones. */
  list(): TokenEntry[] {
    const all = readdirSync(this.#folder).flatMap((name) => this.#stored(name) ?? []);
    return all.sort((a, b) => (a.made < b.made ? -1 : 1)).map(({ version: _version, hash: _hash, ...entry }) => entry);
  }

  /** Revokes a token; the console token is replaced by a new one. Rejects with a FarbusError. */
  async revoke(id: string): Promise<void> {
    if (id === consoleId) return this.renewConsole();
    if (!this.list().some((one) => one.id === id)) {
      throw new FarbusError(`there is no token ${JSON.stringify(id)}: farbus token --list shows them`);
    }
    await rm(join(this.#folder, `${id}.json`), { force: true });
    this.#read = undefined;
  }

  async renewConsole(): Promise<void> {
    await this.#write(consoleId, `${newToken()}\n`);
  }

  async #write(name: string, text: string): Promise<void> {
    await replaceFile(join(this.#folder, name), [text], { durable: true }).catch((error: unknown) => {
      throw failed(`cannot write a token into ${this.#folder}`, error);
    });
    this.#read = undefined;
  }

  /** Removes tokens that have expired. */
  async #sweep(): Promise<void> {
    for (const { id, expires } of this.list()) {
      if (expires !== undefined && Date.parse(expires) < Date.now()) await this.revoke(id);
    }
  }

  /** Reads the folder again if it has changed. If it cannot be read, no token is known. */
  #refresh(): void {
    try {
      const { mtimeMs } = statSync(this.#folder);
      if (mtimeMs === this.#read) return;
      this.#console = textOf(join(this.#folder, consoleId))?.trim() ?? '';
      const known = readdirSync(this.#folder).flatMap((name) => knownOf(this.#stored(name)));
      if (this.#console !== '') known.push({ hash: hashOf(this.#console), rights: everything, expires: Infinity });
      this.#known = known;
      this.#read = Date.now() - mtimeMs > racyMs ? mtimeMs : undefined;
    } catch {
      this.#known = [];
      this.#console = '';
      this.#read = undefined;
    }
  }

  /** The token in a file; undefined if the file is none. */
  #stored(name: string): StoredToken | undefined {
    if (!name.endsWith('.json')) return undefined;
    const text = textOf(join(this.#folder, name));
    if (text === undefined) return undefined;
    try {
      const { version, id, exports, write, lend, made, expires, hash } = JSON.parse(text) as Partial<StoredToken>;
      if (version !== 1 || id === undefined || !idPattern.test(id) || name !== `${id}.json`) return undefined;
      if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash) || typeof made !== 'string') return undefined;
      if (!Array.isArray(exports) || typeof write !== 'boolean') return undefined;
      if (lend !== undefined && typeof lend !== 'boolean') return undefined;
      // An unreadable end must not make it last for ever.
      if (expires !== undefined && Number.isNaN(Date.parse(expires))) return undefined;
      const optional = { ...(lend && { lend }), ...(expires && { expires }) };
      return { version, id, exports: exports.map(String), write, ...optional, made, hash };
    } catch {
      return undefined;
    }
  }
}

export interface TokenMade {
  readonly token: string;
  readonly entry: TokenEntry;
}

/** For {@link Tokens.holds}: what a session keeps of its token. */
export function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function newToken(): string {
  return randomBytes(tokenBytes).toString('base64url');
}

function knownOf(stored: StoredToken | undefined): Known[] {
  if (!stored) return [];
  const { id, hash, write, lend = false, expires } = stored;
  const names = new Set(stored.exports);
  const to = (name: string): 'read' | 'write' | undefined =>
    names.has(name) && !lend ? (write ? 'write' : 'read') : undefined;
  const lends = (name: string): boolean => lend && (names.size === 0 || names.has(name));
  return [
    {
      hash: Buffer.from(hash, 'hex'),
      rights: { id, control: false, lend, reads: !lend, to, lends },
      expires: expires === undefined ? Infinity : Date.parse(expires),
    },
  ];
}

/** The text of a file; undefined if it does not exist. */
function textOf(path: string): string | undefined {
  try {
    const stat = lstatSync(path);
    // A named pipe would stop the server until its other end is written.
    if (!stat.isFile() || stat.size > maxFile) return undefined;
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
