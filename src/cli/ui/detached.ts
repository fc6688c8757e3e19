/**
 * The process that `--detach` leaves running: its output, its logs, its message that it is ready.
 *
 * It has no terminal: its standard streams are /dev/null. Until it is ready, its output goes to the
 * process that started it (detach.ts) over Node's channel between the two. Its logs are files of
 * their own, of bounded size, which remain when it has ended (`farbus logs NAME`).
 */
import { EventEmitter } from 'node:events';
import { detachedFolder } from '../../site/folders.node.js';
import { SiteLogs } from '../../site/logs.node.js';
import type { LogOutput, ResultOutput } from './output.js';

/** Set for the process that is to be detached, by {@link detachedEnvironment}. */
const variable = 'FARBUS_DETACHED';
/** Most lines that are kept until the log is opened. */
const mostEarly = 1000;

/** A message to the process that started this one. */
export type DetachedMessage =
  { readonly kind: 'text'; readonly text: string } | { readonly kind: 'ready'; readonly text: string };

/** The environment for a process that is to be detached. */
export function detachedEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...env, [variable]: '1' };
}

/** This process, if it was started to be detached. */
export class Detached {
  readonly stdout: ResultOutput;
  readonly stderr: LogOutput = { write: (text) => this.#say(text) };
  #logs: { readonly name: string; readonly files: SiteLogs } | undefined;
  #early: string[] = [];
  #partial = '';
  #ready = false;
  #sent: Promise<unknown> = Promise.resolve();

  /**
   * Undefined for a process that was started otherwise. Removes the mark from the environment, so
   * that programs which this process starts are not taken for detached.
   */
  static take(): Detached | undefined {
    const marked = process.env[variable] === '1' && process.send !== undefined;
    delete process.env[variable];
    return marked ? new Detached() : undefined;
  }

  private constructor() {
    // The results of a detached process are its message that it is ready.
    this.stdout = Object.assign(new EventEmitter(), {
      write: (_data: string | Uint8Array, done?: (error?: Error | null) => void) => (done?.(), true),
    });
    process.on('uncaughtExceptionMonitor', (error) => this.#say(`farbus: ${error.stack ?? String(error)}\n`));
    // Only the process that started this one prints its name. Without it, end as after SIGTERM.
    process.once('disconnect', () => {
      if (!this.#ready) process.kill(process.pid, 'SIGTERM');
    });
  }

  /** Opens the logs of the process `name`, which has just claimed it. @throws FarbusError */
  open(name: string, env: NodeJS.ProcessEnv): void {
    const files = new SiteLogs(detachedFolder(env, name));
    this.#logs = { name, files };
    // Create the file now: a failure must not come later.
    for (const line of this.#early.splice(0)) files.line(name, line);
    files.line(name, `process ${process.pid}`);
  }

  /** Adds console output to its log. */
  output(bytes: Uint8Array): void {
    this.#logs?.files.output(this.#logs.name, bytes);
  }

  /** Tells the process that started this one to print a text and to leave, as this one is ready. */
  async ready(text: string): Promise<void> {
    this.#ready = true;
    this.#send({ kind: 'ready', text });
    await this.flush();
    if (process.connected) process.disconnect();
  }

  /** Resolves when all messages are sent. */
  async flush(): Promise<void> {
    await this.#sent;
  }

  #say(text: string): void {
    if (!this.#ready) this.#send({ kind: 'text', text });
    const lines = (this.#partial + text).split('\n');
    this.#partial = lines.pop()!.slice(-10_000);
    for (const line of lines) {
      const plain = line.replace(/^farbus: /, '');
      if (this.#logs) this.#logs.files.line(this.#logs.name, plain);
      else if (this.#early.length < mostEarly) this.#early.push(plain);
    }
  }

  #send(message: DetachedMessage): void {
    if (!process.connected) return;
    // A failure means that the other process has ended.
    this.#sent = new Promise((resolve) => process.send!(message, undefined, undefined, resolve));
  }
}
