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
import { parseForeignSource } from '../source-text.js';
import { parseOrigin, parseWeb } from '../web/address.js';
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
  const limits = Object.keys(connectionLimits) as (keyof typeof connectionLimits)[];
  const top = root.fields('listen', 'exports', ...limits, 'metrics', 'web', 'lent', 'reconnect', 'tls');
  const list = top.exports?.list('a list of exports');
  if (!list || list.length === 0)
    throw (top.exports ?? root).error('expected a list of at least one export under exports');
  const exports = list.map(exportOf);
  const seen = new Set<string>();
  for (const [index, { name }] of exports.entries()) {
    if (seen.has(name)) throw list[index]!.error(`the name ${JSON.stringify(name)} is taken already: give another`);
    seen.add(name);
  }
  const listen = top.listen?.list('a list of addresses').map(listenOf);
  return {
    listen: listen ?? [],
    listenNowhere: listen?.length === 0,
    exports,
    limits: limitsOf(limits, top),
    metrics: top.metrics?.text('HOST:PORT'),
    web: webOf(top.web),
    reconnectSeconds: top.reconnect?.number(0, 86_400) ?? defaultReconnect,
    lentAccess: accessOf(top.lent?.fields('allow').allow),
    tls: tlsOf(top.tls),
  };
}

function tlsOf(node: ConfigNode | undefined): TlsValues {
  const keys = node?.fields('mode', 'certificates', 'psk', 'verify-peer');
  return {
    tls: keys?.mode?.choice('require', 'on', 'off'),
    'tls-certificates': keys?.certificates?.text('a folder'),
    'tls-psk': keys?.psk?.text('a file'),
    'tls-verify-peer': keys?.['verify-peer']?.boolean() ?? false,
  };
}

function webOf(node: ConfigNode | undefined): ServeSettings['web'] {
  if (!node) return undefined;
  const keys = node.fields('listen', 'origins');
  if (!keys.listen) throw node.error('expected listen: HOST:PORT');
  const at = keys.listen.parsed((text) => (parseWeb(text), text), 'HOST:PORT');
  return { at, origins: keys.origins?.list('a list of origins').map((one) => one.parsed(parseOrigin)) ?? [] };
}

function limitsOf(
  words: readonly (keyof typeof connectionLimits)[],
  nodes: Partial<Record<string, ConfigNode>>,
): ServeSettings['limits'] {
  const found = words.flatMap((word) => {
    const node = nodes[word];
    return node ? [[connectionLimits[word], node.limit(mostConnections)] as const] : [];
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
  const keys = node.fields(...exportKeys);
  if (!keys.source) throw node.error('expected source: SOURCE');
  const source = keys.source.parsed(parseForeignSource, 'a SOURCE');
  const name = keys.name?.text('a name') ?? nameOf(source);
  if (name === '') throw node.error('expected name: NAME');
  let filters: Filters = {};
  for (const key of filterNames) {
    const value = keys[key];
    if (value) filters = { ...filters, ...filterIn(key, value) };
  }
  const { 'read-only': readOnly = false, ...others } = filters;
  node.check(() => checked({ ...filters, ...source.filters }));
  return {
    name,
    source,
    description: keys.description?.text('a text', /^/) ?? '',
    isDefault: keys.default?.boolean() ?? false,
    readOnly,
    filters: others,
    tlsOnly: keys['tls-only']?.boolean() ?? false,
    access: accessOf(keys.allow),
    maxConnections: keys['max-connections']?.number(1, 1_000_000),
    oneWriter: keys['one-writer']?.choice('read-only', 'refuse'),
  };
}

function filterIn(key: keyof Filters, value: ConfigNode): Filters {
  const { value: valueName, list } = filterOptions[key]!;
  const parse = (text: string): Filters => parseFilter(key, text, key);
  if (valueName === undefined) return value.boolean() ? parse('') : {};
  if (!list) return value.parsed(parse);
  return value.list('a list of texts').reduce<Filters>((all, one) => joined(all, one.parsed(parse)), {});
}

function accessOf(node: ConfigNode | undefined): ExportSettings['access'] {
  if (!node) return {};
  const keys = node.fields('networks', 'tls-names', 'tokens', 'token-files');
  const networks = keys.networks?.list('a list of networks').map((one) => {
    return one.parsed((text) => (new Access({ networks: [text] }), text));
  });
  const tokens = keys.tokens?.list('a list of tokens').map((one) => one.parsed(token));
  const inFiles = keys['token-files']?.list('a list of paths').map((one) => one.parsed(tokenIn));
  return {
    networks,
    tlsNames: keys['tls-names']?.list('a list of names').map((one) => one.text()),
    tokens: tokens || inFiles ? [...(tokens ?? []), ...(inFiles ?? [])] : undefined,
  };
}

/** Checks a token. */
function token(text: string): string {
  new Access({ tokens: [text] });
  return text;
}

/** The token in a file. */
function tokenIn(path: string): string {
  // A named pipe would stop the server until its other end is written.
  if (!statSync(path).isFile()) throw new FarbusError(`${printable(path)} is no regular file`);
  return token(readFileSync(path, 'utf8').trim());
}
