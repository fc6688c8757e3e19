/**
 * NBD URIs: `nbd://host:port/export` and `nbd+unix:///export?socket=PATH`; over TLS `nbds:` and
 * `nbds+unix:` with `tls-…` parameters.
 *
 * Sources: doc/uri.md of the NBD project ("[URI] section") and RFC 3986. The parameters that [URI]
 * does not define (tls-certificates, tls-psk-file, tls-username) have libnbd's names.
 *
 * Not here: anonymous TLS, which is not supported.
 */
import { FarbusError } from '../../base/errors.js';
import { visible } from '../../base/printable.js';
import { defaultPort, maxString } from './spec.js';

/** The encryption of a connection ([URI] "NBD URI query parameters related to TLS"). */
export interface NbdTls {
  /** Folder with certificates. */
  readonly certificates?: string | undefined;
  /** File with pre-shared keys. If set, keys are used instead of certificates. */
  readonly pskFile?: string | undefined;
  /** User whose key is used. */
  readonly username?: string | undefined;
  /** Name that the server's certificate must contain. Default: the host of the URI. */
  readonly hostname?: string | undefined;
  /** False disables the check of the server's certificate. Default: true. */
  readonly verifyPeer?: boolean | undefined;
}

/** The location of an export. */
export type NbdAddress = (
  | {
      readonly transport: 'tcp';
      /** Host name or IP address; IPv6 without brackets. */
      readonly host: string;
      /** Port, 0 to 65535. 0 is for listeners only and means any free port. */
      readonly port: number;
      readonly exportName: string;
    }
  | {
      readonly transport: 'unix';
      /** Path of the socket. A leading NUL means Linux's abstract namespace. */
      readonly path: string;
      readonly exportName: string;
    }
) & {
  /**
   * Number of connections to open (parameter x-connections, our extension). Undefined if the URI
   * does not say.
   */
  readonly connections?: number | undefined;
  /** Set if the connection is encrypted. */
  readonly tls?: NbdTls | undefined;
};

const example = 'nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH';
const forms = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(#.*)?$/i;

/**
 * Parses an NBD URI.
 * @throws FarbusError with one line that says what is wrong with the URI
 */
export function parseNbdUri(text: string): NbdAddress {
  const fail = (what: string): never => {
    throw new FarbusError(`${shown(text)}: ${what}`, { exitCode: 2 });
  };
  const decoded = (part: string, what: string): string => {
    try {
      return decodeURIComponent(part);
    } catch {
      return fail(`${what} has a % that is not followed by two hex digits of UTF-8`);
    }
  };
  if (/[\s\p{Cc}]/u.test(text)) fail('a URI has no spaces or control characters: write them as %20 and so on');
  const match = forms.exec(text);
  if (!match) return fail(`not an NBD URI: write ${example}`);
  const [, scheme, authority, path = '', query, fragment] = match as unknown as [string, string, string, ...string[]];
  const kind = scheme.toLowerCase();
  if (!/^nbds?(\+unix)?$/.test(kind)) fail(`not an NBD URI: write ${example}`);
  if (fragment !== undefined) fail('an NBD URI has no # part: write # as %23');
  const exportName = decoded(path.slice(1), 'the export name');
  if (exportName.includes('\0')) fail('an export name has no NUL');
  // [NBD] "Conventions": the limit of a string.
  if (new TextEncoder().encode(exportName).length > maxString) fail(`an export name has at most ${maxString} bytes`);

  const unix = kind.endsWith('+unix');
  const parameters = new Map<string, string>();
  for (const part of query ? query.split('&') : []) {
    const equals = part.indexOf('=');
    const key = equals < 0 ? part : part.slice(0, equals);
    if (!known.includes(key)) fail(`unknown part "${shown(key)}" after the ?: ${known.join('=, ')}= are understood`);
    if (parameters.has(key)) fail(`${key}= is given twice`);
    if (equals < 0) fail(`${key} needs a value: ${key}=…`);
    parameters.set(key, decoded(part.slice(equals + 1), key));
  }
  const socket = parameters.get('socket');
  const user = /^([^@]*)@(.*)$/s.exec(authority);
  const tls = parseTls(kind.startsWith('nbds'), parameters, user && decoded(user[1]!, 'the user name'), fail);
  const place = user ? user[2]! : authority;
  const count = parameters.get('x-connections');
  if (count !== undefined && !(/^\d{1,2}$/.test(count) && Number(count) >= 1 && Number(count) <= 16)) {
    fail('x-connections is a number from 1 to 16');
  }
  const more = { ...tls, ...(count !== undefined && { connections: Number(count) }) };

  if (unix) {
    if (place !== '') fail(`a unix socket has no host: write ${kind}:///EXPORT?socket=PATH with three slashes`);
    if (!socket) return fail('which socket? Add ?socket=PATH');
    if (socket.includes('\0', 1)) fail('a path has no NUL');
    return { transport: 'unix', path: socket, exportName, ...more };
  }
  if (socket !== undefined) fail(`a socket is for ${kind}+unix://`);
  return { transport: 'tcp', ...parseAuthority(place, fail, decoded), exportName, ...more };
}

/** Parameters that may follow the `?`. */
const known = [
  'socket',
  'x-connections',
  'tls-type',
  'tls-certificates',
  'tls-psk-file',
  'tls-username',
  'tls-hostname',
  'tls-verify-peer',
];
const flags: Readonly<Record<string, boolean>> = { '1': true, true: true, '0': false, false: false };

function parseTls(
  encrypted: boolean,
  parameters: ReadonlyMap<string, string>,
  user: string | null,
  fail: (what: string) => never,
): { tls?: NbdTls } {
  const given = [...parameters.keys()].find((key) => key.startsWith('tls-'));
  if (!encrypted) {
    // A user who gives keys expects encryption: do not connect in plain text.
    if (given !== undefined) fail(`${given} is for TLS: write nbds:// or nbds+unix://`);
    if (user !== null) fail('a user name is for TLS: write nbds://, or leave it out');
    return {};
  }
  const certificates = parameters.get('tls-certificates');
  const pskFile = parameters.get('tls-psk-file');
  const username = parameters.get('tls-username') ?? user ?? undefined;
  const hostname = parameters.get('tls-hostname');
  if (certificates !== undefined && pskFile !== undefined) {
    fail('tls-certificates and tls-psk-file exclude each other: a connection is proved by one of them');
  }
  if (certificates === '' || pskFile === '' || hostname === '') fail('a tls- part without a value: leave it out');
  const type = parameters.get('tls-type');
  if (type === 'anon') fail('TLS without proof of who is at the other end is not supported: use certificates or keys');
  if (type !== undefined && type !== 'x509' && type !== 'psk') fail('tls-type is x509 or psk');
  if (type === 'psk' && pskFile === undefined) fail('keys are in a file: add tls-psk-file=FILE');
  if (type === 'x509' && pskFile !== undefined) fail('tls-psk-file goes with tls-type=psk');
  const verify = parameters.get('tls-verify-peer');
  const verifyPeer = verify === undefined ? undefined : flags[verify.toLowerCase()];
  if (verify !== undefined && verifyPeer === undefined) fail('tls-verify-peer is 1 or 0');
  if (parameters.get('socket') !== undefined && certificates === undefined && pskFile === undefined) {
    if (hostname === undefined && verifyPeer !== false) {
      fail(
        'the name in the certificate is not known: add tls-hostname=NAME, or tls-certificates=FOLDER with your own CA',
      );
    }
  }
  return { tls: { certificates, pskFile, username, hostname, verifyPeer } };
}

function parseAuthority(
  authority: string,
  fail: (what: string) => never,
  decoded: (part: string, what: string) => string,
): { host: string; port: number } {
  const match = /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::([^:]*))?$/.exec(authority);
  if (!match) return fail('the host is not understood: write an IPv6 address in brackets, nbd://[::1]:10809/');
  const [, literal, name, digits = ''] = match;
  if (!/^\d{0,5}$/.test(digits) || Number(digits) > 65535) fail(`the port is a number up to 65535`);
  const port = digits === '' ? defaultPort : Number(digits);
  if (literal !== undefined) {
    const host = decoded(literal, 'the host');
    if (!/^[0-9a-f:.]*:[0-9a-f:.]*(%[\w.~-]+)?$/i.test(host)) fail('the text in brackets is not an IPv6 address');
    return { host, port };
  }
  // [URI] "NBD URI authority": without a host, the client chooses. We take localhost, as other
  // clients do.
  const host = decoded(name!, 'the host') || 'localhost';
  if (/[^\p{L}\p{M}\p{N}._~-]/u.test(host)) fail('the host is neither a name nor an address');
  return { host, port };
}

/** Formats an address as a URI that {@link parseNbdUri} reads. */
export function formatNbdUri(address: NbdAddress): string {
  const { exportName, tls } = address;
  const name = escaped(exportName);
  const scheme = tls ? 'nbds' : 'nbd';
  const parameters: string[] = [];
  if (address.transport === 'unix') parameters.push(`socket=${escaped(address.path)}`);
  if (address.connections !== undefined) parameters.push(`x-connections=${address.connections}`);
  if (tls?.certificates !== undefined) parameters.push(`tls-certificates=${escaped(tls.certificates)}`);
  if (tls?.pskFile !== undefined) parameters.push(`tls-psk-file=${escaped(tls.pskFile)}`);
  if (tls?.username !== undefined) parameters.push(`tls-username=${escaped(tls.username)}`);
  if (tls?.hostname !== undefined) parameters.push(`tls-hostname=${escaped(tls.hostname)}`);
  if (tls?.verifyPeer !== undefined) parameters.push(`tls-verify-peer=${tls.verifyPeer ? 1 : 0}`);
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`;
  if (address.transport === 'unix') return `${scheme}+unix:///${name}${query}`;
  const { host, port } = address;
  const shownHost = host.includes(':') ? `[${host.replace('%', '%25')}]` : encodeURIComponent(host);
  return `${scheme}://${shownHost}${port === defaultPort ? '' : `:${port}`}/${name}${query}`;
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(/%2F/g, '/');
}

/** Makes untrusted text fit for an error message: one line, at most 100 characters. */
function shown(text: string): string {
  const plain = visible(text);
  return plain.length > 100 ? `${plain.slice(0, 100)}…` : plain;
}
