/**
 * Byte streams over the system's `ssh` program, so that the user's configuration, agent, known hosts, jump hosts and
 * ControlMaster count. Source: ssh(1), ssh_config(5) of OpenSSH.
 *
 * It runs in batch mode: nothing here ever asks for, reads or hands on a password. `FARBUS_SSH` names another program with
 * arguments, as `GIT_SSH_COMMAND` does: `FARBUS_SSH='ssh -F my_config'`.
 */
import { FarbusError, usageError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { ProcessStream, type ProcessEnd } from './process.node.js';
import type { Dialer } from './stream.js';

export interface SshTarget {
  /** A name of the configuration, a host name or an address. Checked by whoever read it from a user. */
  readonly host: string;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  /** For messages: "ssh://host/dev/sdb". */
  readonly address: string;
}

/** What runs at the other end: a command of the user's login shell, or a subsystem. */
export type SshService = { readonly command: string } | { readonly subsystem: string };

/** No session on the server could be had at all: another service would not do better. */
export class SshUnreachable extends FarbusError {}

/** Seconds that ssh may take to connect. */
const connectSeconds = 10;
/** A server that has answered nothing for two of these, in seconds, is given up by ssh. */
const aliveSeconds = 15;

/** A dialer that starts a new `ssh` at each call. The service is asked for at each call as well. */
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

/** The arguments: options first, then "--", so that a host is never taken for an option. */
export function sshArguments(target: SshTarget, service: SshService): string[] {
  if (target.host.startsWith('-') || target.user?.startsWith('-')) {
    throw usageError(`${target.address}: neither a host nor a user begins with "-"`);
  }
  const args = ['-T', '-x', '-a'];
  const settings = [
    'BatchMode=yes',
    `ConnectTimeout=${connectSeconds}`,
    `ServerAliveInterval=${aliveSeconds}`,
    'ServerAliveCountMax=2',
    // What the configuration has for interactive sessions would get in the way.
    'ClearAllForwardings=yes',
    'PermitLocalCommand=no',
    'RemoteCommand=none',
    'EscapeChar=none',
  ];
  for (const setting of settings) args.push('-o', setting);
  if (target.port !== undefined) args.push('-p', String(target.port));
  if (target.user !== undefined) args.push('-l', target.user);
  if ('subsystem' in service) return [...args, '-s', '--', target.host, service.subsystem];
  return [...args, '--', target.host, service.command];
}

/** The program and its first arguments: `ssh`, or FARBUS_SSH taken apart at spaces; quotes keep spaces together. */
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

/** What ssh says, and what that means to a person. The first that fits counts. */
const reasons: readonly (readonly [RegExp, (host: string, found: RegExpExecArray) => string])[] = [
  [
    /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed/i,
    (host) =>
      `the host key of ${host} has changed: find out why before you trust it (ssh-keygen -R removes the old one)`,
  ],
  [
    /Host key verification failed|No .* host key is known/i,
    (host) => `the host key of ${host} is not known: connect once with ssh yourself and check it`,
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
    (_host, { input }) => `ssh does not take its configuration: ${lastLine(input)}`,
  ],
  [/Timeout, server .* not responding/i, () => 'the server stopped answering'],
  [
    /Connection (?:reset|closed)|Broken pipe|kex_exchange_identification|client_loop|closed by remote host/i,
    () => 'the connection was cut',
  ],
];

/** Why an `ssh` ended, in one line. */
export function explainSsh(target: SshTarget, end: ProcessEnd): Error | undefined {
  const fail = (what: string): FarbusError => new FarbusError(`cannot use ${target.address}: ${what}`);
  if (/subsystem request failed/i.test(end.stderr)) return fail('the server offers no SFTP: use ssh+dd://');
  if (end.code === 255) {
    const fail = (what: string): FarbusError => new SshUnreachable(`cannot reach ${target.address}: ${what}`);
    for (const [pattern, text] of reasons) {
      const found = pattern.exec(end.stderr);
      if (found) return fail(text(target.host, found));
    }
    return fail(lastLine(end.stderr) || 'ssh gave up without saying why: try it by hand');
  }
  if (end.signal !== null) return fail(`ssh was ended by ${end.signal}`);
  const said = lastLine(end.stderr);
  if (end.code === 0 || end.code === null) return said === '' ? undefined : fail(`the session ended: ${said}`);
  return fail(`the session ended with status ${end.code}${said === '' ? '' : `: ${said}`}`);
}

/** The last line of a program's messages, printable and of bounded length. */
function lastLine(text: string): string {
  const line =
    text
      .trim()
      .split(/[\r\n]+/)
      .at(-1) ?? '';
  return printable(line, 200);
}
