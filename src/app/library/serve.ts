/** Serves disks from a program: the library's form of `farbus serve`. */
import { bootId } from '../../base/boot-id.node.js';
import { FarbusError, usageError } from '../../base/errors.js';
import { silent, type Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import type { BlockDevice } from '../../block/device.js';
import { KeptOpenFilter } from '../../block/filters/kept-open.js';
import type { ConnectionLimits } from '../../export/admission.js';
import type { ExportOptions } from '../../export/exports.js';
import { ServeService } from '../serve/service.js';
import { defaultReconnect, nameOf } from '../serve/settings.js';
import { parseSource } from '../source-text.js';
import { openExport } from '../sources.js';
import { memoryOf, memoryOfProcess } from '../unflushed.js';

/** A disk to serve, with the rules of its export. */
export interface ServedExport extends Pick<
  ExportOptions,
  'description' | 'readOnly' | 'tlsOnly' | 'access' | 'maxConnections' | 'oneWriter' | 'rate'
> {
  /** The text of a source, which the server opens and closes, or a device, which it leaves open. */
  readonly source: string | BlockDevice;
}

/** Encryption of a server: certificates or keys, not both. */
export interface ServeTls {
  /** A folder with server-cert.pem and server-key.pem, and ca-cert.pem if `verifyPeer`. */
  readonly certificates?: string | undefined;
  /** A file with lines USER:KEY, the key in hex. */
  readonly pskFile?: string | undefined;
  /** Accept only clients with a certificate that ca-cert.pem signed. Default false. */
  readonly verifyPeer?: boolean | undefined;
  /** `require`: clients must use TLS; `on`: they may. Default `require`. */
  readonly mode?: 'require' | 'on' | undefined;
}

/** Options of {@link serve}. */
export interface ServeOptions {
  /**
   * One address or several: `nbd://HOST[:PORT]` (port 0: a free one), `nbd+unix:///?socket=PATH`,
   * or `aoe:SHELF.SLOT@SEGMENT`. Default: `nbd://127.0.0.1:10809`.
   */
  readonly listen?: string | readonly string[];
  /** Encrypts NBD connections. Default: they are not encrypted. */
  readonly tls?: ServeTls;
  /** Limits of connections. Default: 4096 in all, 1024 from one address, 1000 handshakes. */
  readonly limits?: Partial<ConnectionLimits>;
  /** How long requests wait for a lost source on another computer, in seconds. Default 60. */
  readonly reconnectSeconds?: number;
  /** Ends the start, which then rejects with the signal's reason. Later it has no effect. */
  readonly signal?: AbortSignal;
  /** Receives warnings, and connections as they come and go. Default: nothing is logged. */
  readonly log?: Logger;
  /** Receives the steps of each request, for traces. */
  readonly steps?: Steps;
}

/** One export of a running server. */
export interface ServedDisk {
  /** The name by which clients ask for it. */
  readonly name: string;
  /** Its size in bytes. */
  readonly size: number;
  /** True if clients cannot write it. */
  readonly readOnly: boolean;
  /** Its addresses, one for each address on which the server listens. */
  readonly uris: readonly string[];
}

/** A running server. Made by {@link serve}. */
export class DiskServer {
  readonly #service: ServeService;

  /** @internal */
  constructor(service: ServeService) {
    this.#service = service;
  }

  /** The exports, in the order in which they were given. */
  get disks(): readonly ServedDisk[] {
    return this.#service.describe().map(({ name, size, readOnly, uris }) => ({ name, size, readOnly, uris }));
  }

  /** Number of NBD connections that are open. */
  get connections(): number {
    return this.#service.server.connections;
  }

  /**
   * The first address of an export, for a client.
   * @param name of the export; default: the first export
   * @throws FarbusError if there is no such export
   */
  uri(name?: string): string {
    const found = this.disks.find((disk) => name === undefined || disk.name === name);
    if (found) return found.uris[0]!;
    throw usageError(`there is no export ${JSON.stringify(name)}: give one of ${this.#names}`);
  }

  get #names(): string {
    return this.disks.map((disk) => disk.name).join(', ');
  }

  /**
   * Stops the server: accepts no more connections, answers the requests in flight within 10 s, ends
   * the connections, and closes the disks that it has opened. Idempotent.
   */
  close(): Promise<void> {
    return this.#service.stop();
  }
}

/**
 * Serves disks by NBD or AoE.
 *
 * @param exports one source, or exports by name; the first one is what a client gets that asks for
 * no name
 * @returns the server, when it accepts connections
 * @throws FarbusError if a disk cannot be opened or an address cannot be used
 *
 * @example
 * ```ts
 * import { MemoryDevice } from 'farbus';
 * import { serve } from 'farbus/node';
 *
 * const server = await serve(
 *   {
 *     far: 'ssh://server/dev/sdb,overlay=changes.img',
 *     scratch: { source: new MemoryDevice(64 << 20), oneWriter: 'refuse' },
 *   },
 *   { listen: 'nbd://127.0.0.1:0' },
 * );
 * console.log(server.uri('far'));
 * await server.close();
 * ```
 */
export async function serve(
  exports: string | Readonly<Record<string, string | BlockDevice | ServedExport>>,
  options: ServeOptions = {},
): Promise<DiskServer> {
  const { log = silent, listen = [], tls = {}, limits = {}, steps, signal } = options;
  const disks = typeof exports === 'string' ? [named(exports)] : Object.entries(exports);
  if (disks.length === 0) throw usageError('serve what? Give at least one export');
  const service = new ServeService({ log, bootId: bootId(), sockets: [], steps });
  try {
    for (const [name, disk] of disks) {
      const { source, ...rules } = typeof disk === 'string' || 'info' in disk ? { source: disk } : disk;
      if (rules.tlsOnly && !options.tls) {
        throw usageError(`the export ${JSON.stringify(name)} is tlsOnly, and the server has no TLS: give tls`);
      }
      service.add({ name, ...rules, ...(await opened(source, rules, options)) });
    }
    await service.start(
      {
        listen: typeof listen === 'string' ? [listen] : listen,
        exports: [],
        limits,
        metrics: undefined,
        web: undefined,
        lentAccess: {},
        reconnectSeconds: options.reconnectSeconds ?? defaultReconnect,
        tls: {
          tls: tls.mode,
          'tls-certificates': tls.certificates,
          'tls-psk': tls.pskFile,
          'tls-verify-peer': tls.verifyPeer ?? false,
        },
      },
      signal,
    );
    return new DiskServer(service);
  } catch (error) {
    await service.stop();
    throw error;
  }
}

/** An export that is named after its source. */
function named(source: string): [string, string] {
  const name = nameOf(parseSource(source));
  if (name === '') throw new FarbusError(`${source} has no name: give an object { NAME: SOURCE }`, { kind: 'usage' });
  return [name, source];
}

/** Opens the source of an export, or takes the caller's device, which stays open at the end. */
async function opened(
  source: string | BlockDevice,
  { readOnly, rate }: Omit<ServedExport, 'source'>,
  { reconnectSeconds = defaultReconnect, signal, log = silent }: ServeOptions,
): Promise<Pick<ExportOptions, 'device' | 'state' | 'rate'>> {
  if (typeof source !== 'string') {
    return { device: new KeptOpenFilter(source), state: memoryOfProcess(), rate };
  }
  const parsed = parseSource(source);
  const device = await openExport(parsed, { readOnly, reconnectSeconds, signal, log, limit: false });
  return { device, state: memoryOf(parsed, {}, bootId()), rate: parsed.filters.rate ?? rate };
}
