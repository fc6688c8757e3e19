/**
 * `farbus serve`: exports disks of any kind by NBD and AoE ([SYS] the server computer's physical
 * device 914).
 */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import type { BlockInfo } from '../../block/device.js';
import { Steps } from '../../base/steps.js';
import { bootId } from '../../base/boot-id.node.js';
import type { Facts } from '../../app/control/registry.js';
import { waysOf } from '../../app/control/ways.js';
import type { Work } from '../../base/work.js';
import { handedSockets, ServiceNotifier } from '../../export/systemd.node.js';
import { filtersOf } from '../../app/filters.js';
import { detach } from '../ui/detach.js';
import { enroll, type Enrolled } from '../ui/enroll.js';
import { announce, jsonLogger, stderrLogger, type CliIo } from '../ui/io.js';
import { parseListen } from '../../app/serve/listen.js';
import { defineCommand } from '../command.js';
import { options } from './serve-options.js';
import type { Given, Values } from '../table.js';
import { limitOption, numberOption } from '../options.js';
import { controlHandler } from '../../app/serve/control.js';
import { ServeService } from '../../app/serve/service.js';
import {
  connectionLimits,
  defaultReconnect,
  exportsOf,
  mostConnections,
  type ExportSettings,
  type ServeSettings,
} from '../../app/serve/settings.js';
import { onSignals } from '../ui/signals.js';
import { TracePrinter } from '../../app/trace.js';
import { parseOrigin, parseWeb } from '../../app/web/address.js';
import type { Web, WebOptions } from '../../app/web/serve.js';
import { CommandWatch } from '../../export/watch.js';

export const command = defineCommand({
  name: 'serve',
  summary: 'offer files and block devices to other computers',
  usage: ['[OPTIONS] [NAME=]SOURCE[,FILTER]...', '[OPTIONS] --config FILE'],
  about: `
    Offers disks to other computers as NBD exports (network block devices) or AoE targets. Each SOURCE is an export; its
    name is NAME or the last part of the source. A client that asks for no name gets the first. When the server is ready,
    it prints the address of each export on stdout, one a line. SIGTERM or Ctrl-C ends it in good order, a second signal at
    once. SIGHUP makes it read the configuration file again; connections continue. farbus status shows its state.`,
  options,
  often: [
    'listen',
    'read-only',
    'name',
    'config',
    'allow',
    'tls-certificates',
    'tls-verify-peer',
    'one-writer',
    'web',
    'json',
  ],
  topics: ['sources', 'segments'],
  notes: `
    Without --tls-certificates or --tls-psk there is no encryption, and without rules of access no password: every program
    that can connect can read and write. Listen on addresses other than 127.0.0.1 only in networks that you trust.
    docs/nbd.md explains how to make certificates.`,
  examples: [
    'farbus serve disk.img',
    'farbus serve --read-only /dev/sdb',
    'farbus serve --detach disk.img && farbus stop server',
    'farbus serve --listen nbd://0.0.0.0 --allow 192.168.1.0/24 system=/dev/sda data=/srv/data.img',
    "farbus serve --listen 'nbd+unix:///?socket=/run/disk.sock' vm.qcow2",
    'farbus serve ssh://server/dev/sdb,cache=sdb.cache,overlay=changes.img',
    'farbus serve --listen nbd://0.0.0.0 --tls-certificates /etc/pki/farbus --tls-verify-peer /dev/sdb',
    'farbus serve cd=first.iso,removable,read-only',
    'farbus serve /dev/sdb --partition 2 --one-writer --rate 50M --metrics 9464',
    'farbus serve --web 8080 disk.img',
    'farbus serve --config /etc/farbus/serve.yaml --log-format json',
  ],
  pages: ['serve', 'filters', 'nbd', 'web'],
  operands: 'source',
  run: serve,
});

async function serve({ values, operands, args }: Given<typeof options>, io: CliIo): Promise<number> {
  const json = values['log-format'] === 'json';
  const log = json ? jsonLogger(io) : stderrLogger(io);
  const read = (): Promise<ServeSettings> => settingsOf(values, operands);
  const settings = await read();
  if (values.detach && !io.detached) return detach(['serve', ...args], io);
  const { config, trace, 'server-name': serverName } = values;
  return new Run({ io, log, read, reloads: config !== undefined, json: values.json, trace, serverName }).run(settings);
}

/** Time for the server to end after the first signal, in ms, whatever hangs (docs/serve.md). */
const endMs = 15_000;
/** Milliseconds after which an ending that still waits says so. Chosen, not measured. */
const sayEndingAfterMs = 1000;

type ServeValues = Values<typeof options>;

/** The options that set encryption. */
const tlsNames = ['tls', 'tls-certificates', 'tls-psk', 'tls-verify-peer'] as const;

/** The settings from the command line, or from the file that it names. */
async function settingsOf(values: ServeValues, sources: readonly string[]): Promise<ServeSettings> {
  const { listen, metrics, reconnect, config, name, description, allow } = values;
  for (const one of listen) parseListen(one);
  const given = {
    limits: limitsOf(values),
    metrics,
    web: webOf(values),
    reconnectSeconds: reconnect === undefined ? defaultReconnect : numberOption('reconnect', reconnect, 0, 86_400),
    lentAccess: { networks: allow.length > 0 ? allow : undefined },
    tls: values,
  };
  const { 'read-only': readOnly = false, ...filters } = filtersOf(values);
  if (config === undefined) {
    const exports = exportsOf(sources, {
      name,
      description,
      readOnly,
      filters,
      oneWriter: values['one-writer'] as ExportSettings['oneWriter'],
      tlsOnly: false,
      access: { networks: allow.length > 0 ? allow : undefined },
      maxConnections: undefined,
    });
    return { listen, exports, ...given };
  }
  const mixed = [name, description, allow[0], values['one-writer']].find((value) => value !== undefined);
  if (sources.length > 0 || mixed !== undefined || readOnly || Object.keys(filters).length > 0) {
    throw usageError('--config goes without sources and without options of exports: put them into the file');
  }
  const { readSettings } = await import('../../app/serve/config.js');
  const settings = await readSettings(config);
  const tls = tlsNames.some((name) => values[name] !== undefined && values[name] !== false);
  return {
    ...settings,
    lentAccess: settings.lentAccess,
    tls: tls ? given.tls : settings.tls,
    listen: [...settings.listen, ...listen],
    limits: { ...settings.limits, ...given.limits },
    metrics: given.metrics ?? settings.metrics,
    web: given.web ?? settings.web,
    reconnectSeconds: reconnect === undefined ? settings.reconnectSeconds : given.reconnectSeconds,
  };
}

function webOf({ web, 'web-origin': origins }: ServeValues): ServeSettings['web'] {
  if (web === undefined) {
    if (origins.length > 0) throw usageError('--web-origin is for --web: give --web PORT');
    return undefined;
  }
  parseWeb(web);
  return { at: web, origins: origins.map(parseOrigin) };
}

function limitsOf(values: ServeValues): ServeSettings['limits'] {
  const found = Object.entries(connectionLimits).flatMap(([word, key]) => {
    const value = values[word as keyof typeof connectionLimits];
    if (value === undefined) return [];
    return [[key, limitOption(word, value, mostConnections)] as const];
  });
  return Object.fromEntries(found);
}

interface RunOptions {
  readonly io: CliIo;
  readonly log: Logger;
  /** Reads the settings again. */
  readonly read: () => Promise<ServeSettings>;
  /** True if there is a configuration file that may have changed. */
  readonly reloads: boolean;
  readonly json: boolean;
  /** File for trace steps; '' for stderr; undefined for no trace. */
  readonly trace: string | undefined;
  /** The name that the user chose for the server. */
  readonly serverName: string | undefined;
}

/** A server from its start to its end. */
class Run {
  readonly #options: RunOptions;
  #reloading: Promise<void> = Promise.resolve();
  #web: Web | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
  }

  async run(settings: ServeSettings): Promise<number> {
    const { io, log, json, trace, serverName } = this.#options;
    const steps = trace === undefined ? undefined : new Steps();
    const printer = steps && (await TracePrinter.open(trace!, io.stderr, log));
    if (printer) steps.add(printer);
    const notifier = new ServiceNotifier(io.env, log);
    const signals = onSignals({ hangUp: false, endMs });
    const watch = settings.web && new CommandWatch();
    const service = new ServeService({ log, bootId: bootId(), sockets: handedSockets(io.env), steps, watch });
    let enrolled: Enrolled | undefined;
    let ending: NodeJS.Timeout | undefined;
    const hangUp = (): void =>
      void this.#reload(service, notifier).catch((error: unknown) => {
        log.log('error', `not reloaded, the settings stay as they were: ${messageOf(error)}`);
      });
    try {
      const uses = settings.exports.map(({ source }) => source.text);
      const without = 'farbus status will not find this server';
      enrolled = await enroll({ io, kind: 'serve', name: serverName, log, uses, without });
      await signals.during(service.start(settings, signals.signal));
      const parts = { service, watch, name: enrolled.name };
      const web = settings.web && (await this.#serveWeb(settings, settings.web, parts));
      this.#web = web;
      const handler = controlHandler(service, (asked) => this.#reload(service, notifier, asked), web);
      enrolled.serve(handler, () => factsOf(service, web));
      const { name } = enrolled;
      process.on('SIGHUP', hangUp);
      if (io.detached) {
        const text = `${name}\n${linesOf(service, web)}${certificateLine(web)}`;
        await io.detached.ready(json ? jsonOf(service, web, name) : text);
      } else announce(io, json ? jsonOf(service, web) : linesOf(service, web), log);
      if (web?.fingerprint !== undefined) {
        log.log('info', `the web server's certificate was generated here; its SHA-256 is ${web.fingerprint}`);
      }
      notifier.ready(summary(service));
      await signals.received;
      notifier.stopping();
      // Most endings are quick and need no words.
      ending = setTimeout(() => {
        log.log('info', 'ending: waiting for requests in flight; a second signal ends at once');
      }, sayEndingAfterMs);
    } finally {
      process.off('SIGHUP', hangUp);
      await enrolled?.close();
      this.#web?.stop();
      try {
        await service.stop();
      } finally {
        this.#web?.close();
        clearTimeout(ending);
        await printer?.close();
        notifier.close();
        signals.stop();
      }
    }
    return 0;
  }

  /** Loads the console only where it is asked for: it includes the guest's engine. */
  async #serveWeb(
    { tls }: ServeSettings,
    { at, origins }: NonNullable<ServeSettings['web']>,
    parts: Pick<WebOptions, 'service' | 'watch' | 'name'>,
  ): Promise<Web> {
    const { io, log } = this.#options;
    const { startWeb } = await import('../../app/web/serve.js');
    return startWeb({ at, origins, tls, env: io.env, log, ...parts });
  }

  /** Reloads the settings, one reload at a time. */
  #reload(service: ServeService, notifier: ServiceNotifier, asked?: Work): Promise<void> {
    const work = async (): Promise<void> => {
      const { reloads, read, log } = this.#options;
      if (!reloads) throw new FarbusError('there is no configuration file to read again: start it with --config FILE');
      asked?.signal.throwIfAborted();
      notifier.reloading();
      try {
        const settings = await read();
        await service.reload(settings, asked);
        await this.#web?.renew(settings.tls);
        log.log('info', 'reloaded');
      } finally {
        notifier.ready(summary(service));
      }
    };
    const result = this.#reloading.then(work);
    this.#reloading = result.catch(() => undefined);
    return result;
  }
}

function summary(service: ServeService): string {
  const names = [...service.server.exports.list()].map(({ name }) => name);
  return `${names.length} exports: ${names.slice(0, 8).join(', ')}`;
}

function linesOf(service: ServeService, web: Web | undefined): string {
  const described = service.describe();
  const lines = service.listening.flatMap((at) => described.map(({ name }) => service.uri(at, name)));
  const segments = described.flatMap(({ uris }) => uris.filter((uri) => uri.startsWith('aoe:')));
  return [...lines, ...segments, ...(web ? [web.address] : [])].map((line) => `${line}\n`).join('');
}

/** The fingerprint, for a detached server, whose log the user does not see. */
function certificateLine(web: Web | undefined): string {
  return web?.fingerprint === undefined ? '' : `SHA-256 of the web server's certificate: ${web.fingerprint}\n`;
}

/** The server for `farbus ps`. */
function factsOf(service: ServeService, web: Web | undefined): Facts {
  const uris = service.describe().flatMap((one) => one.uris);
  const { sources } = service;
  const infoOf = (name: string): BlockInfo | undefined => service.server.exports.find(name)?.device.info;
  const ways = waysOf([...sources].map(([name, source]) => [source, infoOf(name)]));
  // Without the token: other programs of this user may log it.
  const reach = [...uris, ...(web ? [web.plainAddress] : [])];
  return { state: 'running', uses: [...sources.values()], reach, ...ways };
}

function jsonOf(service: ServeService, web: Web | undefined, name?: string): string {
  const listening = service.listening.map((at) => service.uri(at));
  const { metricsAddress: metrics } = service;
  const facts = {
    ...(name !== undefined && { name }),
    listening,
    exports: service.describe(),
    ...(metrics !== undefined && { metrics }),
    ...(web && { web: web.address }),
    ...(web?.fingerprint !== undefined && { webFingerprint: web.fingerprint }),
  };
  return `${JSON.stringify(facts)}\n`;
}
