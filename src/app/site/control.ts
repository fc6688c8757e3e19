/**
 * The control socket of a running site: the states of its computers, their leases and consoles, and
 * its end.
 */
import { FarbusError } from '../../base/errors.js';
import { isOver, type LeaseState } from '../../site/computer.js';
import type { ComputerStatus, Supervisor } from '../../site/supervisor.js';
import { consoleStream } from '../control/console.js';
import type { ControlHandler, ControlRequest } from '../control/server.js';

/** The result of `status`. */
export interface SiteStatus {
  readonly computers: readonly ComputerStatus[];
  readonly leases: readonly LeaseState[];
  /** The folder of the logs. */
  readonly logs: string;
}

/**
 * Handles control commands: `status`; `lease {device, to}`, which moves a lease; `console
 * {computer, alone}`, a stream; `computer {computer, request}`, a request to a computer
 * (app/computer/control); `stop-computer {computer}`; `start-computer {computer}`, which refuses
 * one that runs; `restart-computer {computer}`; and `down`, which ends the site.
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
      case 'stop-computer': {
        const computer = String(request['computer']);
        work.waitsFor(() => `${computer} to end`);
        await supervisor.stopComputer(computer);
        return {};
      }
      case 'start-computer':
      case 'restart-computer': {
        const computer = String(request['computer']);
        work.waitsFor(() => `${computer} to start`);
        if (request.command === 'start-computer') await supervisor.startComputer(computer);
        else await supervisor.restartComputer(computer);
        return {};
      }
      case 'computer': {
        const asked = request['request'] as ControlRequest | null | undefined;
        if (typeof asked?.command !== 'string') throw new FarbusError('a request is an object with a command');
        return supervisor.control(String(request['computer']), asked, work);
      }
      case 'console': {
        const computer = String(request['computer']);
        const send = (bytes: Uint8Array): void => supervisor.input(computer, bytes);
        return consoleStream(supervisor.console(computer), send, request['alone'] === true);
      }
      default:
        throw new FarbusError(`there is no command ${JSON.stringify(request.command).slice(0, 100)}`);
    }
  };
}
