/**
 * `farbus serve`: exports disks of any kind by NBD and AoE ([SYS] the server computer's physical
 * device 914).
 */
import { FarbusError, messageOf, usageError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { Steps } from '../../base/steps.js';
import { bootId } from '../../storage/boot-id.node.js';
import { serveControl, type ControlSocket } from '../../app/control/control.js';
import type { Work } from '../../base/work.js';
import { handedSockets, ServiceNotifier } from '../../export/systemd.node.js';
import { segmentHelp } from '../../network/ethernet/open.node.js';
import { filterConfig, filterHelp, filtersOf } from '../../app/filters.js';
import { announce, jsonLogger, stderrLogger, type CliIo } from '../ui/io.js';
import { parseListen } from '../../app/serve/listen.js';
import { limitOption, numberOption, parseOptions } from '../options.js';
import { readSettings } from '../../app/serve/config.js';
import { controlHandler } from '../../app/serve/control.js';
import { ServeService } from '../../app/serve/service.js';
import {
  connectionLimits,
  defaultReconnect,
  exportsOf,
  mostConnections,
  type ServeSettings,
} from '../../app/serve/settings.js';
import { onSignals } from '../ui/signals.js';
import { sourceHelp } from '../../app/sources.js';
import { tlsHelp, tlsOptions, type TlsValues } from '../../app/serve/tls.js';
import { TracePrinter } from '../../app/trace.js';

export const serveHelp = `Usage: farbus serve [options] [NAME=]SOURCE[,FILTER]...
       farbus serve [options] --config FILE

Offers files and block devices to other computers as NBD exports (network block devices) or AoE targets. Each SOURCE is an export,
named by its last part or by NAME; a client that asks for no name gets the first. The address of every export is
printed on stdout, one a line, when the server is ready. SIGTERM or Ctrl-C ends it in good order; a second one at once.
SIGHUP reads the configuration file again; connections go on. farbus status tells how it is.

${sourceHelp}

${segmentHelp}

Options:
  --listen URI         where to listen; may be given several times (default nbd://127.0.0.1:10809):
                         nbd://HOST[:PORT]            TCP; port 0 takes a free one
                         nbd+unix:///?socket=PATH     a unix socket
                         aoe:SHELF.SLOT@SEGMENT       AoE on an Ethernet segment; each further export one slot on
  --config FILE        exports, listeners and who may use what, in YAML or JSON (docs/serve.md)
  --allow NETWORK      only clients from there (192.168.1.0/24, fd00::/8, unix); may be given several times
  --max-connections N  so many connections at once; more are closed as they come (default 4096; none: any number)
  --max-per-address N  so many of them from one address, or one IPv6 network of 64 bits (default 1024; none)
  --max-handshakes N   so many of them that have not chosen an export; the oldest gives way (default 1000; none)
  --one-writer[=MODE]  one connection writes at a time; others get it read-only, or with =refuse not at all
  --metrics [HOST:]PORT  figures for Prometheus at http://HOST:PORT/metrics; HOST is 127.0.0.1 where it is not given
  --log-format FORMAT  text, or json: an object with time, level and message for each line
  --reconnect SECONDS  how long a source that is elsewhere may be away before clients get errors (default 60)
  --trace[=FILE]       write every step of every request with its time, on stderr or to FILE, each under the number that
                       the client's trace tells (NBD cookie, AoE tag)
  --name NAME          name of the export, where there is one SOURCE only
  --description TEXT   its description, for people, where there is one SOURCE only
${tlsHelp}
  --json               print {"listening":[...],"exports":[...]} instead, in one line
  --help               show this

${filterHelp}

Without --tls-certificates or --tls-psk there is no encryption, and without rules of access no password: whoever can
connect can read and write. Listen on other addresses than 127.0.0.1 only in networks that you trust. docs/nbd.md says how
certificates are made.

Examples:
  farbus serve disk.img
  farbus serve --read-only /dev/sdb
  farbus serve --listen nbd://0.0.0.0 --allow 192.168.1.0/24 system=/dev/sda data=/srv/data.img
  farbus serve --listen 'nbd+unix:///?socket=/run/disk.sock' vm.qcow2
  farbus serve ssh://server/dev/sdb,cache=sdb.cache,overlay=changes.img
  farbus serve --listen nbd://0.0.0.0 --tls-certificates /etc/pki/farbus --tls-verify-peer /dev/sdb
  farbus serve cd=first.iso,removable,read-only
  farbus serve /dev/sdb --partition 2 --one-writer --rate 50M --metrics 9464
  farbus serve --config /etc/farbus/serve.yaml --log-format json
`;

export async function serve(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('serve', withValues(args), {
    allowPositionals: true,
    options: {
      listen: { type: 'string', multiple: true, default: [] },
      config: { type: 'string' },
      allow: { type: 'string', multiple: true },
      'max-connections': { type: 'string' },
      'max-per-address': { type: 'string' },
      'max-handshakes': { type: 'string' },
      'one-writer': { type: 'string' },
      metrics: { type: 'string' },
      trace: { type: 'string' },
      'log-format': { type: 'string', default: 'text' },
      reconnect: { type: 'string' },
      name: { type: 'string' },
      description: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      ...tlsOptions,
      ...filterConfig(),
    },
  });
  if (values.help) {
    io.stdout.write(serveHelp);
    return 0;
  }
  if (values['log-format'] !== 'text' && values['log-format'] !== 'json') {
    throw usageError(`--log-format ${values['log-format']}: expected text or json`);
  }
  const json = values['log-format'] === 'json';
  const log = json ? jsonLogger(io) : stderrLogger(io);
  const read = (): Promise<ServeSettings> => settingsOf(values, positionals);
  const settings = await read();
  const run = new Run({ io, log, read, reloads: values.config !== undefined, json: values.json, trace: values.trace });
  return run.run(settings);
}

/** Time for the server to end after the first signal, in ms, whatever hangs (docs/serve.md). */
const endMs = 15_000;
/** Milliseconds after which an ending that still waits says so. Chosen, not measured. */
const sayEndingAfterMs = 1000;

type Values = Readonly<Record<string, unknown>>;

const tlsNames = Object.keys(tlsOptions);

/** Values of options that may be given without one, because parseArgs requires a value. */
const alone: ReadonlyMap<string, string> = new Map([
  ['--one-writer', '--one-writer=read-only'],
  ['--trace', '--trace='],
]);

function withValues(args: readonly string[]): string[] {
  return args.map((arg) => alone.get(arg) ?? arg);
}

/** The settings from the command line, or from the file that it names. */
async function settingsOf(values: Values, sources: readonly string[]): Promise<ServeSettings> {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const listen = values['listen'] as string[];
  for (const one of listen) parseListen(one);
  const reconnect = text('reconnect');
  const given = {
    limits: limitsOf(values),
    metrics: text('metrics'),
    reconnectSeconds: reconnect === undefined ? defaultReconnect : numberOption('reconnect', reconnect, 0, 86_400),
    tls: values as unknown as TlsValues,
  };
  const { readOnly = false, ...filters } = filtersOf(values);
  const config = text('config');
  if (config === undefined) {
    const oneWriter = text('one-writer');
    if (oneWriter !== undefined && oneWriter !== 'read-only' && oneWriter !== 'refuse') {
      throw usageError(`--one-writer=${oneWriter}: expected read-only or refuse`);
    }
    const exports = exportsOf(sources, {
      name: text('name'),
      description: text('description'),
      readOnly,
      filters,
      oneWriter,
      tlsOnly: false,
      access: { networks: values['allow'] as string[] | undefined },
      maxConnections: undefined,
    });
    return { listen, exports, ...given };
  }
  const mixed = ['name', 'description', 'allow', 'one-writer'].find((name) => values[name] !== undefined);
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

function limitsOf(values: Values): ServeSettings['limits'] {
  const found = Object.entries(connectionLimits).flatMap(([word, key]) => {
    const value = values[word] as string | undefined;
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
}

/** A server from its start to its end. */
class Run {
  readonly #options: RunOptions;
  #reloading: Promise<void> = Promise.resolve();

  constructor(options: RunOptions) {
    this.#options = options;
  }

  async run(settings: ServeSettings): Promise<number> {
    const { io, log, json, trace } = this.#options;
    const steps = trace === undefined ? undefined : new Steps();
    const printer = steps && (await TracePrinter.open(trace!, io.stderr, log));
    if (printer) steps.add(printer);
    const notifier = new ServiceNotifier(io.env, log);
    const signals = onSignals({ hangUp: false, endMs });
    const service = new ServeService({ log, bootId: await bootId(), sockets: handedSockets(io.env), steps });
    let control: ControlSocket | undefined;
    let ending: NodeJS.Timeout | undefined;
    const hangUp = (): void =>
      void this.#reload(service, notifier).catch((error: unknown) => {
        log.log('error', `not reloaded, the settings stay as they were: ${messageOf(error)}`);
      });
    try {
      await signals.during(service.start(settings));
      const handler = controlHandler(service, (asked) => this.#reload(service, notifier, asked));
      control = await serveControl(`serve-${process.pid}`, handler, io.env).catch((error: unknown) => {
        log.log('warn', `farbus status will not find this server: ${messageOf(error)}`);
        return undefined;
      });
      process.on('SIGHUP', hangUp);
      announce(io, json ? jsonOf(service) : linesOf(service), log);
      notifier.ready(summary(service));
      await signals.received;
      notifier.stopping();
      // Most endings are quick and need no words.
      ending = setTimeout(() => {
        log.log('info', 'ending: waiting for requests in flight; a second signal ends at once');
      }, sayEndingAfterMs);
    } finally {
      process.off('SIGHUP', hangUp);
      await control?.close();
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

function jsonOf(service: ServeService): string {
  const listening = service.listening.map((at) => service.uri(at));
  const { metricsAddress: metrics } = service;
  return `${JSON.stringify({ listening, exports: service.describe(), ...(metrics !== undefined && { metrics }) })}\n`;
}
