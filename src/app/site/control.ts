/**
 * The control socket of a running site: the states of its computers, their leases and consoles, and
 * its end.
 */
import type { Socket } from 'node:net';
import { FarbusError } from '../../base/errors.js';
import { isOver, type LeaseState } from '../../site/computer.js';
import type { ComputerStatus, Supervisor } from '../../site/supervisor.js';
import { ControlStream, type ControlHandler } from '../control/server.js';

/** The result of `status`. */
export interface SiteStatus {
  readonly computers: readonly ComputerStatus[];
  readonly leases: readonly LeaseState[];
  /** The folder of the logs. */
  readonly logs: string;
}

/** Maximum bytes buffered for a slow console reader; further output is dropped. */
const maxPending = 1 << 20;

/**
 * Handles control commands: `status`; `lease {device, to}`, which moves a lease; `console
 * {computer}`, a stream; and `down`, which ends the site.
 */
export function siteHandler(supervisor: Supervisor, logs: string, down: () => Promise<void>): ControlHandler {
  return async (request, work) => {
    switch (request.command) {
      case 'status':
        return { computers: supervisor.status, leases: supervisor.leases, logs } satisfies SiteStatus;
      case 'lease':
        await supervisor.moveLease(String(request['device']), String(request['to']), work);
        return { leases: supervisor.leases };
      case 'down': {
        const left = (): string => supervisor.status.flatMap((one) => (isOver(one.state) ? [] : [one.name])).join(', ');
        work.waitsFor(() => `${left() || 'the segments'} to end`);
        await down();
        return {};
      }
      case 'console': {
        const computer = String(request['computer']);
        supervisor.checkComputer(computer);
        return new ControlStream((socket, rest) => console(socket, supervisor, computer, rest));
      }
      default:
        throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
    }
  };
}

function console(socket: Socket, supervisor: Supervisor, computer: string, rest: Uint8Array): void {
  const stop = supervisor.watch(computer, {
    receive: (bytes) => {
      if (socket.writableLength < maxPending) socket.write(bytes);
    },
    over: () => socket.end(),
  });
  socket.on('close', stop);
  socket.on('end', () => socket.end());
  socket.on('data', (bytes: Buffer) => supervisor.input(computer, bytes));
  if (rest.length > 0) supervisor.input(computer, rest);
  socket.resume();
}
