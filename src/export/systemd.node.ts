/**
 * systemd's two protocols with a service: socket activation (sd_listen_fds(3)) and status
 * notification (sd_notify(3)). Neither is used unless its environment variables are set.
 */
import { spawn } from 'node:child_process';
import { usageError } from '../base/errors.js';
import { silent, type Logger } from '../base/log.js';
import { socketCallsIfAny } from '../linux/sockets.node.js';

/** The first descriptor that systemd passes (SD_LISTEN_FDS_START). */
const firstDescriptor = 3;

export interface HandedSocket {
  readonly fd: number;
  /** FileDescriptorName= of its socket unit; '' if unknown. */
  readonly name: string;
}

/**
 * The sockets that systemd has passed to this process, if any. Removes the variables from `env`, so
 * that children do not inherit them.
 * @throws FarbusError if the variables are invalid: without an error, clients would wait at a
 * socket on which no process listens
 */
export function handedSockets(env: NodeJS.ProcessEnv = process.env, pid = process.pid): HandedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  if (LISTEN_FDS === undefined) return [];
  const advice = 'unset it, or let a socket unit start this (sd_listen_fds(3))';
  if (LISTEN_PID === undefined) throw usageError(`LISTEN_FDS is set without LISTEN_PID: ${advice}`);
  if (!/^[1-9]\d{0,9}$/.test(LISTEN_PID)) throw usageError(`LISTEN_PID=${shown(LISTEN_PID)} is no process: ${advice}`);
  // The sockets were passed to a parent process; only the variables were inherited.
  if (LISTEN_PID !== String(pid)) return [];
  const count = /^\d{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : 0;
  if (count < 1 || count > 1024) {
    throw usageError(`LISTEN_FDS=${shown(LISTEN_FDS)} is no number of sockets (1 to 1024): ${advice}`);
  }
  const names = (LISTEN_FDNAMES ?? '').split(':');
  return Array.from({ length: count }, (_, index) => ({ fd: firstDescriptor + index, name: names[index] ?? '' }));
}

/** The value of a variable for an error message, quoted and cut. */
function shown(value: string): string {
  return JSON.stringify(value.slice(0, 40));
}

type Send = (path: string, message: string) => void;

/**
 * Reports the state of the service to the service manager. Never throws: the service works without
 * the reports.
 */
export class ServiceNotifier {
  readonly #path: string | undefined;
  readonly #send: Send | undefined;
  readonly #log: Logger;
  #watchdog: ReturnType<typeof setInterval> | undefined;

  constructor(env: NodeJS.ProcessEnv = process.env, log: Logger = silent) {
    this.#path = env['NOTIFY_SOCKET'];
    this.#log = log;
    this.#send = this.#path === undefined ? undefined : (nativeSend() ?? programSend);
    const microseconds = Number(env['WATCHDOG_USEC']);
    const mine = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(process.pid);
    if (this.#send && mine && microseconds >= 1000) {
      // Sent by the event loop, so that the messages stop if it hangs. Twice per watchdog interval,
      // as sd_notify(3) advises.
      this.#watchdog = setInterval(() => this.#tell('WATCHDOG=1'), microseconds / 2000);
      this.#watchdog.unref();
    }
  }

  ready(status: string): void {
    this.#tell(`READY=1\nSTATUS=${line(status)}`);
  }

  reloading(): void {
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  stopping(): void {
    this.#tell('STOPPING=1\nSTATUS=draining');
  }

  status(text: string): void {
    this.#tell(`STATUS=${line(text)}`);
  }

  close(): void {
    clearInterval(this.#watchdog);
  }

  #tell(message: string): void {
    if (this.#path === undefined) return;
    try {
      this.#send!(this.#path, message);
    } catch (error) {
      this.#log.log('debug', `cannot notify the service manager: ${String(error)}`);
    }
  }
}

function line(text: string): string {
  return text.replace(/[\r\n]+/g, ' ');
}

/** Sends a datagram to a unix socket, which Node cannot. Undefined without koffi. */
function nativeSend(): Send | undefined {
  const calls = socketCallsIfAny();
  return calls && ((path, message) => calls.sendDatagram(path, Buffer.from(message)));
}

/** Sends the message by the program systemd-notify. The unit then needs NotifyAccess=all. */
const programSend: Send = (_, message) => {
  const child = spawn('systemd-notify', message.split('\n'), { stdio: 'ignore' });
  child.once('error', () => undefined);
};
