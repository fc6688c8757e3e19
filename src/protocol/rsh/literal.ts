/**
 * The form of access in [SYS] fig. 13, steps 422 and 425: one remote shell per request, with `dd
 * if=DEVICE skip=FIRST count=BLOCKS` or `dd of=DEVICE seek=FIRST count=BLOCKS`, in blocks of 512
 * bytes.
 *
 * rsh does not return an exit status: success is judged by dd's messages and by the amount of data.
 * If a connection is cut, the state of its command cannot be found out. So writes that were in
 * flight then are reported as failed and never repeated.
 */
import { contiguous } from '../../base/buffers.js';
import { Deadline } from '../../base/deadline.js';
import { FarbusError, messageOf } from '../../base/errors.js';
import { BlockError } from '../../block/errors.js';
import { printable } from '../../base/printable.js';
import type { Fate, FenceKey } from '../../block/life.js';
import type { Channel, ChannelEvents, RemoteFacts } from '../channels/channel.js';
import type { RemoteRequest } from '../channels/request.js';
import { ddError } from '../dd/errors.js';
import type { ShellFacts } from '../dd/facts.js';

/** dd's default block size, in bytes. */
export const ddBlock = 512;

/**
 * Runs one command with input, to its end. Rejects without a connection, and if more than `most`
 * bytes of output arrive.
 */
export interface CommandRunner {
  readonly address: string;
  run(
    command: string,
    options: { input?: Uint8Array; most: number; signal: AbortSignal },
  ): Promise<{ output: Uint8Array; errors: string }>;
}

/** Time limit of one command, in ms. */
const commandMs = 300_000;

/** Most connections at the same time. Each occupies a privileged port for a while. */
const maxRuns = 4;

export class LiteralChannel implements Channel {
  readonly facts: RemoteFacts;
  /** It identifies no process: a command whose connection was cut cannot be found. */
  readonly fenceKey: FenceKey = { kind: 'literal' };
  readonly #shell: ShellFacts;
  readonly #runner: CommandRunner;
  readonly #device: string;
  readonly #stop = new AbortController();
  readonly #running = new Set<RemoteRequest>();
  readonly #unfinished: RemoteRequest[] = [];
  #events: ChannelEvents | undefined;
  #lost: string | undefined;

  /**
   * @param facts facts about the device, found by a session of the script
   * @throws FarbusError for a path that some login shells would alter
   */
  constructor(runner: CommandRunner, facts: ShellFacts, path: string) {
    if (!/^[A-Za-z0-9_.,:+@%=/-]+$/.test(path)) {
      throw new FarbusError(
        `${runner.address}: the literal form takes only plain letters, digits and . , : + @ % = / - in a path`,
      );
    }
    this.#runner = runner;
    this.#shell = facts;
    this.#device = path;
    this.facts = { ...facts, sector: Math.max(facts.sector ?? 0, ddBlock) };
  }

  get load(): number {
    return this.#running.size;
  }

  hasRoom(): boolean {
    return this.#lost === undefined && this.#running.size < maxRuns;
  }

  start(events: ChannelEvents): void {
    this.#events = events;
  }

  send(request: RemoteRequest): void {
    this.#running.add(request);
    const limit = new Deadline(commandMs, this.#stop.signal);
    this.#run(request, limit.signal)
      .finally(() => limit.end())
      .then(
        (error) => this.#settle(request, error),
        (error: unknown) => this.#fail(request, error),
      );
  }

  fence(): Promise<Fate> {
    return Promise.resolve('unknown');
  }

  close(): Promise<void> {
    this.#stop.abort();
    return Promise.resolve();
  }

  destroy(): void {
    this.#stop.abort();
  }

  /**
   * Runs the request's command. Returns the error that dd reports, if any. Rejects if the
   * connection fails.
   */
  async #run(request: RemoteRequest, signal: AbortSignal): Promise<BlockError | undefined> {
    const { op, length, buffers } = request;
    switch (op) {
      case 'read': {
        const { output, errors } = await this.#runner.run(this.command(request), { most: length, signal });
        if (output.length !== length) return this.#error(request, errors);
        try {
          buffers!.copyFrom(output, 0);
          return undefined;
        } catch (error) {
          return new BlockError('io', 'the memory of the read is gone', { cause: error });
        }
      }
      case 'write': {
        const input = contiguous(buffers!);
        const { errors } = await this.#runner.run(this.command(request), { input, most: 0, signal });
        return this.#movedAll(errors, length) ? undefined : this.#error(request, errors);
      }
      case 'flush': {
        const { output, errors } = await this.#runner.run(this.command(request), { most: 64, signal });
        return new TextDecoder().decode(output).trim() === 'ok' ? undefined : this.#error(request, errors);
      }
      case 'zero':
        return new BlockError('unsupported', 'the literal form has no zeroing');
    }
  }

  /** The command for a request. [SYS] steps 422 and 425. */
  command({ op, offset, length }: Pick<RemoteRequest, 'op' | 'offset' | 'length'>): string {
    const device = this.#device;
    const count = length / ddBlock;
    if (op === 'read') return `dd if=${device} skip=${offset / ddBlock} count=${count}`;
    if (op === 'flush') return `dd if=/dev/null of=${device} count=0 conv=notrunc,fsync && echo ok`;
    // A dd without `fullblock` counts a short read from the pipe as a block (docs/notes/ssh.md,
    // "Short reads from a pipe"). Then omit `count=`: dd copies to the end of its input.
    const whole = this.#shell.fullBlock ? `count=${count} iflag=fullblock ` : '';
    return `dd of=${device} seek=${offset / ddBlock} ${whole}conv=notrunc`;
  }

  #movedAll(said: string, length: number): boolean {
    if (this.#shell.fullBlock) return said.includes(`${length / ddBlock}+0 records out`);
    return new RegExp(`^${length} bytes`, 'm').test(said);
  }

  #error({ op, offset, length }: RemoteRequest, said: string): BlockError {
    // No message at all: the connection was cut. Messages of dd begin with its name.
    if (said.trim() === '') throw new Error('the remote shell ended without a word');
    return ddError(this.#runner.address, `${op} ${offset}+${length}`, /^\S*dd: /m.test(said) ? 1 : 0, printable(said));
  }

  #settle(request: RemoteRequest, error: BlockError | undefined): void {
    this.#running.delete(request);
    this.#events?.answered(request, error);
    this.#events?.room();
    this.#end();
  }

  #fail(request: RemoteRequest, error: unknown): void {
    this.#running.delete(request);
    this.#unfinished.push(request);
    this.#lost ??= messageOf(error);
    this.#end();
  }

  /**
   * After a connection has failed, the other commands run to their end before the channel is
   * reported lost.
   */
  #end(): void {
    if (this.#lost !== undefined && this.#running.size === 0)
      this.#events?.lost(this.#lost, this.#unfinished.splice(0));
  }
}
