/**
 * URIs of devices on a server that runs no Farbus ([SYS] R3): `ssh://[user@]host[:port]/path` and
 * the forms `ssh+dd://`, `ssh+sftp://` and `rsh://`. Source: RFC 3986. The path is absolute;
 * `/~/path` is relative to the user's home. docs/ssh.md lists the parameters after the `?`.
 *
 * Hosts and users may contain only harmless characters, because `ssh` inserts them into command
 * lines of its own (ProxyCommand, Match exec), and they must not look like options. A path may
 * contain anything but NUL.
 */
import { usageError } from '../../base/errors.js';
import { parseBytes } from '../../base/format.js';
import { escapeUri, formatAuthority, readUri, type Uri, type UriForm } from '../remote/uri.js';

/** The method of access. `ssh` leaves the choice between SFTP and dd to the program. */
export type RemoteWay = 'ssh' | 'ssh+dd' | 'ssh+sftp' | 'rsh';

/** A program that runs the remote shell as the administrator, without asking for a password. */
export type Elevation = 'sudo' | 'doas';

/** Options for the program `ssh` (ssh(1)). */
export interface SshOptions {
  /** Configuration file instead of the user's and the system's. */
  readonly config: string | undefined;
  /** File of the private key. */
  readonly identity: string | undefined;
  /** Options of ssh_config(5), each `KEY=VALUE`. */
  readonly options: readonly string[];
}

export interface RemoteAddress extends SshOptions {
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

const example = 'ssh://[USER@]HOST[:PORT]/PATH';
const form = {
  wanted: `not understood: write ${example}`,
  schemes: ['ssh', 'ssh+dd', 'ssh+sftp', 'rsh'] satisfies RemoteWay[],
  parameters: {
    sudo: 'flag',
    doas: 'flag',
    size: 'text',
    sessions: 'text',
    literal: 'flag',
    config: 'text',
    identity: 'text',
    option: 'texts',
  },
} as const satisfies UriForm<string>;

type RemoteUri = Uri<keyof typeof form.parameters>;

/** The parameters of such a URI that name files of this computer. */
export const remoteFileParameters: readonly string[] = ['config', 'identity'];

/**
 * Parses such a URI.
 * @throws FarbusError with one line that says what is wrong with the URI
 */
export function parseRemoteUri(text: string): RemoteAddress {
  const uri = readUri(text, form);
  const { host, port, user } = uri;
  const way = uri.scheme as RemoteWay;
  if (user !== undefined) checkUser(user, uri);
  if (host === '') uri.fail(`which host? Write ${example}`);
  if (port === 0) uri.fail('the port is a number from 1 to 65535');
  const path = uri.path.replace(/^\/~\//, './');
  if (path === '' || path === '/' || path === './') uri.fail(`which device? Name one after the host: ${example}`);
  if (new TextEncoder().encode(path).length > maxPath) uri.fail(`a path has at most ${maxPath} bytes`);
  return { way, host, port, user, path, ...deviceOptions(uri, way), ...sshOptions(uri, way) };
}

function checkUser(user: string, { fail }: RemoteUri): void {
  if (user.includes(':')) fail('a password is not taken: use a key, or whatever else ssh logs in with by itself');
  if (user === '') fail('the user before the @ is empty: leave the @ out, or name one');
  if (user.startsWith('-')) fail('a user name does not begin with "-"');
  if (!/^[\p{L}\p{M}\p{N}._+@%=~\\-]{1,255}$/u.test(user) || user.endsWith('\\')) {
    fail('the user name has characters that are not taken: letters, digits and . _ + @ % = ~ - are');
  }
}

type DeviceOptions = Pick<RemoteAddress, 'elevation' | 'size' | 'sessions' | 'literal'>;

function deviceOptions(uri: RemoteUri, way: RemoteWay): DeviceOptions {
  const { fail } = uri;
  const [sudo, doas, literal] = [uri.flag('sudo'), uri.flag('doas'), uri.flag('literal')];
  if (sudo && doas) fail('sudo and doas exclude each other');
  if ((sudo || doas) && way === 'ssh+sftp') fail('sudo and doas are for ssh+dd://: an SFTP server is the user himself');
  if (literal && way !== 'rsh') fail('literal is for rsh://');
  if (literal && (sudo || doas)) fail('literal takes neither sudo nor doas: log in as root');
  const sizeText = uri.text('size');
  const size = sizeText === undefined ? undefined : parseBytes(sizeText);
  if (sizeText !== undefined && !size) fail('size is a number of bytes above 0, for example size=500G or size=1048576');
  const sessionsText = uri.text('sessions');
  const sessions = sessionsText === undefined ? undefined : Number(sessionsText);
  if (sessions !== undefined && !(Number.isInteger(sessions) && sessions >= 1 && sessions <= maxSessions)) {
    fail(`sessions is a number from 1 to ${maxSessions}`);
  }
  return { elevation: sudo ? 'sudo' : doas ? 'doas' : undefined, size, sessions, literal };
}

function sshOptions(uri: RemoteUri, way: RemoteWay): SshOptions {
  const { fail } = uri;
  const [config, identity, options] = [uri.text('config'), uri.text('identity'), uri.texts('option')];
  const given = uri.given.find((name) => name === 'config' || name === 'identity' || name === 'option');
  if (given !== undefined && way === 'rsh') fail(`${given} is for ssh://`);
  for (const [name, path] of [['config', config] as const, ['identity', identity] as const]) {
    if (path === '' || path?.includes('\0')) fail(`${name} is the path of a file`);
  }
  for (const option of options) {
    // ssh would read a second line as a second option.
    if (!/^[a-z0-9]+=\P{Cc}+$/iu.test(option))
      fail('option is KEY=VALUE of ssh_config(5), for example option=Compression=yes');
  }
  return { config, identity, options };
}

/**
 * Options of ssh that neither name a program, file or library of this computer, nor have a text
 * that ssh inserts into a command line.
 */
const harmless: ReadonlySet<string> = new Set(
  [
    'AddressFamily BindAddress BindInterface Ciphers Compression ConnectionAttempts ConnectTimeout HostKeyAlgorithms',
    'IdentitiesOnly IPQoS KexAlgorithms MACs PubkeyAcceptedAlgorithms RekeyLimit ServerAliveCountMax',
    'ServerAliveInterval TCPKeepAlive',
  ].flatMap((line) => line.toLowerCase().split(' ')),
);

const keyOf = (option: string): string => option.slice(0, option.indexOf('='));

/**
 * Refuses a URI that could make ssh run a command on this computer (ProxyCommand, `Match exec` in a
 * configuration file), load a library or write a file. For texts that the user did not type, such
 * as those of a site file that another user has written.
 * @throws FarbusError
 */
export function checkForeignUri(text: string): void {
  const { config, options } = parseRemoteUri(text);
  const option = options.find((one) => !harmless.has(keyOf(one).toLowerCase()));
  const part = config !== undefined ? 'config' : option && `option=${keyOf(option)}`;
  if (part === undefined) return;
  throw usageError(
    `${part} could make ssh run commands on this computer, so a file must not give it: ` +
      'put it under a Host of your own ssh configuration',
  );
}

/** Formats an address for messages, without the parameters after the `?`. */
export function formatRemote({ way, user, host, port, path }: RemoteAddress): string {
  const shown = path.startsWith('./') ? `/~/${path.slice(2)}` : path;
  return `${way}://${formatAuthority(user, host, port)}${escapeUri(shown)}`;
}
