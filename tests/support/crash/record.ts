/**
 * Records what a program does to the files of one folder: its system calls, by strace, in order.
 * Each has a start and an end, because calls of several threads overlap. The program writes lines
 * to the file `marks` in that folder, to tell which operations it has begun and which were
 * acknowledged. These lines take part in the order.
 *
 * Not here: what a power cut can leave (folder.ts).
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/**
 * A change of the folder, or a call that affects the order of changes. Names are relative to the
 * folder.
 */
export type Change =
  | { readonly kind: 'create'; readonly name: string; readonly truncates: boolean }
  | { readonly kind: 'write'; readonly name: string; readonly at: number; readonly data: Buffer }
  | { readonly kind: 'zero'; readonly name: string; readonly at: number; readonly length: number }
  | { readonly kind: 'resize'; readonly name: string; readonly size: number }
  | { readonly kind: 'sync'; readonly name: string }
  | { readonly kind: 'syncFolder' }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'remove'; readonly name: string }
  | { readonly kind: 'mark'; readonly value: unknown };

/** The start or the end of a call. Both refer to the same change object. */
export interface CallEvent {
  readonly change: Change;
  readonly ended: boolean;
}

const marksName = 'marks';
const calls = [
  ...['openat', 'write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'fsync', 'fdatasync', 'ftruncate', 'truncate'],
  ...['fallocate', 'rename', 'renameat2', 'unlink', 'unlinkat', 'link', 'linkat', 'copy_file_range', 'sendfile'],
];

export interface Recording {
  readonly events: CallEvent[];
  readonly status: number | null;
  readonly stderr: string;
}

/** The path of strace's output. */
export function traceOf(folder: string): string {
  return join(dirname(folder), `${basename(folder)}.trace`);
}

export interface RecordOptions {
  readonly env?: NodeJS.ProcessEnv;
  /**
   * The user id under which the program runs. The output file of strace, next to the folder, must
   * exist and belong to that user.
   */
  readonly uid?: number;
}

/** Runs `node ARGS` in `folder`, which must be a real path, and records what it does there. */
export function record(folder: string, args: readonly string[], { env = {}, uid }: RecordOptions = {}): Recording {
  const trace = traceOf(folder);
  const options = ['-f', '-y', '-xx', '-qq', '-s', '2097152', '-e', 'signal=none', '-e', `trace=${calls.join(',')}`];
  const { status, stderr } = spawnSync('strace', [...options, '-o', trace, process.execPath, ...args], {
    cwd: folder,
    // strace does not see the operations of io_uring.
    env: { ...process.env, UV_USE_IO_URING: '0', ...env },
    ...(uid !== undefined && { uid, gid: uid }),
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    timeout: 300_000,
  });
  return { events: new Parser(folder).parse(readFileSync(trace, 'latin1')), status, stderr };
}

/**
 * Parses the lines of strace.
 * @throws Error on a call that it cannot follow
 */
class Parser {
  readonly #folder: string;
  /** Calls that have begun, by thread. */
  readonly #open = new Map<string, { text: string; change: Change | undefined }>();
  /**
   * The file position for write(2), by path: each file here is written through one descriptor at a
   * time.
   */
  readonly #positions = new Map<string, number>();
  readonly #events: CallEvent[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  parse(text: string): CallEvent[] {
    for (const line of text.split('\n')) {
      const [, thread, rest] = /^(\d+) +(.*)$/s.exec(line) ?? [];
      if (thread === undefined || rest!.startsWith('+++') || rest!.startsWith('---')) continue;
      const resumed = /^<\.\.\. \w+ resumed>(.*)$/s.exec(rest!);
      if (resumed) {
        const begun = this.#open.get(thread);
        this.#open.delete(thread);
        if (begun) this.#end(begun.text + resumed[1]!, begun.change);
      } else if (rest!.endsWith('<unfinished ...>')) {
        const begun = rest!.slice(0, -'<unfinished ...>'.length).trimEnd();
        this.#open.set(thread, { text: begun, change: this.#begin(begun) });
      } else {
        this.#end(rest!, failed(rest!) ? undefined : this.#begin(rest!));
      }
    }
    return this.#events;
  }

  #begin(call: string): Change | undefined {
    const change = this.#changeOf(call);
    if (change) this.#events.push({ change, ended: false });
    return change;
  }

  #end(call: string, change: Change | undefined): void {
    if (!change) return;
    if (failed(call)) throw new Error(`a call failed of which it is not known what it left: ${call.slice(-200)}`);
    this.#events.push({ change, ended: true });
  }

  #changeOf(call: string): Change | undefined {
    const name = /^(\w+)\(/.exec(call)?.[1];
    const args = call.slice((name?.length ?? 0) + 1);
    switch (name) {
      case 'openat':
        return this.#opened(args);
      case 'write':
      case 'writev':
      case 'pwrite64':
      case 'pwritev':
      case 'pwritev2':
        return this.#written(name, args);
      case 'fsync':
      case 'fdatasync':
        return this.#synced(args);
      case 'ftruncate': {
        const at = this.#ofDescriptor(args);
        return at === undefined ? undefined : { kind: 'resize', name: at, size: Number(/, (\d+)/.exec(args)![1]) };
      }
      case 'fallocate': {
        const at = this.#ofDescriptor(args);
        if (at === undefined) return undefined;
        const [, mode, offset, length] = /^[^,]+, ([A-Z_|]+), (\d+), (\d+)/.exec(args)!;
        const zeroes = /PUNCH_HOLE|ZERO_RANGE/.test(mode!) && mode!.includes('KEEP_SIZE');
        if (!zeroes) throw new Error(`fallocate of another mode: ${mode!}`);
        return { kind: 'zero', name: at, at: Number(offset), length: Number(length) };
      }
      case 'rename': {
        const [from, to] = strings(args).map((path) => this.#nameOf(path.toString()));
        if (from === undefined && to === undefined) return undefined;
        if (from === undefined || to === undefined) throw new Error('a file is moved in or out of the folder');
        return { kind: 'rename', from, to };
      }
      case 'unlink': {
        const at = this.#nameOf(strings(args)[0]!.toString());
        return at === undefined ? undefined : { kind: 'remove', name: at };
      }
      default:
        if (strings(args).some((path) => this.#nameOf(path.toString()) !== undefined)) {
          throw new Error(`a call that is not followed: ${call.slice(0, 200)}`);
        }
        return undefined;
    }
  }

  #opened(args: string): Change | undefined {
    const at = this.#nameOf(strings(args)[0]?.toString() ?? '');
    const flags = /", ([A-Z_|]+)/.exec(args)?.[1] ?? '';
    if (at === undefined || at === marksName || !/O_CREAT|O_TRUNC/.test(flags)) return undefined;
    this.#positions.set(at, 0);
    return { kind: 'create', name: at, truncates: flags.includes('O_TRUNC') };
  }

  #written(call: string, args: string): Change | undefined {
    const at = this.#ofDescriptor(args);
    if (at === undefined) return undefined;
    const data = Buffer.concat(strings(args));
    if (at === marksName) return { kind: 'mark', value: JSON.parse(data.toString()) };
    const end = /[\]"], (?:\d+, )?(\d+)(?:, \w+)?\)?/.exec(args.slice(args.lastIndexOf('"')));
    if (call.startsWith('p')) return { kind: 'write', name: at, at: Number(end![1]), data };
    const position = this.#positions.get(at) ?? 0;
    this.#positions.set(at, position + data.length);
    return { kind: 'write', name: at, at: position, data };
  }

  #synced(args: string): Change | undefined {
    if (pathOf(args) === this.#folder) return { kind: 'syncFolder' };
    const at = this.#ofDescriptor(args);
    return at === undefined ? undefined : { kind: 'sync', name: at };
  }

  /**
   * The name of the file whose descriptor is the first argument; undefined if it is not in the
   * folder.
   */
  #ofDescriptor(args: string): string | undefined {
    const path = pathOf(args);
    // Pipes and sockets have names without a leading slash.
    return path?.startsWith('/') ? this.#nameOf(path) : undefined;
  }

  #nameOf(path: string): string | undefined {
    const absolute = path.startsWith('/') ? path : join(this.#folder, path);
    return dirname(absolute) === this.#folder ? basename(absolute) : undefined;
  }
}

/** The path of the descriptor that is the first argument. */
function pathOf(args: string): string | undefined {
  const hex = /^\d+<((?:\\x[0-9a-f]{2})*)>/.exec(args)?.[1];
  return hex === undefined ? undefined : unhex(hex).toString();
}

function strings(args: string): Buffer[] {
  return [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map((match) => unhex(match[1]!));
}

function unhex(text: string): Buffer {
  return Buffer.from(text.replaceAll('\\x', ''), 'hex');
}

function failed(call: string): boolean {
  return / = -1 E\w+ \([^"]*$/.test(call.slice(-120));
}
