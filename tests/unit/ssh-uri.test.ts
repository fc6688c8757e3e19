/** URIs of devices behind ssh and rsh: accepted forms, refusals, and the arguments for ssh. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { explainSsh, sshArguments } from '../../src/network/ssh.node.js';
import { checkForeignUri, formatRemote, parseRemoteUri } from '../../src/protocol/ssh/uri.js';

const none = {
  elevation: undefined,
  size: undefined,
  sessions: undefined,
  literal: false,
  config: undefined,
  identity: undefined,
  options: [],
};

describe('URIs', () => {
  it.each([
    ['ssh://server/dev/sdb', { way: 'ssh', host: 'server', port: undefined, user: undefined, path: '/dev/sdb' }],
    ['SSH+DD://me@server:2222/x', { way: 'ssh+dd', host: 'server', port: 2222, user: 'me', path: '/x' }],
    [
      'ssh+sftp://[fe80::1%25eth0]:22/x',
      { way: 'ssh+sftp', host: 'fe80::1%eth0', port: 22, user: undefined, path: '/x' },
    ],
    [
      'rsh://10.0.0.1/%2e%2e/a%20b%0Ac',
      { way: 'rsh', host: '10.0.0.1', port: undefined, user: undefined, path: '/../a b\nc' },
    ],
    ['ssh://server/~/disk.img', { way: 'ssh', host: 'server', port: undefined, user: undefined, path: './disk.img' }],
    ['ssh://a%40b@server/x', { way: 'ssh', host: 'server', port: undefined, user: 'a@b', path: '/x' }],
    ['ssh://DOMAIN%5cme@server/x', { way: 'ssh', host: 'server', port: undefined, user: 'DOMAIN\\me', path: '/x' }],
  ])('%s', (text, wanted) => {
    expect(parseRemoteUri(text)).toEqual({ ...none, ...wanted });
  });

  it('options', () => {
    expect(parseRemoteUri('ssh://h/x?sudo=1&size=1G&sessions=2')).toMatchObject({
      elevation: 'sudo',
      size: 2 ** 30,
      sessions: 2,
    });
    expect(parseRemoteUri('ssh+dd://h/x?doas')).toMatchObject({ elevation: 'doas' });
    expect(parseRemoteUri('rsh://h/x?literal=1')).toMatchObject({ literal: true });
  });

  it('options of ssh', () => {
    const uri = 'ssh://h/x?config=/a%20b&option=Compression=yes&identity=key&option=ProxyCommand%3Dnc%20%25h%20%25p';
    expect(parseRemoteUri(uri)).toMatchObject({
      config: '/a b',
      identity: 'key',
      options: ['Compression=yes', 'ProxyCommand=nc %h %p'],
    });
  });

  it('a file of another user gives no option that could run a command', () => {
    for (const part of ['identity=k&option=Compression=yes&option=ciphers=aes128-ctr', 'sudo', 'size=1M']) {
      expect(() => checkForeignUri(`ssh://h/x?${part}`)).not.toThrow();
    }
    for (const key of [
      'ProxyCommand',
      'proxycommand',
      'LocalCommand',
      'PermitLocalCommand',
      'KnownHostsCommand',
      'Include',
      'Match',
      'PKCS11Provider',
      'SecurityKeyProvider',
      'ProxyJump',
      'HostName',
      'User',
      'XAuthLocation',
      'ControlPath',
      'UserKnownHostsFile',
      'StrictHostKeyChecking',
      'RemoteForward',
      'SendEnv',
    ]) {
      // prettier-ignore
      expect(() => checkForeignUri(`ssh+dd://h/x?option=Compression=yes&option=${key}=x`)).toThrow(
        `option=${key} could make ssh run commands on this computer`,
      );
    }
    expect(() => checkForeignUri('ssh://h/x?config=c')).toThrow(/^config could make ssh run commands/);
  });

  it.each([
    ['ssh://-oProxyCommand=x/dev/sdb', /neither|does not begin with "-"/],
    ['ssh://-l@host/dev/sdb', /does not begin with "-"/],
    ['ssh://%2doProxyCommand=x/dev/sdb', /does not begin with "-"/],
    ['ssh://$(touch x)/dev/sdb', /spaces/],
    ['ssh://$(touch%20x)/dev/sdb', /neither a name nor an address/],
    ['ssh://`id`/x', /neither a name nor an address/],
    ['ssh://a%00b/x', /neither a name nor an address/],
    ['ssh://a;b/x', /neither a name nor an address/],
    ['ssh://$USER@h/x', /characters that are not taken/],
    ["ssh://a'b@h/x", /characters that are not taken/],
    ['ssh://me:secret@h/x', /a password is not taken/],
    ['ssh:///dev/sdb', /which host/],
    ['ssh://host', /which device/],
    ['ssh://host/', /which device/],
    ['ssh://host/a%00b', /no NUL/],
    ['ssh://host/%zz', /%/],
    ['ssh://host:0/x', /port/],
    ['ssh://host:99999/x', /port/],
    ['ssh://host/x#y', /# part/],
    ['ssh://host/x?nice=1', /unknown part "nice"/],
    ['ssh://host/x?identiy=k', /unknown part "identiy" after the \?: did you mean identity\?$/],
    ['ssh://host/x?config', /config needs a value/],
    ['ssh://host/x?config=', /path of a file/],
    ['ssh://host/x?identity=a&identity=b', /given twice/],
    ['ssh://host/x?option=Compression', /KEY=VALUE/],
    ['ssh://host/x?option=-F=x', /KEY=VALUE/],
    ['ssh://host/x?option=Port=1%0AProxyCommand=x', /KEY=VALUE/],
    ['rsh://host/x?identity=k', /identity is for ssh/],
    ['ssh://host/x?sudo=2', /sudo is 1 or 0/],
    ['ssh://host/x?sudo&sudo', /given twice/],
    ['ssh://host/x?sudo&doas', /exclude each other/],
    ['ssh+sftp://host/x?sudo', /for ssh\+dd/],
    ['ssh://host/x?literal', /for rsh/],
    ['ssh://host/x?size=lots', /size is a number/],
    ['ssh://host/x?sessions=99', /sessions is a number/],
    [`ssh://host/${'x'.repeat(5000)}`, /at most 4096 bytes/],
    ['http://host/x', /not understood/],
  ])('%s is refused', (text, wanted) => {
    expect(() => parseRemoteUri(text)).toThrow(wanted);
    expect(() => parseRemoteUri(text)).toThrow(FarbusError);
  });

  it('a password does not appear in the message', () => {
    expect(() => parseRemoteUri('ssh://me:secret@h/x')).toThrow(/^(?!.*secret)/);
    expect(() => parseRemoteUri('ssh://me:secret@h/x?bad')).toThrow(/^(?!.*secret)/);
  });

  it('any text is understood or refused in one line, and ssh never sees it as an option', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }).map((rest) => `ssh://${rest}`),
      fc.tuple(fc.string(), fc.string(), fc.string()).map(([user, host, path]) => `ssh://${user}@${host}/${path}`),
      fc
        .tuple(fc.webUrl(), fc.string())
        .map(([url, user]) => url.replace(/^\w+:\/\//, `ssh://${encodeURIComponent(user)}@`)),
    );
    fc.assert(
      fc.property(text, (uri) => {
        try {
          const address = parseRemoteUri(uri);
          expect(`${address.host}${address.user ?? ''}`).not.toMatch(/[\s'"`$;&|<>(){}\p{Cc}]/u);
          expect(address.host).not.toMatch(/^-/);
          expect(address.user ?? '').not.toMatch(/^-/);
          expect(parseRemoteUri(formatRemote(address)).path).toBe(address.path);
        } catch (error) {
          expect(error).toBeInstanceOf(FarbusError);
          expect((error as Error).message).not.toMatch(/[\n\r]/);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('ssh', () => {
  const target = { host: 'h', user: 'me', port: 2222, address: 'ssh://h/x' };

  it('gets options, then "--", the host and one argument', () => {
    const args = sshArguments(target, { command: 'exec sh' });
    expect(args.slice(-7)).toEqual(['-p', '2222', '-l', 'me', '--', 'h', 'exec sh']);
    expect(args).toContain('BatchMode=yes');
    expect(sshArguments(target, { subsystem: 'sftp' }).slice(-4)).toEqual(['-s', '--', 'h', 'sftp']);
  });

  it('gets options of the URI before the defaults, which they replace, and after what the stream needs', () => {
    const options = ['ConnectTimeout=3', 'BatchMode=no', '-x'];
    const args = sshArguments({ ...target, config: '-c', identity: '-i', options }, { command: '' });
    expect(args.slice(3, 7)).toEqual(['-F', '-c', '-i', '-i']);
    const settings = args.flatMap((arg, at) => (args[at - 1] === '-o' ? [arg] : []));
    const at = (one: string): number => settings.indexOf(one);
    expect(at('BatchMode=yes')).toBeLessThan(at('BatchMode=no'));
    expect(at('ConnectTimeout=3')).toBeLessThan(at('ConnectTimeout=10'));
    expect(settings).toContain('-x');
    expect(settings.at(-1)).toBe('IdentitiesOnly=yes');
    expect(args.at(-3)).toBe('--');
  });

  it('never gets a host or user that looks like an option', () => {
    expect(() => sshArguments({ ...target, host: '-oProxyCommand=x' }, { command: '' })).toThrow(FarbusError);
    expect(() => sshArguments({ ...target, user: '-x' }, { command: '' })).toThrow(FarbusError);
  });

  it.each([
    ['ssh: Could not resolve hostname nowhere: Name or service not known\r\n', /no such host/],
    ['ssh: connect to host h port 22: Connection refused\r\n', /connection refused/],
    ['ssh: connect to host h port 22: Connection timed out\r\n', /no answer/],
    ['ssh: connect to host h port 22: No route to host\r\n', /host unreachable/],
    ['me@h: Permission denied (publickey,password).\r\n', /does not let this user in/],
    [
      '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.\r\n',
      /host key of h, port 2222, has changed: .*ssh-keygen -R '\[h\]:2222'/,
    ],
    [
      'Host key verification failed.\r\n',
      /host key of h, port 2222, is not known: check it with ssh -p 2222 me@h, or add \?option=UserKnownHostsFile=FILE$/,
    ],
    ['kex_exchange_identification: Connection closed by remote host\r\n', /was cut/],
    ['something\nelse \u001b[31m\n', /: something|: else/],
    [
      'Warning: Identity file k not accessible: No such file.\r\nme@h: Permission denied (publickey).\r\n',
      /Identity file k not accessible: No such file.*give the path of a private key/,
    ],
    ['', /without saying why/],
  ])('says %j', (stderr, wanted) => {
    const error = explainSsh(target, { code: 255, signal: null, stderr });
    expect(error).toMatchObject({ kind: 'unreachable' });
    expect(error!.message).toMatch(wanted);
    expect(error!.message).not.toMatch(/[\p{Cc}]/u);
  });
});
