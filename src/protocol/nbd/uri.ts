/**
 * NBD URIs: `nbd://host:port/export` and `nbd+unix:///export?socket=PATH`. Source: doc/uri.md of the NBD project ("[URI]
 * section") and RFC 3986. TLS (`nbds:`, `nbds+unix:`, `tls-*`) is recognised and refused.
 */
import { FarbusError } from '../../base/errors.js';
import { defaultPort, maxString } from './spec.js';

/** Where an export is. */
export type NbdAddress =
  | {
      readonly transport: 'tcp';
      /** A name or an IP address; IPv6 without brackets. */
      readonly host: string;
      /** 0 to 65535; 0 makes sense for a listener only: any free port. */
      readonly port: number;
      readonly exportName: string;
    }
  | {
      readonly transport: 'unix';
      /** The socket's path; one that begins with NUL is in Linux's abstract namespace. */
      readonly path: string;
      readonly exportName: string;
    };

const example = 'nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH';
const forms = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(#.*)?$/i;

/**
 * Reads an NBD URI.
 * @throws FarbusError One line that says what is wrong with it.
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
  if (kind === 'nbds' || kind === 'nbds+unix') fail('TLS is not supported yet: use nbd:// or nbd+unix://');
  if (kind !== 'nbd' && kind !== 'nbd+unix') fail(`not an NBD URI: write ${example}`);
  if (fragment !== undefined) fail('an NBD URI has no # part: write # as %23');
  const exportName = decoded(path.slice(1), 'the export name');
  if (exportName.includes('\0')) fail('an export name has no NUL');
  // [NBD] "Conventions": a string's limit.
  if (new TextEncoder().encode(exportName).length > maxString) fail(`an export name has at most ${maxString} bytes`);

  let socket: string | undefined;
  for (const part of query ? query.split('&') : []) {
    const equals = part.indexOf('=');
    const key = equals < 0 ? part : part.slice(0, equals);
    if (key.startsWith('tls-')) fail('TLS is not supported yet: leave the tls-… parts out');
    if (key !== 'socket') fail(`unknown part "${shown(key)}" after the ?: only socket=PATH is understood`);
    if (socket !== undefined) fail('socket= is given twice');
    socket = decoded(part.slice(equals + 1), 'the socket');
    if (equals < 0) fail('socket needs a path: socket=PATH');
  }

  if (kind === 'nbd+unix') {
    if (authority !== '') fail(`a unix socket has no host: write nbd+unix:///EXPORT?socket=PATH with three slashes`);
    if (!socket) return fail('which socket? Add ?socket=PATH');
    if (socket.includes('\0', 1)) fail('a path has no NUL');
    return { transport: 'unix', path: socket, exportName };
  }
  if (socket !== undefined) fail('a socket is for nbd+unix://');
  return { transport: 'tcp', ...parseAuthority(authority, fail, decoded), exportName };
}

function parseAuthority(
  authority: string,
  fail: (what: string) => never,
  decoded: (part: string, what: string) => string,
): { host: string; port: number } {
  if (authority.includes('@')) fail('a user name is for TLS only, which is not supported yet: leave it out');
  const match = /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::([^:]*))?$/.exec(authority);
  if (!match) return fail('the host is not understood: write an IPv6 address in brackets, nbd://[::1]:10809/');
  const [, literal, name, digits = ''] = match;
  if (!/^\d{0,5}$/.test(digits) || Number(digits) > 65535) fail(`the port is a number up to 65535`);
  const port = digits === '' ? defaultPort : Number(digits);
  if (literal !== undefined) {
    const host = decoded(literal, 'the host');
    if (!/^[0-9a-f:.]*:[0-9a-f:.]*(%[\w.~-]+)?$/i.test(host)) fail('what is in brackets is not an IPv6 address');
    return { host, port };
  }
  // [URI] "NBD URI authority": without a host it is the client's choice; other clients take localhost.
  const host = decoded(name!, 'the host') || 'localhost';
  if (/[^\p{L}\p{M}\p{N}._~-]/u.test(host)) fail('the host is neither a name nor an address');
  return { host, port };
}

/** The URI of an address, as {@link parseNbdUri} reads it. */
export function formatNbdUri(address: NbdAddress): string {
  const name = encodeURIComponent(address.exportName).replace(/%2F/g, '/');
  if (address.transport === 'unix') {
    return `nbd+unix:///${name}?socket=${encodeURIComponent(address.path).replace(/%2F/g, '/')}`;
  }
  const { host, port } = address;
  const shownHost = host.includes(':') ? `[${host.replace('%', '%25')}]` : encodeURIComponent(host);
  return `nbd://${shownHost}${port === defaultPort ? '' : `:${port}`}/${name}`;
}

/** Untrusted text for a message: on one line and not too long. */
function shown(text: string): string {
  const plain = text.replace(/\p{Cc}/gu, '?');
  return plain.length > 100 ? `${plain.slice(0, 100)}…` : plain;
}
