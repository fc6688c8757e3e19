/**
 * URIs of devices on a server that runs no Farbus ([SYS] R3): `ssh://[user@]host[:port]/path` and
 * the forms `ssh+dd://`, `ssh+sftp://` and `rsh://`. Source: RFC 3986. The path is absolute;
 * `/~/path` is relative to the user's home. docs/ssh.md lists the parameters after the `?`.
 *
 * Hosts and users may contain only harmless characters, because `ssh` inserts them into command
 * lines of its own (ProxyCommand, Match exec), and they must not look like options. A path may
 * contain anything but NUL.
 */
import { FarbusError } from '../../base/errors.js';
import { parseBytes } from '../../base/format.js';
import { visible } from '../../base/printable.js';

/** The method of access. `ssh` leaves the choice between SFTP and dd to the program. */
export type RemoteWay = 'ssh' | 'ssh+dd' | 'ssh+sftp' | 'rsh';

/** A program that runs the remote shell as the administrator, without asking for a password. */
export type Elevation = 'sudo' | 'doas';

export interface RemoteAddress {
  readonly way: RemoteWay;
  /** A name from the ssh configuration, a host name or an IP address; IPv6 without brackets. */
  readonly host: string;
  /** Undefined: the port of the ssh configuration, or the protocol's default. */
  readonly port: number | undefined;
  readonly user: string | undefined;
  /** The path as passed to the server. It begins with "/" or, below the user's home, with "./". */
  readonly path: string;
  readonly elevation: Elevation | undefined;
  /** The device's size in bytes, if the user states it. */
  readonly size: number | undefined;
  /** Most sessions at the same time, 1 to {@link maxSessions}; undefined: the program chooses. */
  readonly sessions: number | undefined;
  /** For rsh only: one command per request, as in [SYS] steps 422 and 425. */
  readonly literal: boolean;
}

/**
 * sshd allows 10 sessions on one connection (MaxSessions), and 10 connections that have not logged
 * in yet (MaxStartups). Stay below both.
 */
export const maxSessions = 8;
/** Longest path in bytes: PATH_MAX of Linux. */
const maxPath = 4096;

const ways: readonly string[] = ['ssh', 'ssh+dd', 'ssh+sftp', 'rsh'] satisfies RemoteWay[];
const forms = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(#.*)?$/i;
const example = 'ssh://[USER@]HOST[:PORT]/PATH';

/**
 * Parses such a URI.
 * @throws FarbusError with one line that says what is wrong with the URI
 */
export function parseRemoteUri(text: string): RemoteAddress {
  const fail = (what: string): never => {
    throw new FarbusError(`${shownUri(text)}: ${what}`, { exitCode: 2 });
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
  if (!match) return fail(`not understood: write ${example}`);
  const [, scheme, authority, rawPath = '', query, fragment] = match as unknown as [
    string,
    string,
    string,
    ...string[],
  ];
  const way = scheme.toLowerCase();
  if (!ways.includes(way)) fail(`not understood: write ${example}`);
  if (fragment !== undefined) fail('it has no # part: write # as %23');

  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : readUser(authority.slice(0, at), fail, decoded);
  const { host, port } = readHost(authority.slice(at + 1), fail, decoded);
  const path = decoded(rawPath, 'the path').replace(/^\/~\//, './');
  if (path.includes('\0')) fail('a path has no NUL');
  if (path === '' || path === '/' || path === './') fail(`which device? Name one after the host: ${example}`);
  if (new TextEncoder().encode(path).length > maxPath) fail(`a path has at most ${maxPath} bytes`);
  const options = readQuery(query ?? '', way as RemoteWay, fail, decoded);
  return { way: way as RemoteWay, host, port, user, path, ...options };
}

function readUser(
  text: string,
  fail: (what: string) => never,
  decoded: (part: string, what: string) => string,
): string {
  if (text.includes(':')) fail('a password is not taken: use a key, or whatever else ssh logs in with by itself');
  const user = decoded(text, 'the user');
  if (user === '') fail('the user before the @ is empty: leave the @ out, or name one');
  if (user.startsWith('-')) fail('a user name does not begin with "-"');
  if (!/^[\p{L}\p{M}\p{N}._+@%=~\\-]{1,255}$/u.test(user) || user.endsWith('\\')) {
    fail('the user name has characters that are not taken: letters, digits and . _ + @ % = ~ - are');
  }
  return user;
}

function readHost(
  text: string,
  fail: (what: string) => never,
  decoded: (part: string, what: string) => string,
): { host: string; port: number | undefined } {
  const match = /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::([^:]*))?$/.exec(text);
  if (!match) return fail('the host is not understood: write an IPv6 address in brackets, ssh://[::1]/PATH');
  const [, literal, name, digits = ''] = match;
  if (!/^\d{0,5}$/.test(digits) || Number(digits) > 65535 || (digits !== '' && Number(digits) === 0)) {
    fail('the port is a number from 1 to 65535');
  }
  const port = digits === '' ? undefined : Number(digits);
  if (literal !== undefined) {
    const host = decoded(literal, 'the host');
    if (!/^[0-9a-f:.]*:[0-9a-f:.]*(%[\w.~-]+)?$/i.test(host)) fail('the text in brackets is not an IPv6 address');
    return { host, port };
  }
  const host = decoded(name!, 'the host');
  if (host === '') fail(`which host? Write ${example}`);
  if (host.startsWith('-')) fail('a host does not begin with "-"');
  if (!/^[\p{L}\p{M}\p{N}._~-]{1,255}$/u.test(host)) fail('the host is neither a name nor an address');
  return { host, port };
}

type QueryOptions = Pick<RemoteAddress, 'elevation' | 'size' | 'sessions' | 'literal'>;

function readQuery(
  query: string,
  way: RemoteWay,
  fail: (what: string) => never,
  decoded: (part: string, what: string) => string,
): QueryOptions {
  const given = new Map<string, string>();
  for (const part of query === '' ? [] : query.split('&')) {
    const equals = part.indexOf('=');
    const key = equals < 0 ? part : part.slice(0, equals);
    if (!['sudo', 'doas', 'size', 'sessions', 'literal'].includes(key)) {
      fail(`unknown part "${shownUri(key)}" after the ?: sudo, doas, size=, sessions= and literal are understood`);
    }
    if (given.has(key)) fail(`${key} is given twice`);
    given.set(key, equals < 0 ? '1' : decoded(part.slice(equals + 1), key));
  }
  const flag = (key: string): boolean => {
    const value = given.get(key) ?? '0';
    if (value !== '0' && value !== '1') fail(`${key} is 1 or 0`);
    return value === '1';
  };
  const sudo = flag('sudo');
  const doas = flag('doas');
  const literal = flag('literal');
  if (sudo && doas) fail('sudo and doas exclude each other');
  if ((sudo || doas) && way === 'ssh+sftp') fail('sudo and doas are for ssh+dd://: an SFTP server is the user himself');
  if (literal && way !== 'rsh') fail('literal is for rsh://');
  if (literal && (sudo || doas)) fail('literal takes neither sudo nor doas: log in as root');
  const sizeText = given.get('size');
  const size = sizeText === undefined ? undefined : parseBytes(sizeText);
  if (sizeText !== undefined && !size) fail('size is a number of bytes above 0, for example size=500G or size=1048576');
  const sessionsText = given.get('sessions');
  const sessions = sessionsText === undefined ? undefined : Number(sessionsText);
  if (sessions !== undefined && !(Number.isInteger(sessions) && sessions >= 1 && sessions <= maxSessions)) {
    fail(`sessions is a number from 1 to ${maxSessions}`);
  }
  return { elevation: sudo ? 'sudo' : doas ? 'doas' : undefined, size, sessions, literal };
}

/** Formats an address for messages, without the parameters after the `?`. */
export function formatRemote({ way, user, host, port, path }: RemoteAddress): string {
  const name = host.includes(':') ? `[${host}]` : host;
  const shown = path.startsWith('./') ? `/~/${path.slice(2)}` : path;
  const where = encodeURIComponent(shown).replace(/%2F/g, '/').replace(/%7E/g, '~');
  const who = user === undefined ? '' : `${encodeURIComponent(user)}@`;
  return `${way}://${who}${name}${port === undefined ? '' : `:${port}`}${where}`;
}

/**
 * Makes untrusted text fit for a message: one line, at most 100 characters, without a possible
 * password.
 */
function shownUri(text: string): string {
  const plain = visible(text).replace(/^([^/]*:\/\/[^/?#]*?):[^/?#]*@/, '$1:***@');
  return plain.length > 100 ? `${plain.slice(0, 100)}…` : plain;
}
