/**
 * The events of the web server: the state of the exports once a second, and the last commands for
 * the picture of their flow (docs/web.md, "Events"). Commands are watched only while a client
 * listens.
 */
import { performance } from 'node:perf_hooks';
import { messageOf } from '../../base/errors.js';
import { blockErrorOf } from '../../block/errors.js';
import type { Exports, Offered } from '../../export/exports.js';
import type { CommandWatch, WatchedCommand } from '../../export/watch.js';
import type { CallerRights, MessageSocket, Route } from '../../web/server/routes.js';

const stateMs = 1000;
const commandsMs = 250;
/** Most commands in a message. */
const mostCommands = 64;
/** Most durations of an export from which percentiles are taken, in one interval. */
const mostDurations = 4096;

export function eventRoutes(exports: Exports, watch: CommandWatch): Route[] {
  return [
    {
      kind: 'messages',
      path: '/api/events',
      protocol: 'farbus.events',
      right: 'token',
      open: async ({ rights }) => {
        return (socket) => new Events(socket, rights, exports, watch).start();
      },
    },
  ];
}

/** The activity of an export since the last message. */
interface Activity {
  reads: number;
  writes: number;
  /** Durations in ms: a random sample if there are more than {@link mostDurations}. */
  readonly durations: number[];
  seen: number;
  /** Bytes. */
  read: number;
  written: number;
  /** The counter at the last message. */
  readonly errors: number;
}

/** The events of one client. */
class Events {
  readonly #socket: MessageSocket;
  readonly #rights: CallerRights;
  readonly #exports: Exports;
  readonly #watch: CommandWatch;
  readonly #activities = new Map<string, Activity>();
  #commands: WatchedCommand[] = [];
  #dropped = 0;
  #last = performance.now();

  constructor(socket: MessageSocket, rights: CallerRights, exports: Exports, watch: CommandWatch) {
    this.#socket = socket;
    this.#rights = rights;
    this.#exports = exports;
    this.#watch = watch;
  }

  start(): void {
    const unwatch = this.#watch.add((command) => this.#saw(command));
    for (const offered of this.#visible()) this.#activities.set(offered.name, activityOf(offered));
    this.#sendState();
    const timers = [setInterval(() => this.#sendState(), stateMs), setInterval(() => this.#sendCommands(), commandsMs)];
    this.#socket.attach({
      // A client has nothing to say.
      message: () => this.#socket.close(1008, 'this address only sends'),
      closed: () => {
        unwatch();
        timers.forEach(clearInterval);
      },
    });
  }

  *#visible(): Iterable<Offered> {
    for (const offered of this.#exports.list()) if (this.#rights.to(offered.name)) yield offered;
  }

  #saw(command: WatchedCommand): void {
    const activity = this.#activities.get(command.export);
    if (!activity || !this.#rights.to(command.export)) return;
    const { operation, length, error } = command;
    const bytes = error === undefined ? length : 0;
    if (operation === 'read') {
      activity.reads++;
      activity.read += bytes;
    } else if (operation === 'write') {
      activity.writes++;
      activity.written += bytes;
    }
    const at = activity.seen++ < mostDurations ? activity.durations.length : Math.floor(Math.random() * activity.seen);
    if (at < mostDurations) activity.durations[at] = command.ms;
    if (this.#commands.length < mostCommands) this.#commands.push(command);
    else this.#dropped++;
  }

  #sendState(): void {
    const now = performance.now();
    const seconds = Math.max(0.001, (now - this.#last) / 1000);
    this.#last = now;
    const exports = [...this.#visible()].map((offered) => {
      const { name, users, lease, device, media, counters } = offered;
      const activity = this.#activities.get(name) ?? activityOf(offered);
      this.#activities.set(name, activityOf(offered));
      const rate = (count: number): number => Math.max(0, Math.round(count / seconds));
      return {
        name,
        clients: users.size,
        ...(lease && { writer: lease.holder }),
        ...(device.media && { medium: { present: device.media.medium !== '', held: media.held } }),
        ...(device.info.away !== undefined && { away: true }),
        reads: rate(activity.reads),
        writes: rate(activity.writes),
        read: rate(activity.read),
        written: rate(activity.written),
        errors: Math.max(0, counters.errors - activity.errors),
        ...latencyOf(activity.durations),
      };
    });
    this.#socket.send(JSON.stringify({ type: 'state', time: Date.now(), exports }));
    const names = new Set(exports.map(({ name }) => name));
    for (const name of this.#activities.keys()) if (!names.has(name)) this.#activities.delete(name);
  }

  #sendCommands(): void {
    if (this.#commands.length === 0) return;
    const commands = this.#commands.map((command) => {
      const { export: name, client, operation, offset, length, start, ms, error } = command;
      return {
        time: Math.round(performance.timeOrigin + start),
        export: name,
        client: this.#rights.control ? client : '',
        operation: operation === 'writeZeroes' ? 'zeroes' : operation,
        offset,
        length,
        ms: rounded(ms),
        error: error === undefined ? '' : this.#rights.control ? messageOf(error) : blockErrorOf(error).kind,
      };
    });
    const dropped = this.#dropped;
    this.#commands = [];
    this.#dropped = 0;
    this.#socket.send(JSON.stringify({ type: 'commands', dropped, commands }));
  }
}

function activityOf({ counters: { errors } }: Offered): Activity {
  return { reads: 0, writes: 0, durations: [], seen: 0, read: 0, written: 0, errors };
}

function latencyOf(durations: number[]): { latency?: { p50: number; p99: number } } {
  if (durations.length === 0) return {};
  const sorted = Float64Array.from(durations).sort();
  const at = (part: number): number => rounded(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!);
  return { latency: { p50: at(0.5), p99: at(0.99) } };
}

/** Milliseconds with three digits after the point. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
