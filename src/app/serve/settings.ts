/** The settings of `farbus serve`, from a command line or a configuration file. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { usageError } from '../../base/errors.js';
import type { AccessRules } from '../../export/access.js';
import type { ConnectionLimits } from '../../export/admission.js';
import { filterNames, filterOptions, type Filters } from '../filters.js';
import { localPath, parseSource, type Source } from '../source-text.js';
import type { TlsValues } from './tls.js';

/** The settings of one export. */
export interface ExportSettings {
  readonly name: string;
  readonly source: Source;
  readonly description: string;
  readonly isDefault: boolean;
  /** Refuse writes even if the source and its filters allow them. */
  readonly readOnly: boolean;
  /** Further filters. Those in the source's text take precedence. */
  readonly filters: Filters;
  /** Clients may use it over TLS only. */
  readonly tlsOnly: boolean;
  readonly access: AccessRules;
  readonly maxConnections: number | undefined;
  readonly oneWriter: 'read-only' | 'refuse' | undefined;
}

/** The settings of a server. */
export interface ServeSettings {
  /** URIs in the syntax of `--listen`. */
  readonly listen: readonly string[];
  /** True if an empty `listen` means no address, and not the default. This needs `web`. */
  readonly listenNowhere?: boolean;
  readonly exports: readonly ExportSettings[];
  /** The limits that are given; defaults apply for the others. */
  readonly limits: Partial<ConnectionLimits>;
  /** Address of the metrics: HOST:PORT or PORT. */
  readonly metrics: string | undefined;
  /** Address of the web server, HOST:PORT or PORT, and origins of other pages that may use it. */
  readonly web: { readonly at: string; readonly origins: readonly string[] } | undefined;
  readonly reconnectSeconds: number;
  /** Rules of access to exports that browsers lend. */
  readonly lentAccess: AccessRules;
  /** TLS options of the command line. */
  readonly tls: TlsValues;
}

/** Limits of connections, by their names on the command line and in configuration files. */
export const connectionLimits = {
  'max-connections': 'maxConnections',
  'max-per-address': 'maxPerAddress',
  'max-handshakes': 'maxHandshakes',
} as const satisfies Record<string, keyof ConnectionLimits>;

/** Maximum value of these limits besides `none`. */
export const mostConnections = 1_000_000;

/** Default time that a source may be away, in seconds. */
export const defaultReconnect = 60;

/** The default name of an export: the file's name, or the last part of a URI's path. */
export function nameOf(source: Source): string {
  return basename(localPath(source) ?? source.location.replace(/\?.*$/s, ''));
}

/** The exports on the command line: `[NAME=]SOURCE[,FILTER]...`. */
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
    const file = filterNames.find((one) => filterOptions[one]!.oneSource && filters[one] !== undefined);
    if (file !== undefined) throw usageError(`--${file} is for one SOURCE only: write SOURCE,${file}=FILE for each`);
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

/** Throws if two exports have the same name. */
function checkNames(exports: readonly ExportSettings[]): void {
  const seen = new Map<string, string>();
  for (const { name, source } of exports) {
    const other = seen.get(name);
    if (other !== undefined) {
      throw usageError(
        `${other} and ${source.text} would both be named ${JSON.stringify(name)}: write NAME=SOURCE for one of them`,
      );
    }
    seen.set(name, source.text);
  }
}

/**
 * Parses "NAME=SOURCE" or "SOURCE". The path of an existing file is a SOURCE, whatever it contains.
 */
function named(text: string, name: string | undefined): { name: string; source: Source } {
  const equals = text.indexOf('=');
  const before = text.slice(0, equals);
  if (equals <= 0 || /[/,:]/.test(before) || existsSync(text)) {
    const source = parseSource(text);
    const own = name ?? nameOf(source);
    if (own === '') throw usageError(`${JSON.stringify(text)} has no name to export it by: write NAME=SOURCE`);
    return { name: own, source };
  }
  if (name !== undefined) throw usageError(`${text} has a name already: leave --name out`);
  return { name: before, source: parseSource(text.slice(equals + 1)) };
}
