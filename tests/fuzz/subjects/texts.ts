/**
 * Texts that people and files give, as a subject of fuzzing: SOURCE and FILTER texts, URIs,
 * addresses, configuration files of `farbus serve` and site files. Each is taken or refused with a
 * FarbusError of one line, in bounded time: a pattern that backtracks for ever is what the watchdog
 * finds. Nothing that they name is opened.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FarbusError } from '../../../src/base/errors.js';
import { parseBytes } from '../../../src/base/format.js';
import { filtersOf } from '../../../src/app/filters.js';
import { parseListen } from '../../../src/app/serve/listen.js';
import { readSettings } from '../../../src/app/serve/config.js';
import { exportsOf, nameOf } from '../../../src/app/serve/settings.js';
import { parseSource } from '../../../src/app/source-text.js';
import { parseAoe } from '../../../src/protocol/aoe/uri.js';
import { parseNbdUri } from '../../../src/protocol/nbd/uri.js';
import { parseRemoteUri } from '../../../src/protocol/ssh/uri.js';
import { readSite } from '../../../src/app/config/site.js';
import { tempPath } from '../../support/temp.js';
import { join, text } from '../harness/bytes.js';
import { FuzzError, type Subject } from '../harness/loop.js';
import type { Random } from '../../../src/conformance/random.js';

const given = {
  name: undefined,
  description: undefined,
  readOnly: false,
  filters: {},
  oneWriter: undefined,
  tlsOnly: false,
  access: {},
  maxConnections: undefined,
};

/** The parsers of one line. */
const parsers: Readonly<Record<string, (line: string) => unknown>> = {
  drive: parseSource,
  name: (line) => nameOf(parseSource(line)),
  exports: (line) => exportsOf([line], given),
  nbd: parseNbdUri,
  aoe: parseAoe,
  remote: parseRemoteUri,
  listen: parseListen,
  bytes: parseBytes,
  filters: (line) => filtersOf({ rate: line, size: line, partition: line, format: line, 'cache-size': line }),
};

const words = [
  'disk.img', 'nbd://', 'nbd+unix:///', 'nbds://', 'ssh://', 'ssh+dd://', 'rsh://', 'aoe:', 'memory:', 'raw:', 'qcow2:',
  'user@', 'host', '[::1]', '127.0.0.1', ':10809', '/export', '?socket=/s', '&tls-certificates=f', '?x-connections=4',
  '1.0@eth0', 'udp:127.0.0.1:1/127.0.0.1:2', 'vxlan:42/192.0.2.7', '?mtu=9000', ',cache=f', ',cache-size=64M',
  ',overlay=o', ',offset=1k', ',size=64M', ',partition=2', ',read-only', ',readahead', ',rate=10M/s', ',cdrom', ',removable',
  ',bus=ahci', ',serial=X', ',format=raw', '%2F', '%', '=', ',', '/', '//', '#', ' ', '\n', '0x', '64M', '-1', '1e9', '\0',
  '😀', 'a'.repeat(40), '9'.repeat(30), ',,,,,,,,,,,,,,,,', '////////////////', '%20%20%20%20%20',
]; // prettier-ignore

const serveText = `listen: ['nbd://127.0.0.1:10809', 'nbd+unix:///?socket=/s']
max-connections: 10
metrics: 127.0.0.1:9464
reconnect: 5
tls: { mode: require, certificates: pki, verify-peer: true }
exports:
  - name: disk
    source: disk.img,overlay=changes
    description: a disk
    default: true
    allow: { networks: [192.168.1.0/24, unix], tls-names: [alice], tokens: [0123456789abcdef] }
    one-writer: refuse
  - source: nbd://host/x
    cache: file
    cache-size: 64M
    rate: 10M
`;

const kinds = ['line', 'serve', 'site'] as const;
let configPath = '';
let siteTexts: string[] = [];

export const texts: Subject = {
  name: 'texts',

  async open() {
    configPath = tempPath('serve.yaml');
    const example = (name: string): string =>
      readFileSync(fileURLToPath(new URL(`../../../examples/${name}.yaml`, import.meta.url)), 'utf8');
    siteTexts = ['demo', 'diskless', 'two-by-two'].map((name) => example(name).replaceAll(/^ *#.*\n/gm, ''));
  },

  /** The first message says of which kind the text is that the others are. */
  generate(random) {
    const kind = random.below(8) < 5 ? 0 : 1 + random.below(2);
    if (kind === 0) return [Uint8Array.of(0), ...Array.from({ length: 1 + random.below(5) }, () => word(random))];
    const lines = (kind === 1 ? serveText : random.pick(siteTexts)).split(/(?<=\n)/);
    return [Uint8Array.of(kind), ...lines.map(text)];
  },

  message: word,

  async run(inputs) {
    const signatures: string[] = [];
    for (const input of inputs) {
      const [[kind = 0] = [], ...parts] = input;
      const whole = Buffer.from(join(...parts)).toString();
      const found = await outcomes(kinds[kind % kinds.length]!, whole);
      const wrong = found.find(({ error }) => error !== undefined && !(error instanceof FarbusError));
      if (wrong)
        throw new FuzzError(`${wrong.by}: ${String(wrong.error)}\n${JSON.stringify(whole)}`, input, wrong.error);
      signatures.push(
        found.map(({ by, error }) => `${by}${error === undefined ? '+' : messageShape(error)}`).join(' '),
      );
    }
    return signatures;
  },
};

function word(random: Random): Uint8Array {
  return Uint8Array.from(text(random.pick(words)));
}

/** An error's message without what it quotes. */
function messageShape(error: unknown): string {
  return (error as Error).message.slice(-24).replace(/\d+/g, 'N');
}

interface Found {
  readonly by: string;
  readonly error?: unknown;
}

async function outcomes(kind: (typeof kinds)[number], whole: string): Promise<Found[]> {
  if (kind === 'serve') {
    writeFileSync(configPath, whole);
    return [await outcome('serve', () => readSettings(configPath))];
  }
  if (kind === 'site') {
    const checks = { name: 'site', checkFile: () => undefined };
    return [await outcome('site', () => readSite('site.yaml', whole, checks))];
  }
  return Promise.all(Object.entries(parsers).map(([by, parse]) => outcome(by, () => parse(whole))));
}

async function outcome(by: string, work: () => unknown): Promise<Found> {
  try {
    await work();
    return { by };
  } catch (error) {
    return { by, error };
  }
}
