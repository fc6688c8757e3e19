/**
 * `farbus serve`: exports disks of any kind by NBD and AoE ([SYS] the server computer's physical
 * device 914).
 */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Steps } from '../../base/steps.js';
import { bootId } from '../../base/boot-id.node.js';
import type { Facts } from '../../app/control/registry.js';
import type { Work } from '../../base/work.js';
import { handedSockets, ServiceNotifier } from '../../export/systemd.node.js';
import { filtersOf } from '../../app/filters.js';
import { detach } from '../ui/detach.js';
import { enroll, type Enrolled } from '../ui/enroll.js';
import { announce, jsonLogger, stderrLogger, type CliIo } from '../ui/io.js';
import { parseListen } from '../../app/serve/listen.js';
import { defineCommand } from '../command.js';
import type { Given, Options, Values } from '../table.js';
import { limitOption, numberOption } from '../options.js';
import { readSettings } from '../../app/serve/config.js';
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
import { filterOptionsOf } from '../topics.js';
import { TracePrinter } from '../../app/trace.js';

const options = {
  listen: {
    value: 'URI',
    multiple: true,
    brief: 'where to listen (default nbd://127.0.0.1:10809)',
    about: 'where to listen, nbd://127.0.0.1:10809 by default; may be given several times:',
    forms: [
      ['nbd://HOST[:PORT]', 'TCP; port 0 takes a free one'],
      ['nbd+unix:///?socket=PATH', 'a unix socket'],
      ['aoe:SHELF.SLOT@SEGMENT', 'AoE on an Ethernet segment; each further export takes the next slot'],
    ],
  },
  config: {
    value: 'FILE',
    brief: 'exports, listeners and rules of access, in YAML or JSON',
    about: 'exports, listeners and rules of access, in YAML or JSON (docs/serve.md)',
  },
  allow: {
    value: 'NETWORK',
    multiple: true,
    brief: 'only clients from there: 192.168.1.0/24, fd00::/8, unix',
    about: 'only clients from there (192.168.1.0/24, fd00::/8, unix); may be given several times',
  },
  'max-connections': {
    value: 'N',
    about: 'most connections at once; further ones are closed as they come (default 4096; none: no limit)',
  },
  'max-per-address': {
    value: 'N',
    about: 'most connections from one address or one IPv6 network of 64 bits (default 1024; none: no limit)',
  },
  'max-handshakes': {
    value: 'N',
    about:
      'most connections that have not chosen an export; the oldest is closed for a new one (default 1000; none: no limit)',
  },
  'one-writer': {
    value: 'MODE',
    alone: 'read-only',
    choices: ['read-only', 'refuse'],
    brief: 'only one connection at a time may write',
    about: 'one connection writes at a time; others get the export read-only, or are refused with =refuse',
  },
  metrics: {
    value: '[HOST:]PORT',
    brief: 'counts for Prometheus at http://HOST:PORT/metrics',
    about: 'serve counts for Prometheus at http://HOST:PORT/metrics; HOST is 127.0.0.1 by default',
  },
  'log-format': {
    value: 'FORMAT',
    default: 'text',
    choices: ['text', 'json'],
    about: 'text; or json: an object with time, level and message for each line',
  },
  reconnect: {
    value: 'SECONDS',
    about: 'how long a source on another computer may be away before clients get errors (default 60)',
  },
  trace: {
    value: 'FILE',
    alone: '',
    about:
      'write each step of every request with its time, on stderr or to FILE, under the number that the trace of the ' +
      'client shows (NBD cookie, AoE tag)',
  },
  detach: {
    short: 'd',
    about: 'run in the background: print the name and the addresses when the server is ready, and leave it running',
  },
  'server-name': {
    value: 'NAME',
    about: 'the name of this server for farbus ps, status and stop; by default server, server-2 and so on',
  },
  name: { value: 'NAME', about: 'name of the export, if there is one SOURCE' },
  description: { value: 'TEXT', about: 'description of the export for people, if there is one SOURCE' },
  'tls-certificates': {
    value: 'FOLDER',
    brief: 'encrypt with the certificate in this folder',
    about: 'encrypt with server-cert.pem and server-key.pem of this folder',
  },
  'tls-psk': {
    value: 'FILE',
    about: 'encrypt with pre-shared keys: lines of USER:KEY, the key in hex, as psktool makes them',
  },
  'tls-verify-peer': {
    brief: 'accept only clients with a certificate',
    about: "accept only clients with a certificate that the folder's ca-cert.pem signed",
  },
  tls: {
    value: 'MODE',
    completes: ['require', 'on', 'off'],
    about:
      'require: clients must use TLS, the default with certificates or keys; on: they may, and an attacker in between ' +
      'can talk them out of it; off',
  },
  json: {
    brief: 'print the addresses as JSON',
    about: 'print {"listening":[...],"exports":[...]} in one line instead of the addresses',
  },
  ...filterOptionsOf(),
} as const satisfies Options;

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
    'metrics',
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
    'farbus serve --config /etc/farbus/serve.yaml --log-format json',
  ],
  pages: ['serve', 'filters', 'nbd'],
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
    reconnectSeconds: reconnect === undefined ? defaultReconnect : numberOption('reconnect', reconnect, 0, 86_400),
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
  const settings = await readSettings(config);
  const tls = tlsNames.some((name) => values[name] !== undefined && values[name] !== false);
  return {
    ...settings,
    tls: tls ? given.tls : settings.tls,
    listen: [...settings.listen, ...listen],
    limits: { ...settings.limits, ...given.limits },
    metrics: given.metrics ?? settings.metrics,
    reconnectSeconds: reconnect === undefined ? settings.reconnectSeconds : given.reconnectSeconds,
  };
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
    const service = new ServeService({ log, bootId: bootId(), sockets: handedSockets(io.env), steps });
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
      const handler = controlHandler(service, (asked) => this.#reload(service, notifier, asked));
      enrolled.serve(handler, () => factsOf(service));
      const { name } = enrolled;
      process.on('SIGHUP', hangUp);
      if (io.detached) await io.detached.ready(json ? jsonOf(service, name) : `${name}\n${linesOf(service)}`);
      else announce(io, json ? jsonOf(service) : linesOf(service), log);
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
      try {
        await service.stop();
      } finally {
        clearTimeout(ending);
        await printer?.close();
        notifier.close();
        signals.stop();
      }
    }
    return 0;
  }

  /** Reloads the settings, one reload at a time. */
  #reload(service: ServeService, notifier: ServiceNotifier, asked?: Work): Promise<void> {
    const work = async (): Promise<void> => {
      const { reloads, read, log } = this.#options;
      if (!reloads) throw new FarbusError('there is no configuration file to read again: start it with --config FILE');
      asked?.signal.throwIfAborted();
      notifier.reloading();
      try {
        await service.reload(await read(), asked);
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

function linesOf(service: ServeService): string {
  const described = service.describe();
  const lines = service.listening.flatMap((at) => described.map(({ name }) => service.uri(at, name)));
  const segments = described.flatMap(({ uris }) => uris.filter((uri) => uri.startsWith('aoe:')));
  return [...lines, ...segments].map((line) => `${line}\n`).join('');
}

/** The server for `farbus ps`. */
function factsOf(service: ServeService): Facts {
  return { state: 'running', uses: service.sources, reach: service.describe().flatMap(({ uris }) => uris) };
}

function jsonOf(service: ServeService, name?: string): string {
  const listening = service.listening.map((at) => service.uri(at));
  const { metricsAddress: metrics } = service;
  return `${JSON.stringify({ ...(name !== undefined && { name }), listening, exports: service.describe(), ...(metrics !== undefined && { metrics }) })}\n`;
}
