/** What `farbus serve` is to do, whether a command line or a configuration file says it. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { usageError } from '../base/errors.js';
import type { AccessRules } from '../export/access.js';
import type { ConnectionLimits } from '../export/admission.js';
import type { Filters } from './filters.js';
import { localPath, parseDrive } from './sources.js';
import type { TlsValues } from './tls.js';

export interface ExportSettings {
  readonly name: string;
  /** SOURCE[,FILTER]... */
  readonly source: string;
  readonly description: string;
  readonly isDefault: boolean;
  /** Nobody may write, whatever the source and its filters are. */
  readonly readOnly: boolean;
  /** Besides those in the source's text, which go before. */
  readonly filters: Filters;
  /** Only over TLS. */
  readonly tlsOnly: boolean;
  readonly access: AccessRules;
  readonly maxConnections: number | undefined;
  readonly oneWriter: 'read-only' | 'refuse' | undefined;
}

export interface ServeSettings {
  /** URIs, as `--listen` takes them. */
  readonly listen: readonly string[];
  readonly exports: readonly ExportSettings[];
  /** Those that are given; the others are the defaults. */
  readonly limits: Partial<ConnectionLimits>;
  /** HOST:PORT or PORT. */
  readonly metrics: string | undefined;
  readonly reconnectSeconds: number;
  /** How connections are encrypted, as the command line has it. */
  readonly tls: TlsValues;
}

/** Limits of connections, by their words on the command line and in a configuration file. */
export const connectionLimits = {
  'max-connections': 'maxConnections',
  'max-per-address': 'maxPerAddress',
  'max-handshakes': 'maxHandshakes',
} as const satisfies Record<string, keyof ConnectionLimits>;

/** The greatest of those limits that is a number. */
export const mostConnections = 1_000_000;

/** How long a source may be away where nothing is said, in seconds. */
export const defaultReconnect = 60;

/** A file's name, or the last part of a URI's path: what an export is called that has no name. */
export function nameOf(source: string): string {
  const text = parseDrive(source).source;
  return basename(localPath(text) ?? text.replace(/\?.*$/s, ''));
}

/** What the command line says of each export: `[NAME=]SOURCE[,FILTER]...`. */
export function exportsOf(
  sources: readonly string[],
  given: Pick<ExportSettings, 'readOnly' | 'filters' | 'oneWriter' | 'tlsOnly' | 'access' | 'maxConnections'> & {
    readonly name: string | undefined;
    readonly description: string | undefined;
  },
): ExportSettings[] {
  const { name, description = '', filters, ...common } = given;
  if (sources.length === 0) throw usageError('serve what? Give a file, device or other source: farbus serve disk.img');
  if (sources.length > 1) {
    if (name !== undefined) throw usageError('--name is for one SOURCE only: write NAME=SOURCE for each');
    if (description !== '') throw usageError('--description is for one SOURCE only');
    for (const file of ['overlay', 'cache'] as const) {
      if (filters[file] !== undefined) {
        throw usageError(`--${file} is for one SOURCE only: write SOURCE,${file}=FILE for each`);
      }
    }
  }
  const exports = sources.map((text) => ({
    ...named(text, name),
    description,
    isDefault: false,
    filters,
    ...common,
  }));
  checkNames(exports);
  return exports;
}

/** Throws where two exports have one name. */
function checkNames(exports: readonly ExportSettings[]): void {
  const seen = new Map<string, string>();
  for (const { name, source } of exports) {
    const other = seen.get(name);
    if (other !== undefined) {
      throw usageError(
        `${other} and ${source} would both be named ${JSON.stringify(name)}: write NAME=SOURCE for one of them`,
      );
    }
    seen.set(name, source);
  }
}

/** "NAME=SOURCE" or "SOURCE". A path that exists is one, whatever it contains. */
function named(text: string, name: string | undefined): { name: string; source: string } {
  const equals = text.indexOf('=');
  const before = text.slice(0, equals);
  if (equals <= 0 || /[/,:]/.test(before) || existsSync(text)) {
    const own = name ?? nameOf(text);
    if (own === '') throw usageError(`${JSON.stringify(text)} has no name to export it by: write NAME=SOURCE`);
    return { name: own, source: text };
  }
  if (name !== undefined) throw usageError(`${text} has a name already: leave --name out`);
  return { name: before, source: text.slice(equals + 1) };
}
