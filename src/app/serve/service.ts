/**
 * A running `farbus serve`: opens the exports and listeners of its settings, applies new settings
 * while connections continue, and reports its status.
 */
import type { Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { Steps } from '../../base/steps.js';
import { defaultConnectionLimits } from '../../export/admission.js';
import { exportUri, type ListenAddress } from '../../export/nbd/address.js';
import type { BlockDevice } from '../../block/device.js';
import { ExchangeableDrive } from '../../block/exchangeable-drive.js';
import { drain, type Adapter } from '../../export/drain.js';
import { Exports, type ExportOptions, type Offered } from '../../export/exports.js';
import { serveOnSegment } from '../../export/aoe/serve.node.js';
import type { AoeListener } from '../../protocol/aoe/target/open.node.js';
import { RateSampler } from '../../export/rates.js';
import { Server } from '../../export/nbd/server.js';
import type { CommandWatch } from '../../export/watch.js';
import type { HandedSocket } from '../../export/systemd.node.js';
import type { Work } from '../../base/work.js';
import { listenOn, listenOnDescriptor } from '../../network/listen.node.js';
import { sharedMemory } from '../../protocol/nbd/spec.js';
import { memoryOf } from '../unflushed.js';
import { Lends } from './lends.js';
import { serveMetrics } from './metrics.js';
import { parseListen } from './listen.js';
import { defaultReconnect, type ExportSettings, type ServeSettings } from './settings.js';
import { openExport, openSource } from '../sources.js';
import { parseSource } from '../source-text.js';
import { openTls } from './tls.js';

export interface ServeContext {
  readonly log: Logger;
  /** Names the memory of this computer's page cache; see {@link Exports}. */
  readonly bootId: string;
  readonly sockets: readonly HandedSocket[];
  /** Receives trace steps, for `--trace`. */
  readonly steps?: Steps | undefined;
  /** Reports the requests of all connections, for the web server. */
  readonly watch?: CommandWatch | undefined;
}

interface Place {
  readonly at: ListenAddress;
  close(): Promise<void>;
}

const defaultListen = 'nbd://127.0.0.1:10809';

export class ServeService {
  readonly server: Server;
  readonly started = Date.now();
  /** Exports whose disks browsers' tabs lend. */
  readonly lends: Lends;
  readonly rates: RateSampler;
  readonly #context: ServeContext;
  /** Listeners by the text of their setting. */
  readonly #places = new Map<string, Place>();
  /** Targets on segments by the text of their setting. */
  readonly #aoe = new Map<string, AoeListener>();
  /** Drives whose media are exchanged here, by export name. */
  readonly #drives = new Map<string, ExchangeableDrive>();
  /** Sources of the media that were inserted later, by export name. */
  readonly #inserted = new Map<string, string>();
  #settings: ServeSettings | undefined;
  #metrics: HttpServer | undefined;
  #stopped: Promise<void> | undefined;

  constructor(context: ServeContext) {
    this.#context = context;
    this.server = new Server(new Exports(context.bootId), context.log);
    this.server.steps = context.steps;
    const { exports } = this.server;
    this.rates = new RateSampler(exports);
    this.lends = new Lends({ exports, log: context.log, reconnectSeconds: defaultReconnect });
  }

  /** Adds an export with a device that is open already. Call it before {@link start}. */
  add(options: ExportOptions): void {
    this.server.exports.add(options);
  }

  /**
   * Opens exports and listeners. Rejects with a FarbusError or the signal's reason; {@link stop}
   * must be called even then.
   */
  async start(settings: ServeSettings, signal?: AbortSignal): Promise<void> {
    const listen = this.#listenOf(settings);
    this.server.tls = await securityOf(settings);
    for (const one of settings.exports) this.#add(one, await this.#open(one, settings, signal), settings);
    this.#setLimits(settings);
    for (const { fd } of this.#context.sockets) {
      const listener = await listenOnDescriptor(fd, this.server.accept, this.#acceptFailed);
      this.server.add(listener);
      this.#places.set(`descriptor ${fd}`, listener);
    }
    for (const text of listen) await this.#listen(text);
    if (settings.metrics !== undefined) this.#metrics = await serveMetrics(settings.metrics, this.server, this.rates);
    this.#settings = settings;
    this.rates.start();
  }

  /**
   * Applies new settings. New exports and listeners are opened and removed ones are closed;
   * connections that use them continue until their clients disconnect. Rejects with a FarbusError
   * if something cannot be opened or `work` is withdrawn; then nothing changes.
   */
  async reload(settings: ServeSettings, work?: Work): Promise<void> {
    const before = this.#settings!;
    if (settings.metrics !== before.metrics) throw new FarbusError('another address of metrics needs a restart');
    if (JSON.stringify(settings.web) !== JSON.stringify(before.web)) {
      throw new FarbusError('another address of the web server needs a restart');
    }
    // Always read certificates again, because they expire.
    const tls = await securityOf(settings);
    const { exports } = this.server;
    const old = new Map(before.exports.map((one) => [one.name, one]));
    const changed = settings.exports.filter((one) => !sameDevice(old.get(one.name), before, one, settings));
    const gone = before.exports.filter((one) => !settings.exports.some(({ name }) => name === one.name));
    const listen = this.#listenOf(settings);
    const newPlaces = listen.filter((text) => !this.#places.has(text) && !this.#aoe.has(text));
    const oldPlaces = this.#listenOf(before).filter((text) => !listen.includes(text));
    const segments = [...newPlaces, ...oldPlaces].some((text) => text.startsWith('aoe:'));
    if (segments || (this.#aoe.size > 0 && (changed.length > 0 || gone.length > 0))) {
      throw new FarbusError('what is served on Ethernet segments changes with a restart only');
    }
    for (const { name, oneWriter } of settings.exports) {
      if (exports.find(name)?.inUse && old.get(name)?.oneWriter !== oneWriter) {
        throw new FarbusError(
          `one-writer of ${JSON.stringify(name)} can change only while no client uses it: try again then`,
        );
      }
    }
    const opened: [ExportSettings, BlockDevice][] = [];
    const begun: string[] = [];
    try {
      for (const one of changed) {
        work?.waitsFor(() => `the source of ${JSON.stringify(one.name)}`);
        opened.push([one, await this.#open(one, settings, work?.signal)]);
      }
      for (const text of newPlaces) {
        await this.#listen(text);
        begun.push(text);
      }
      work?.signal.throwIfAborted();
    } catch (error) {
      for (const [, device] of opened) await device.close().catch(() => undefined);
      for (const text of begun) await this.#unlisten(text);
      throw error;
    }
    this.server.tls = tls;
    for (const { name } of gone) {
      exports.remove(name);
      this.#drives.delete(name);
      this.#inserted.delete(name);
    }
    for (const [one, device] of opened) {
      exports.remove(one.name);
      this.#add(one, device, settings);
    }
    for (const { name, description, tlsOnly, access, maxConnections, oneWriter, ...one } of settings.exports) {
      exports.find(name)!.change({ description, tlsOnly, access, maxConnections, oneWriter, rate: rateOf(one) });
    }
    exports.setDefault(settings.exports.find(({ isDefault }) => isDefault)?.name ?? settings.exports[0]!.name);
    for (const text of oldPlaces) await this.#unlisten(text);
    this.#setLimits(settings);
    this.#settings = settings;
  }

  /** Addresses of the NBD listeners. */
  get listening(): ListenAddress[] {
    return [...this.#places.values()].map(({ at }) => at);
  }

  /** The URI of an export at this address; of the default export if `name` is ''. */
  uri(at: ListenAddress, name = ''): string {
    return exportUri(at, name, this.server.tls !== undefined);
  }

  /** All exports with their addresses, including those on segments. */
  describe(): { name: string; description: string; size: number; readOnly: boolean; uris: string[] }[] {
    return [...this.server.exports.list()].map(({ name, description, readOnly, device }, index) => ({
      name,
      description,
      size: device.info.size,
      readOnly: readOnly || device.info.readOnly,
      uris: [
        ...this.listening.map((at) => this.uri(at, name)),
        ...[...this.#aoe.values()].map(({ names }) => names[index]!),
      ],
    }));
  }

  /**
   * By export: its source, with the export's name unless that is the source's end; for a drive, the
   * medium that is in it now.
   */
  get sources(): ReadonlyMap<string, string> {
    const textOf = ({ name, source: { location, text } }: ExportSettings): string => {
      if (this.#drives.get(name)?.loaded === false) return `${name} (no medium)`;
      const inserted = this.#inserted.get(name);
      if (inserted !== undefined) return `${name}=${inserted}`;
      return location.endsWith(name) ? text : `${name}=${text}`;
    };
    return new Map(this.#settings?.exports.map((one) => [one.name, textOf(one)]));
  }

  /** The URL of the metrics, if they are served. */
  get metricsAddress(): string | undefined {
    const at = this.#metrics?.address() as AddressInfo | null | undefined;
    return at ? `http://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}/metrics` : undefined;
  }

  /**
   * Ejects the medium of an export. With `force` even if a client holds it. Rejects with a
   * FarbusError.
   * @returns false if there was no medium
   */
  async eject(name: string, force: boolean): Promise<boolean> {
    const { device, media: clients } = this.#export(name);
    const { media } = device;
    if (!media) throw new FarbusError(`the export ${JSON.stringify(name)} has no medium that can be ejected`);
    const { medium } = media;
    if (medium === '') return false;
    if (clients.held && !force) {
      throw new FarbusError(`a client holds the medium of ${JSON.stringify(name)}: let it eject it, or use --force`);
    }
    try {
      if (clients.held) await media.lock(false, { medium });
      await media.eject({ medium });
    } catch (error) {
      throw new FarbusError(`the medium of ${JSON.stringify(name)} is not ejected: ${messageOf(error)}`, {
        cause: error,
      });
    }
    return true;
  }

  /**
   * Inserts a medium into an export that was configured as removable. Rejects with a FarbusError.
   */
  async insert(name: string, source: string, work?: Work): Promise<void> {
    this.#export(name);
    const drive = this.#drives.get(name);
    if (!drive) {
      throw new FarbusError(
        `nothing can be inserted into the export ${JSON.stringify(name)}: serve it as NAME=SOURCE,removable`,
      );
    }
    if (drive.loaded) throw new FarbusError('there is a medium in the drive: eject it first');
    const { reconnectSeconds } = this.#settings!;
    const { readOnly } = drive.info;
    work?.waitsFor(() => source);
    const options = { readOnly, reconnectSeconds, signal: work?.signal, log: this.#context.log };
    const medium = await openSource(parseSource(source), options);
    try {
      work?.signal.throwIfAborted();
      drive.insert(medium);
      this.#inserted.set(name, source);
    } catch (error) {
      await medium.close();
      throw error;
    }
  }

  #export(name: string): Offered {
    const found = [...this.server.exports.list()].find((one) => one.name === name);
    if (!found) throw new FarbusError(`there is no export ${JSON.stringify(name)}: see farbus status`);
    return found;
  }

  /** Stops listening and waits for requests in flight. */
  stop(): Promise<void> {
    this.lends.close();
    this.rates.stop();
    this.#metrics?.closeAllConnections();
    this.#metrics?.close();
    const adapters: Adapter[] = [this.server, ...this.#aoe.values()];
    return (this.#stopped ??= drain(this.server.exports, adapters, this.#context.log));
  }

  #listenOf(settings: ServeSettings): readonly string[] {
    const { listen, listenNowhere = false, web } = settings;
    if (listen.length > 0 || this.#context.sockets.length > 0) return listen;
    if (!listenNowhere) return [defaultListen];
    if (web) return [];
    throw usageError('listen: [] without web leaves no way to the exports: name an address, or leave listen out');
  }

  #setLimits(settings: ServeSettings): void {
    const { limits, lentAccess: access, reconnectSeconds } = settings;
    this.server.connectionLimits = { ...defaultConnectionLimits, ...limits };
    const exportOptions = { access, metered: isMetered(settings), watch: this.#context.watch };
    this.lends.change({ reconnectSeconds, exportOptions });
  }

  async #open(
    { source, filters, readOnly }: ExportSettings,
    { reconnectSeconds }: ServeSettings,
    signal: AbortSignal | undefined,
  ): Promise<BlockDevice> {
    const { log } = this.#context;
    return openExport(source, { filters, readOnly, reconnectSeconds, signal, log, limit: false, admits: true });
  }

  #add(one: ExportSettings, device: ExportOptions['device'], settings: ServeSettings): void {
    const { takeOver } = device.writerLock ?? {};
    const state = takeOver ? sharedMemory + takeOver.storage : memoryOf(one.source, one.filters, this.#context.bootId);
    const { name, description, readOnly, tlsOnly, access, maxConnections, oneWriter, isDefault } = one;
    const common = { name, device, description, readOnly, tlsOnly, access, maxConnections, oneWriter, isDefault };
    this.#drives.delete(name);
    this.#inserted.delete(name);
    if (device instanceof ExchangeableDrive) this.#drives.set(name, device);
    const metered = isMetered(settings);
    this.server.exports.add({ ...common, state, rate: rateOf(one), metered, watch: this.#context.watch });
  }

  readonly #acceptFailed = (error: Error): void => {
    this.#context.log.log('warn', `cannot accept a connection: ${messageOf(error)}`);
  };

  async #listen(text: string): Promise<void> {
    const listen = parseListen(text);
    if ('nbd' in listen) {
      const listener = await listenOn(listen.nbd, this.server.accept, this.#acceptFailed);
      this.server.add(listener);
      this.#places.set(text, listener);
      return;
    }
    const { exports, steps } = this.server;
    const shared = [...exports.list()].find(({ takeOver }) => takeOver);
    if (shared) {
      throw usageError(`${JSON.stringify(shared.name)} is shared with other gateways, and --listen ${text} cannot be`);
    }
    this.#aoe.set(text, await serveOnSegment(listen.aoe, exports.list(), this.#context.log, steps));
  }

  async #unlisten(text: string): Promise<void> {
    const place = this.#places.get(text);
    this.#places.delete(text);
    if (place) await this.server.remove(place);
  }
}

/** Opens the encryption of connections. Rejects with a FarbusError. */
async function securityOf({ tls, exports }: ServeSettings): ReturnType<typeof openTls> {
  const security = await openTls(tls);
  const one = exports.find(({ tlsOnly }) => tlsOnly);
  if (!security && one) {
    throw usageError(
      `the export ${JSON.stringify(one.name)} is tls-only, and there is no TLS: give certificates or keys, and a mode that is not off`,
    );
  }
  return security;
}

/** Rate limit of an export in bytes a second, from its text or its settings. */
function rateOf({ source, filters }: Pick<ExportSettings, 'source' | 'filters'>): number | undefined {
  return source.filters.rate ?? filters.rate;
}

/** True if requests are timed: their times are shown by the metrics and the console page. */
function isMetered({ metrics, web }: ServeSettings): boolean {
  return metrics !== undefined || web !== undefined;
}

/** True if a device can stay open with the new settings. */
function sameDevice(
  old: ExportSettings | undefined,
  before: ServeSettings,
  one: ExportSettings,
  after: ServeSettings,
): boolean {
  const facts = (of: ExportSettings, { reconnectSeconds }: ServeSettings): string =>
    JSON.stringify([of.source.text, { ...of.filters, rate: undefined }, of.readOnly, reconnectSeconds]);
  return old !== undefined && facts(old, before) === facts(one, after);
}
