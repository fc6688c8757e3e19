/**
 * Byte streams over the system's `ssh` program, which uses the user's configuration, agent, known
 * hosts, jump hosts and ControlMaster. Source: ssh(1) and ssh_config(5) of OpenSSH.
 *
 * ssh runs in batch mode: it never asks for a password. The environment variable `FARBUS_SSH` names
 * another program and its arguments, like `GIT_SSH_COMMAND`: `FARBUS_SSH='ssh -F my_config'`.
 */
import { homedir } from 'node:os';
import { FarbusError, usageError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { ProcessStream, type ProcessEnd } from './process.node.js';
import type { Dialer } from './stream.js';

export interface SshTarget {
  /**
   * A host of the ssh configuration, a host name or an address. The parser of the user's input has
   * checked it.
   */
  readonly host: string;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  /** Configuration file instead of the user's and the system's. */
  readonly config?: string | undefined;
  /** File of the private key, the only one that is tried. */
  readonly identity?: string | undefined;
  /** Options of ssh_config(5), each `KEY=VALUE`. */
  readonly options?: readonly string[];
  /** For messages: "ssh://host/dev/sdb". */
  readonly address: string;
}

/** The service at the remote end: a command for the user's login shell, or a subsystem. */
export type SshService = { readonly command: string } | { readonly subsystem: string };

/** Time limit of ssh for connecting, in seconds. */
const connectSeconds = 10;
/**
 * ssh closes the connection when the server has not answered for two of these intervals, in
 * seconds.
 */
const aliveSeconds = 15;

/** Without these the byte stream would not be one, or ssh would ask a question. */
const required = ['BatchMode=yes', 'RemoteCommand=none', 'EscapeChar=none'];
/** Settings that a target's options can replace. */
const defaults = [
  `ConnectTimeout=${connectSeconds}`,
  `ServerAliveInterval=${aliveSeconds}`,
  'ServerAliveCountMax=2',
  // Switch off settings that users make for interactive sessions.
  'ClearAllForwardings=yes',
  'PermitLocalCommand=no',
];

/** A dialer that starts a new `ssh` at each call, with the service that `service` then returns. */
export function sshDialer(target: SshTarget, service: () => SshService): Dialer {
  return {
    address: target.address,
    connect: (signal) => {
      signal.throwIfAborted();
      const [program, ...given] = sshProgram();
      const stream = new ProcessStream(program, [...given, ...sshArguments(target, service())], {
        peer: target.address,
        explain: (end) => explainSsh(target, end),
      });
      return Promise.resolve(stream);
    },
  };
}

/** The arguments of ssh. "--" precedes the host, so that it cannot be taken for an option. */
export function sshArguments(target: SshTarget, service: SshService): string[] {
  if (target.host.startsWith('-') || target.user?.startsWith('-')) {
    throw usageError(`${target.address}: neither a host nor a user begins with "-"`);
  }
  const args = ['-T', '-x', '-a'];
  // ssh itself expands ~ for -i only.
  if (target.config !== undefined) args.push('-F', target.config.replace(/^~(?=\/)/, homedir()));
  if (target.identity !== undefined) args.push('-i', target.identity);
  // ssh uses the first value of each option.
  const settings = [...required, ...(target.options ?? []), ...defaults];
  if (target.identity !== undefined) settings.push('IdentitiesOnly=yes');
  for (const setting of settings) args.push('-o', setting);
  if (target.port !== undefined) args.push('-p', String(target.port));
  if (target.user !== undefined) args.push('-l', target.user);
  if ('subsystem' in service) return [...args, '-s', '--', target.host, service.subsystem];
  return [...args, '--', target.host, service.command];
}

/** The program and its first arguments: `ssh`, or FARBUS_SSH split at spaces outside of quotes. */
function sshProgram(): [string, ...string[]] {
  const text = process.env['FARBUS_SSH']?.trim();
  if (!text) return ['ssh'];
  const words = [...text.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) =>
    word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'),
  );
  const [program, ...args] = words;
  if (!program)
    throw usageError('FARBUS_SSH is not understood: write a program and its arguments, for example "ssh -F FILE"');
  return [program, ...args];
}

/**
 * Messages of ssh, and their explanations for a person. The first pattern that matches counts. ssh
 * reports its failures by text only; nothing is decided by these texts but the explanation.
 */
const reasons: readonly (readonly [RegExp, (target: SshTarget, found: RegExpExecArray) => string])[] = [
  [
    /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed/i,
    ({ host, port }) => {
      const known = port === undefined || port === 22 ? host : `'[${host}]:${port}'`;
      return `the host key of ${placeOf({ host, port })} has changed: find out why before you trust it (ssh-keygen -R ${known} removes the old one)`;
    },
  ],
  [
    /Host key verification failed|No .* host key is known/i,
    (target) =>
      `the host key of ${placeOf(target)} is not known: check it with ${commandOf(target)}, or add ?option=UserKnownHostsFile=FILE`,
  ],
  [
    /Identity file .* not accessible: .*/i,
    (_target, [said]) => `${printable(said.trim(), 200)}: give the path of a private key`,
  ],
  [
    /Permission denied \(([^)]*)\)|Too many authentication failures|No more authentication methods/i,
    () =>
      'the server does not let this user in: check the user name, and that ssh logs in without a password (key, agent)',
  ],
  [/Could not resolve hostname|Name or service not known|nodename nor servname/i, () => 'no such host: check its name'],
  [/Connection refused/i, () => 'connection refused: does an ssh server listen there?'],
  [
    /(?:Connection|Operation) timed out|Connection to .* timed out/i,
    () => 'no answer: check the address and firewalls in between',
  ],
  [/No route to host|Network is unreachable/i, () => 'host unreachable: check the network'],
  [
    /Bad configuration option|terminating, \d+ bad configuration|Can't open user config file/i,
    (_target, { input }) => `ssh does not take its configuration: ${lastLine(input)}`,
  ],
  [/Timeout, server .* not responding/i, () => 'the server stopped answering'],
  [
    /Connection (?:reset|closed)|Broken pipe|kex_exchange_identification|client_loop|closed by remote host/i,
    () => 'the connection was cut',
  ],
];

function placeOf({ host, port }: Pick<SshTarget, 'host' | 'port'>): string {
  return port === undefined ? host : `${host}, port ${port},`;
}

/** The command by which a person connects to the same server, to see and accept its key. */
function commandOf({ host, port, user, config }: SshTarget): string {
  const given = process.env['FARBUS_SSH']?.trim() || 'ssh';
  const file = config === undefined ? [] : ['-F', /^[\w./~-]+$/.test(config) ? config : `'${config}'`];
  const words = [given, ...file, ...(port === undefined ? [] : ['-p', String(port)])];
  return printable([...words, user === undefined ? host : `${user}@${host}`].join(' '), 300);
}

/** Explains in one line why an `ssh` has ended; undefined if it ended in good order. */
export function explainSsh(target: SshTarget, end: ProcessEnd): Error | undefined {
  const fail = (what: string): FarbusError => new FarbusError(`cannot use ${target.address}: ${what}`);
  if (/subsystem request failed/i.test(end.stderr)) return fail('the server offers no SFTP: use ssh+dd://');
  if (end.code === 255) {
    // ssh could not open a session on the server, so another service would fail too.
    const fail = (what: string): FarbusError =>
      new FarbusError(`cannot reach ${target.address}: ${what}`, { kind: 'unreachable' });
    for (const [pattern, text] of reasons) {
      const found = pattern.exec(end.stderr);
      if (found) return fail(text(target, found));
    }
    return fail(lastLine(end.stderr) || 'ssh gave up without saying why: try it by hand');
  }
  if (end.signal !== null) return fail(`ssh was ended by ${end.signal}`);
  const said = lastLine(end.stderr);
  if (end.code === 0 || end.code === null) return said === '' ? undefined : fail(`the session ended: ${said}`);
  return fail(`the session ended with status ${end.code}${said === '' ? '' : `: ${said}`}`);
}

/** The last line of a program's messages, printable and at most 200 characters long. */
function lastLine(text: string): string {
  const line =
    text
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '';
  return printable(line, 200);
}
