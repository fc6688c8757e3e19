/**
 * Runs a computer of a site in its own process. Commands and events are messages between the two
 * processes; frames use a pipe. If the process dies, only that computer ends.
 */
import { fork } from 'node:child_process';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { endProcess } from '../linux/end-process.node.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { LogLevel } from '../base/log.js';
import type { Work } from '../base/work.js';
import type {
  ComputerEvents,
  ComputerRequest,
  ComputerState,
  LeaseState,
  RunningComputer,
  StartComputer,
  StartOptions,
} from './computer.js';
import { lendPort, PipeSegment } from './frame-pipe.node.js';
import type { ComputerPlan } from './plan.js';

type ToComputer =
  | {
      readonly kind: 'start';
      readonly plan: ComputerPlan;
      readonly segment: { readonly name: string; readonly mtu: number } | undefined;
      readonly options: StartOptions;
    }
  | { readonly kind: 'input'; readonly bytes: Uint8Array }
  | { readonly kind: 'ask'; readonly id: number; readonly asked: Asked }
  | { readonly kind: 'withdraw'; readonly id: number }
  | { readonly kind: 'stop' };

type FromComputer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'state'; readonly state: ComputerState; readonly detail: string }
  | { readonly kind: 'output'; readonly bytes: Uint8Array }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly message: string }
  | { readonly kind: 'leases'; readonly leases: readonly LeaseState[] }
  | { readonly kind: 'waiting'; readonly id: number; readonly what: string }
  | { readonly kind: 'answered'; readonly id: number; readonly error: string | undefined; readonly result: unknown };

/** A request to the computer: a move of a lease, or one that its own handler answers. */
type Asked =
  | { readonly kind: 'lease'; readonly device: string; readonly to: string }
  | { readonly kind: 'control'; readonly request: ComputerRequest };

/** A request that has no answer yet. */
interface Pending {
  settle(error: string | undefined, result: unknown): void;
  waitsFor(what: string): void;
}

/**
 * Descriptor of the pipe in the computer's process, after stdin, stdout, stderr and the message
 * channel.
 */
const pipeDescriptor = 4;
/** Time for a computer to end before its process is killed, in ms. */
const stopMs = 20_000;

/** Starts each computer as a process that runs `program`, a file that calls {@link serveParent}. */
export function inProcesses(program: string): StartComputer {
  return (plan, segment, events, { traceFolder, snapshotFolder, renewSnapshot }) => {
    const child = fork(program, [plan.name], {
      serialization: 'advanced',
      // Options of the program that uses us, such as `node --input-type=module -e`, are not meant
      // for ours.
      execArgv: [],
      // A process group of its own: Ctrl-C at the terminal signals only this process, which ends
      // the computers in order.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc', 'pipe'],
    });
    const release = segment && lendPort(segment, plan.mac, child.stdio[pipeDescriptor] as Duplex);
    const pending = new Map<number, Pending>();
    let last = 0;
    let over = false;
    let stopping = false;
    const send = (message: ToComputer): void => {
      if (child.connected) child.send(message, () => undefined);
    };
    const ended = new Promise<void>((resolve) => {
      child.once('close', (code, signal) => {
        release?.();
        for (const [, { settle }] of pending) settle('the computer is gone', undefined);
        if (!over) {
          const why = signal ?? `status ${code ?? '?'}`;
          events.state(stopping ? 'stopped' : 'crashed', stopping ? '' : `its process ended by itself: ${why}`);
        }
        resolve();
      });
    });
    child.once('error', (error) => {
      over = true;
      events.state('failed', messageOf(error));
    });
    child.stderr!.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().split('\n')) if (line !== '') events.log('error', line.slice(0, 1000));
    });
    child.on('message', (message: FromComputer) => {
      switch (message.kind) {
        case 'ready':
          return send({
            kind: 'start',
            plan,
            segment: segment && { name: segment.name, mtu: segment.mtu },
            // Pass these fields only: the caller's object may hold functions, which a message
            // cannot carry.
            options: { traceFolder, snapshotFolder, renewSnapshot },
          });
        case 'state':
          over ||= message.state === 'stopped' || message.state === 'failed' || message.state === 'ended';
          return events.state(message.state, message.detail);
        case 'output':
          return events.output(message.bytes);
        case 'log':
          return events.log(message.level, message.message);
        case 'leases':
          return events.leases(message.leases);
        case 'waiting':
          return pending.get(message.id)?.waitsFor(message.what);
        case 'answered':
          pending.get(message.id)?.settle(message.error, message.result);
      }
    });
    const ask = (asked: Asked, { signal, waitsFor }: Work): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const id = ++last;
        if (!child.connected) return reject(new FarbusError('the computer is gone'));
        const withdraw = (): void => {
          send({ kind: 'withdraw', id });
          // A lease that is moving has an outcome to wait for; these requests have none.
          if (asked.kind === 'control') settle('the request was withdrawn', undefined);
        };
        const settle = (error: string | undefined, result: unknown): void => {
          pending.delete(id);
          signal.removeEventListener('abort', withdraw);
          if (error === undefined) resolve(result);
          else reject(new FarbusError(error));
        };
        pending.set(id, { settle, waitsFor: (what) => waitsFor(() => what) });
        signal.addEventListener('abort', withdraw, { once: true });
        send({ kind: 'ask', id, asked });
      });
    const computer: RunningComputer = {
      input: (bytes) => send({ kind: 'input', bytes }),
      moveLease: async (device, to, work) => void (await ask({ kind: 'lease', device, to }, work)),
      control: (request, work) => ask({ kind: 'control', request }, work),
      stop: async () => {
        stopping = true;
        if (child.pid === undefined) return;
        send({ kind: 'stop' });
        const timer = setTimeout(() => child.kill('SIGKILL'), stopMs);
        await ended;
        clearTimeout(timer);
      },
    };
    return computer;
  };
}

/**
 * The computer's process: starts the computer by `start` when the parent asks, and ends with the
 * parent.
 */
export function serveParent(start: StartComputer): void {
  let computer: RunningComputer | undefined;
  const withdrawals = new Map<number, AbortController>();
  const send = (message: FromComputer): void => {
    if (process.connected) process.send!(message, () => undefined);
  };
  const exit = (): void => {
    // Let messages in flight arrive.
    if (process.connected) process.disconnect();
    endProcess(0);
  };
  const events: ComputerEvents = {
    state: (state, detail) => {
      send({ kind: 'state', state, detail });
      if (state === 'failed' || state === 'ended' || state === 'stopped') setTimeout(exit, 100);
    },
    output: (bytes) => send({ kind: 'output', bytes }),
    log: (level, message) => send({ kind: 'log', level, message }),
    leases: (leases) => send({ kind: 'leases', leases }),
  };
  const stop = (): void => {
    if (!computer) return exit();
    void computer.stop().then(exit);
  };
  process.on('message', (message: ToComputer) => {
    switch (message.kind) {
      case 'start': {
        const { plan, segment, options } = message;
        const pipe = (): Socket => new Socket({ fd: pipeDescriptor, readable: true, writable: true });
        computer = start(plan, segment && new PipeSegment(segment.name, segment.mtu, pipe()), events, options);
        return;
      }
      case 'input':
        return computer?.input(message.bytes);
      case 'ask': {
        const { id, asked } = message;
        const withdrawn = new AbortController();
        withdrawals.set(id, withdrawn);
        const waitsFor = (what: () => string): void => send({ kind: 'waiting', id, what: what() });
        void answer(computer, asked, { signal: withdrawn.signal, waitsFor })
          .then(
            (result) => send({ kind: 'answered', id, error: undefined, result }),
            (error: unknown) => send({ kind: 'answered', id, error: messageOf(error), result: undefined }),
          )
          .finally(() => withdrawals.delete(id));
        return;
      }
      case 'withdraw':
        return withdrawals.get(message.id)?.abort();
      case 'stop':
        return stop();
    }
  });
  // The parent process, which runs the site, has ended.
  process.once('disconnect', stop);
  send({ kind: 'ready' });
}

async function answer(computer: RunningComputer | undefined, asked: Asked, work: Work): Promise<unknown> {
  // A request of the page or of a command can arrive before the order to start.
  if (!computer) throw new FarbusError('the computer is starting');
  if (asked.kind === 'control') return computer.control(asked.request, work);
  return computer.moveLease(asked.device, asked.to, work);
}
