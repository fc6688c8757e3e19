/** Reads the configuration file of `farbus serve` (docs/serve.md). */
import { readFileSync, statSync } from 'node:fs';
import { FarbusError } from '../../base/errors.js';
import { printable } from '../../base/printable.js';
import { Access } from '../../export/access.js';
import { parseListen } from './listen.js';
import { readConfig, type ConfigNode } from '../config/reader.js';
import { checked, filterNames, filterOptions, joined, parseFilter, type Filters } from '../filters.js';
import {
  connectionLimits,
  defaultReconnect,
  mostConnections,
  nameOf,
  type ExportSettings,
  type ServeSettings,
} from './settings.js';
import { parseSource } from '../source-text.js';
import type { TlsValues } from './tls.js';

const exportKeys = [
  'name',
  'source',
  'description',
  'default',
  'tls-only',
  'allow',
  'max-connections',
  'one-writer',
  ...filterNames,
] as const;

/**
 * Reads the settings in the file `path`. Rejects with a FarbusError: FILE:LINE, what was found,
 * what was expected.
 */
export async function readSettings(path: string): Promise<ServeSettings> {
  const root = await readConfig(path);
  const top = root.map(['listen', 'exports', ...Object.keys(connectionLimits), 'metrics', 'reconnect', 'tls']);
  const list = top.get('exports')?.list('exports');
  if (!list || list.length === 0)
    throw (top.get('exports') ?? root).error('no exports', 'a list of at least one under the key exports');
  const exports = list.map(exportOf);
  const seen = new Set<string>();
  for (const [index, { name }] of exports.entries()) {
    if (seen.has(name)) throw list[index]!.error(`a second export ${JSON.stringify(name)}`, 'another name');
    seen.add(name);
  }
  return {
    listen: top.get('listen')?.list('addresses').map(listenOf) ?? [],
    exports,
    limits: limitsOf(top),
    metrics: top.get('metrics')?.text('HOST:PORT'),
    reconnectSeconds: top.get('reconnect')?.number(0, 86_400) ?? defaultReconnect,
    tls: tlsOf(top.get('tls')),
  };
}

function tlsOf(node: ConfigNode | undefined): TlsValues {
  const keys = node?.map(['mode', 'certificates', 'psk', 'verify-peer']);
  return {
    tls: keys?.get('mode')?.choice(['require', 'on', 'off']),
    'tls-certificates': keys?.get('certificates')?.text('a folder'),
    'tls-psk': keys?.get('psk')?.text('a file'),
    'tls-verify-peer': keys?.get('verify-peer')?.boolean() ?? false,
  };
}

function limitsOf(top: ReadonlyMap<string, ConfigNode>): ServeSettings['limits'] {
  const found = Object.entries(connectionLimits).flatMap(([word, key]) => {
    const node = top.get(word);
    return node ? [[key, node.limit(mostConnections)] as const] : [];
  });
  return Object.fromEntries(found);
}

function listenOf(node: ConfigNode): string {
  return node.parsed((text) => {
    parseListen(text);
    return text;
  }, 'an address');
}

function exportOf(node: ConfigNode): ExportSettings {
  const keys = node.map(exportKeys);
  const sourceNode = keys.get('source');
  if (!sourceNode) throw node.error('an export without a source', 'source: SOURCE');
  const source = sourceNode.parsed(parseSource, 'a SOURCE');
  const name = keys.get('name')?.text() ?? nameOf(source);
  if (name === '') throw node.error('an export without a name', 'name: NAME');
  let filters: Filters = {};
  for (const key of filterNames) {
    const value = keys.get(key);
    if (value) filters = { ...filters, ...filterIn(key, value) };
  }
  const { 'read-only': readOnly = false, ...others } = filters;
  node.check(() => checked({ ...filters, ...source.filters }));
  return {
    name,
    source,
    description: keys.get('description')?.text() ?? '',
    isDefault: keys.get('default')?.boolean() ?? false,
    readOnly,
    filters: others,
    tlsOnly: keys.get('tls-only')?.boolean() ?? false,
    access: accessOf(keys.get('allow')),
    maxConnections: keys.get('max-connections')?.number(1, 1_000_000),
    oneWriter: keys.get('one-writer')?.choice(['read-only', 'refuse']),
  };
}

function filterIn(key: keyof Filters, value: ConfigNode): Filters {
  const { value: valueName, list } = filterOptions[key]!;
  const parse = (text: string): Filters => parseFilter(key, text, key);
  if (valueName === undefined) return value.boolean() ? parse('') : {};
  if (!list) return value.parsed(parse);
  return value.list('texts').reduce<Filters>((all, one) => joined(all, one.parsed(parse)), {});
}

function accessOf(node: ConfigNode | undefined): ExportSettings['access'] {
  if (!node) return {};
  const keys = node.map(['networks', 'tls-names', 'tokens', 'token-files']);
  const texts = (key: string, of: string): string[] | undefined =>
    keys
      .get(key)
      ?.list(of)
      .map((one) => one.text());
  const networks = keys
    .get('networks')
    ?.list('networks')
    .map((one) => one.parsed((text) => (new Access({ networks: [text] }), text)));
  const tokens = keys
    .get('tokens')
    ?.list('tokens')
    .map((one) => one.parsed((text) => (new Access({ tokens: [text] }), text)));
  const inFiles = keys
    .get('token-files')
    ?.list('paths')
    .map((one) =>
      one.parsed((path) => {
        // A named pipe would stop the server until its other end is written.
        if (!statSync(path).isFile()) throw new FarbusError(`${printable(path)} is no regular file`);
        const text = readFileSync(path, 'utf8').trim();
        return (new Access({ tokens: [text] }), text);
      }),
    );
  return {
    networks,
    tlsNames: texts('tls-names', 'names'),
    tokens: tokens || inFiles ? [...(tokens ?? []), ...(inFiles ?? [])] : undefined,
  };
}
