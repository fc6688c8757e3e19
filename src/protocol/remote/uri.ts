/**
 * Reads and writes URIs of sources (RFC 3986): scheme, user, host, port, path and parameters, each
 * percent-decoded. Each protocol names its schemes and parameters, and checks what they mean.
 */
import { FarbusError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { similar } from '../../base/similar.js';

/** A parameter after the `?`: `NAME` or `NAME=1`; `NAME=TEXT`; `NAME=TEXT` any number of times. */
export type ParameterKind = 'flag' | 'text' | 'texts';

export interface UriForm<Parameter extends string> {
  /** Says that a text is no such URI, and how one is written. */
  readonly wanted: string;
  readonly schemes: readonly string[];
  readonly parameters: Readonly<Record<Parameter, ParameterKind>>;
  /** True if the URI may name several hosts: HOST[:PORT],HOST[:PORT]... Default false. */
  readonly severalHosts?: boolean;
}

/** A host and its port, as a URI names them. */
export interface UriPlace {
  /** A name, an IP address (IPv6 without brackets), or "". It does not look like an option. */
  readonly host: string;
  readonly port: number | undefined;
}

export interface Uri<Parameter extends string> {
  readonly scheme: string;
  /** Undefined without an "@". */
  readonly user: string | undefined;
  /** The host and port of the URI, of the first one if it names several. */
  readonly host: string;
  readonly port: number | undefined;
  /** All hosts that the URI names, in its order. */
  readonly places: readonly [UriPlace, ...UriPlace[]];
  /** Begins with "/" unless it is "". Contains no NUL. */
  readonly path: string;
  flag(name: Parameter): boolean;
  text(name: Parameter): string | undefined;
  texts(name: Parameter): readonly string[];
  /** The parameters that the URI has. */
  readonly given: readonly Parameter[];
  /** @throws FarbusError that names the URI and what is wrong with it */
  fail(what: string): never;
}

const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(#.*)?$/i;
/** Longest name of a host, in characters. */
const maxHost = 255;
/** Longest part of a URI in an error, in characters. */
const maxShown = 100;

/**
 * Reads a URI.
 * @throws FarbusError with one line that says what is wrong with it
 */
export function readUri<Parameter extends string>(text: string, form: UriForm<Parameter>): Uri<Parameter> {
  const fail = (what: string): never => {
    throw new FarbusError(`${shown(text)}: ${what}`, { exitCode: 2 });
  };
  if (/[\s\p{Cc}]/u.test(text)) fail('a URI has no spaces or control characters: write them as %20 and so on');
  const [all, start = '', authority = '', path = '', query = '', fragment] = parts.exec(text) ?? [];
  const scheme = start.toLowerCase();
  if (all === undefined || !form.schemes.includes(scheme)) fail(form.wanted);
  if (fragment !== undefined) fail('it has no # part: write # as %23');
  const reader = new PartReader(fail);
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : reader.decoded(authority.slice(0, at), 'the user');
  const hosts = authority.slice(at + 1);
  if (form.severalHosts && user?.includes(',')) fail('the user is given once, before the first host');
  const [first, ...others] = form.severalHosts ? hosts.split(',') : [hosts];
  const places = [reader.place(first!), ...others.map((one) => reader.place(one))] as const;
  const { host, port } = places[0];
  const decodedPath = reader.decoded(path, 'the path');
  if (decodedPath.includes('\0')) fail('a path has no NUL');
  const given = reader.parameters(query, form.parameters);
  return {
    scheme,
    user,
    host,
    port,
    places: [...places],
    path: decodedPath,
    flag: (name) => given.get(name)?.[0] === '1',
    text: (name) => given.get(name)?.[0],
    texts: (name) => given.get(name) ?? [],
    given: [...given.keys()],
    fail,
  };
}

class PartReader {
  readonly #fail: (what: string) => never;

  constructor(fail: (what: string) => never) {
    this.#fail = fail;
  }

  decoded(part: string, what: string): string {
    try {
      return decodeURIComponent(part);
    } catch {
      return this.#fail(`${what} has a % that is not followed by two hex digits of UTF-8`);
    }
  }

  place(text: string): UriPlace {
    const match = /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::([^:]*))?$/.exec(text);
    if (!match) return this.#fail('the host is not understood: write an IPv6 address in brackets, as in //[::1]/');
    const [, literal, name = '', digits = ''] = match;
    if (!/^\d{0,5}$/.test(digits) || Number(digits) > 65535) this.#fail('the port is a number up to 65535');
    const port = digits === '' ? undefined : Number(digits);
    const host = this.decoded(literal ?? name, 'the host');
    if (literal !== undefined) {
      if (!/^[0-9a-f:.]*:[0-9a-f:.]*(%[\w.~-]+)?$/i.test(host)) {
        this.#fail('the text in brackets is not an IPv6 address');
      }
      return { host, port };
    }
    if (host.startsWith('-')) this.#fail('a host does not begin with "-"');
    if (/[^\p{L}\p{M}\p{N}._~-]/u.test(host) || host.length > maxHost) {
      this.#fail('the host is neither a name nor an address');
    }
    return { host, port };
  }

  parameters<Parameter extends string>(
    query: string,
    kinds: Readonly<Record<Parameter, ParameterKind>>,
  ): Map<Parameter, string[]> {
    const given = new Map<Parameter, string[]>();
    for (const part of query === '' ? [] : query.split('&')) {
      const [, key, text] = /^([^=]*)(?:=(.*))?$/s.exec(part) as unknown as [string, string, string | undefined];
      if (!isKnown(key, kinds)) return this.#fail(unknown(key, Object.entries<ParameterKind>(kinds)));
      const kind = kinds[key];
      if (given.has(key) && kind !== 'texts') this.#fail(`${key} is given twice`);
      if (text === undefined && kind !== 'flag') this.#fail(`${key} needs a value: ${key}=...`);
      const value = text === undefined ? '1' : this.decoded(text, key);
      if (kind === 'flag' && value !== '0' && value !== '1') this.#fail(`${key} is 1 or 0`);
      given.set(key, [...(given.get(key) ?? []), value]);
    }
    return given;
  }
}

function isKnown<Parameter extends string>(
  key: string,
  kinds: Readonly<Record<Parameter, ParameterKind>>,
): key is Parameter {
  return Object.hasOwn(kinds, key);
}

function unknown(key: string, kinds: readonly (readonly [name: string, kind: ParameterKind])[]): string {
  const near = similar(
    key,
    kinds.map(([name]) => name),
  );
  const start = `unknown part "${shown(key)}" after the ?`;
  if (near !== undefined) return `${start}: did you mean ${near}?`;
  return `${start}: ${kinds.map(([name, kind]) => (kind === 'flag' ? name : `${name}=`)).join(', ')} are understood`;
}

/**
 * Replaces the values of these parameters, which name files, by absolute paths. What is no relative
 * path stays: `none`, a path from the home folder, an abstract socket, a faulty text.
 */
export function withAbsoluteFiles(text: string, names: readonly string[], resolve: (path: string) => string): string {
  const start = text.indexOf('?');
  if (start < 0) return text;
  const query = text.slice(start).replaceAll(/([?&])([a-z-]+)=([^&#]*)/g, (all: string, sign, name, value) => {
    if (!names.includes(name as string) || /^(?:~\/.*|%00.*|none)?$/.test(value as string)) return all;
    try {
      return `${sign}${name}=${escapeUri(resolve(decodeURIComponent(value as string)))}`;
    } catch {
      return all;
    }
  });
  return text.slice(0, start) + query;
}

/** Encodes a part of a URI. A "/" stays. */
export function escapeUri(text: string): string {
  return encodeURIComponent(text).replaceAll('%2F', '/');
}

/** The `[USER@]HOST[:PORT]` of a URI. */
export function formatAuthority(user: string | undefined, host: string, port: number | undefined): string {
  const name = host.includes(':') ? `[${host.replace('%', '%25')}]` : encodeURIComponent(host);
  return `${user === undefined ? '' : `${encodeURIComponent(user)}@`}${name}${port === undefined ? '' : `:${port}`}`;
}

/**
 * Makes untrusted text fit for an error: one line, of limited length, without a possible password
 * or token.
 */
function shown(text: string): string {
  const plain = visible(text)
    .replace(/^([^/]*:\/\/[^/?#]*?):[^/?#]*@/, '$1:***@')
    .replace(/([?&]token=)[^&#]*/, '$1...');
  return plain.length > maxShown ? `${plain.slice(0, maxShown)}...` : plain;
}
