/**
 * Faults of disks over ssh, at the start and later: each gives a clear one-line error, never a
 * shifted stream or a wrong byte. The server is a private OpenSSH.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { FarbusError } from '../../src/base/errors.js';
import type { BlockDevice } from '../../src/block/device.js';
import { openSshDd } from '../../src/protocol/dd/open.node.js';
import { openSshSftp } from '../../src/protocol/sftp/open.node.js';
import { openSsh } from '../../src/protocol/ssh/open.node.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { freePort, missing } from '../support/nbd-peers.js';
import { attachLoop, cannotLoop, mount } from '../support/root.js';
import { cannotSshd, Sshd, writeScript } from '../support/sshd.js';
import { tempFolder, tempPath, tempImage } from '../support/temp.js';

const ways = [
  { name: 'ssh+dd', open: openSshDd },
  { name: 'ssh+sftp', open: openSshSftp },
  { name: 'ssh', open: openSsh },
] as const;

const content = new Random(4).bytes(1 << 20);

/** The error of a failed opening: a FarbusError of one line. */
async function refusal(opening: Promise<BlockDevice>): Promise<string> {
  const error: unknown = await opening.then(
    (device) => device.close().then(() => new Error('it was opened')),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FarbusError);
  const { message } = error as FarbusError;
  expect(message).not.toMatch(/\n/);
  return message;
}

async function using<T>(opening: Promise<BlockDevice>, work: (device: BlockDevice) => Promise<T>): Promise<T> {
  const device = await opening;
  try {
    return await work(device);
  } finally {
    await device.close();
  }
}

const noRoot = process.getuid?.() !== 0;
if (noRoot) console.error('SKIPPED: full and read-only file systems: these tests need root');
const skip = cannotSshd() !== undefined;
const before = process.env['FARBUS_SSH'];
afterAll(() => {
  if (before === undefined) delete process.env['FARBUS_SSH'];
  else process.env['FARBUS_SSH'] = before;
});

describe.skipIf(skip)('an opening that fails says why', () => {
  let server: Sshd;
  beforeAll(async () => {
    server = await Sshd.start();
  });
  const config = (line: string): string => {
    const path = tempPath('ssh_config');
    writeFileSync(
      path,
      `Host test\n ${line}\n${readFileSync(server.clientConfig, 'utf8').replace(/^Host test\n/, '')}`,
    );
    return `ssh -F ${path}`;
  };

  for (const { name, open } of ways) {
    test(`${name}: the server cannot be reached`, async () => {
      process.env['FARBUS_SSH'] = 'ssh -F /dev/null';
      expect(await refusal(open(`${name}://nowhere.invalid/dev/sdb`))).toMatch(/no such host/);
      const { port } = await freePort();
      expect(await refusal(open(`${name}://127.0.0.1:${port}/dev/sdb`))).toMatch(/connection refused/);
      process.env['FARBUS_SSH'] = config('User nobody-that-there-is');
      expect(await refusal(open(`${name}://test/dev/sdb`))).toMatch(/does not let this user in/);
      process.env['FARBUS_SSH'] = config('UserKnownHostsFile /dev/null');
      expect(await refusal(open(`${name}://test/dev/sdb`))).toMatch(/host key of test is not known/);
      const changed = tempPath('known_hosts');
      const other = readFileSync(server.file('user.pub'), 'utf8').split(' ').slice(0, 2).join(' ');
      writeFileSync(changed, `[127.0.0.1]:${server.port} ${other}\n`);
      process.env['FARBUS_SSH'] = config(`UserKnownHostsFile ${changed}`);
      expect(await refusal(open(`${name}://test/dev/sdb`))).toMatch(/host key of test has changed/);
      process.env['FARBUS_SSH'] = '/nonexistent/ssh';
      expect(await refusal(open(`${name}://test/dev/sdb`))).toMatch(/cannot run .*no such program/);
    });

    test(`${name}: the device cannot be opened`, async () => {
      process.env['FARBUS_SSH'] = server.ssh;
      expect(await refusal(open(`${name}://test/dev/there-is-no-such-disk`))).toMatch(/no such device or file/);
      expect(await refusal(open(`${name}://test${server.folder}`))).toMatch(/it is a folder/);
      expect(await refusal(open(`${name}://test${tempImage(content)}?size=2M`))).toMatch(/it has 1048576 bytes/);
      const pipe = tempPath('pipe');
      execFileSync('mkfifo', [pipe]);
      expect(await refusal(open(`${name}://test${pipe}`))).toMatch(/neither a file nor a block device/);
    });
  }

  test('a server without SFTP, and one without dd', async () => {
    const bare = await Sshd.start({ noSftp: true });
    process.env['FARBUS_SSH'] = bare.ssh;
    const path = tempImage(content);
    expect(await refusal(openSshSftp(`ssh+sftp://test${path}`))).toMatch(/offers no SFTP/);
    await using(openSsh(`ssh://test${path}`), (device) => expectBytes(device, 0, content));
    await bare.stop();
    const folder = tempFolder();
    execFileSync('ln', ['-s', '/bin/sh', join(folder, 'sh')]);
    const noDd = await Sshd.start({ env: { PATH: `${folder}` } });
    process.env['FARBUS_SSH'] = noDd.ssh;
    expect(await refusal(openSshDd(`ssh+dd://test${path}`))).toMatch(/has no dd/);
    await using(openSsh(`ssh://test${path}`), (device) => expectBytes(device, 0, content));
    await noDd.stop();
  });

  test('a server that accepts the login and then sends nothing', async () => {
    const silent = await Sshd.start({ config: ['ForceCommand sleep 1000'] });
    process.env['FARBUS_SSH'] = silent.ssh;
    const { connectDd } = await import('../../src/protocol/dd/device.js');
    const { sshCommands } = await import('../../src/protocol/dd/open.node.js');
    const { parseRemoteUri } = await import('../../src/protocol/ssh/uri.js');
    const commands = sshCommands(parseRemoteUri('ssh://test/dev/sdb'));
    expect(await refusal(connectDd(commands, { path: '/dev/sdb', startSeconds: 1 }))).toMatch(
      /no session within 1 seconds/,
    );
    await silent.stop();
  });

  test('sudo and doas that are missing, or ask for a password', async () => {
    const folder = tempFolder();
    writeScript(join(folder, 'sudo'), 'echo "sudo: a password is required" >&2; exit 1');
    const asking = await Sshd.start({ env: { PATH: `${folder}:/usr/bin:/bin` } });
    process.env['FARBUS_SSH'] = asking.ssh;
    expect(await refusal(openSsh(`ssh://test${tempImage(content)}?sudo=1`))).toMatch(/a password is required/);
    await asking.stop();
  });

  test('sudo runs the session as the administrator', async () => {
    const folder = tempFolder();
    writeScript(join(folder, 'sudo'), `[ "$1 $2" = "-n --" ] || exit 9; shift 2; : >${folder}/used; exec "$@"`);
    const able = await Sshd.start({ env: { PATH: `${folder}:/usr/bin:/bin` } });
    process.env['FARBUS_SSH'] = able.ssh;
    await using(openSsh(`ssh://test${tempImage(content)}?sudo=1`), (device) => expectBytes(device, 0, content));
    expect(existsSync(join(folder, 'used'))).toBe(true);
    await able.stop();
  });
});

describe.skipIf(skip)('names and paths', () => {
  const names = [
    '$(touch pwned)',
    '`touch pwned`',
    '; touch pwned;',
    "it's",
    '"quoted" \\back\\slash\\',
    'a\nline\n',
    '-rf',
    '*?[a-z]{x,y}~!#&|<>',
    'ünïcödé ☃',
    '  spaces  ',
    '%41%2f',
    "'$(touch pwned)'",
    '\t\r\u0001',
  ];
  let server: Sshd;
  beforeAll(async () => {
    server = await Sshd.start();
    process.env['FARBUS_SSH'] = server.ssh;
  });
  for (const { name, open } of ways.slice(0, 2)) {
    test(`${name}: no part of a path is run as a command, and the file is found`, async () => {
      const folder = tempFolder();
      for (const [index, file] of names.entries()) {
        mkdirSync(join(folder, file));
        const bytes = new Random(index).bytes(4096);
        writeFileSync(join(folder, file, file), bytes);
        const path = join(folder, file, file).split('/').map(encodeURIComponent).join('/');
        await using(open(`${name}://test${path}`), async (device) => {
          await expectBytes(device, 0, bytes);
          await writeBytes(device, 0, bytes.toReversed());
          await device.flush();
        });
        expect(new Uint8Array(readFileSync(join(folder, file, file)))).toEqual(bytes.toReversed());
      }
      expect(
        spawnSync('find', [folder, '.', '/root', '-maxdepth', '2', '-name', 'pwned'], { encoding: 'utf8' }).stdout,
      ).toBe('');
    });
  }
});

describe.skipIf(skip)('login shells that print', () => {
  const image1 = tempImage(content);
  /** A program in place of ssh. Its last argument is the command for the login shell. */
  const shell = (text: string): void => {
    process.env['FARBUS_SSH'] = writeScript(tempPath('ssh'), `for last; do :; done\n${text}`);
  };
  const works = async (open: (uri: string) => Promise<BlockDevice>, uri: string): Promise<void> => {
    await using(open(uri), async (device) => {
      await expectBytes(device, 0, content);
      const bytes = new Random(9).bytes(100 << 10);
      await writeBytes(device, 4096, bytes);
      await expectBytes(device, 4096, bytes);
      await writeBytes(device, 4096, content.subarray(4096, 4096 + bytes.length));
      await device.flush();
    });
  };

  for (const program of ['csh', 'fish', 'bash', 'dash', 'busybox']) {
    test.skipIf(missing(program))(`${program} as login shell`, async () => {
      shell(program === 'busybox' ? 'exec busybox sh -c "$last"' : `exec ${program} -c "$last"`);
      await works(openSshDd, `ssh+dd://test${image1}`);
    });
  }

  test('a shell that prints at its start, echoes its commands, and leaves a process that prints', async () => {
    shell('echo "Welcome!"; printf "no newline"; exec bash -xvc "$last" 2>&1');
    await works(openSshDd, `ssh+dd://test${image1}`);
    shell('head -c 300000 /dev/urandom; exec sh -c "$last"');
    await works(openSshDd, `ssh+dd://test${image1}`);
    shell('(i=0; while [ $i -lt 40 ]; do sleep 0.02; echo "You have mail $i"; i=$((i+1)); done) & exec sh -c "$last"');
    await works(openSshDd, `ssh+dd://test${image1}`);
  });

  test('a shell that prints without end', async () => {
    shell('yes');
    expect(await refusal(openSshDd(`ssh+dd://test${image1}`))).toMatch(/prints without end/);
  });

  test('a shell that prints before SFTP starts: dd is used', async () => {
    shell(
      `case $* in *\\ -s\\ *) echo "Welcome!"; exec /usr/lib/openssh/sftp-server;; *) echo Welcome; exec sh -c "$last";; esac`,
    );
    expect(await refusal(openSshSftp(`ssh+sftp://test${image1}`))).toMatch(/login shell print/);
    await works(openSsh, `ssh://test${image1}`);
  });

  test('a banner of the server', async () => {
    const banner = tempPath('banner');
    writeFileSync(banner, 'AUTHORIZED USE ONLY\nPermission denied (publickey) is what others get\n');
    const polite = await Sshd.start({ config: [`Banner ${banner}`] });
    process.env['FARBUS_SSH'] = polite.ssh;
    for (const { name, open } of ways) await works(open, `${name}://test${image1}`);
    await polite.stop();
  });
});

describe.skipIf(skip)('faults of the device', () => {
  beforeAll(async () => {
    process.env['FARBUS_SSH'] = (await Sshd.start()).ssh;
  });
  for (const { name, open } of ways.slice(0, 2)) {
    test(`${name}: a device that becomes smaller`, async () => {
      const path = tempImage(content);
      await using(open(`${name}://test${path}`), async (device) => {
        truncateSync(path, 300_000);
        const bytes = new Uint8Array(1 << 20);
        const error: unknown = await device.read(0, buffersOf(bytes)).catch((reason: unknown) => reason);
        expect((error as Error).message).toMatch(/ended too early/);
        await expectKind('io', device.read(512 << 10, buffersOf(new Uint8Array(4096))));
        await expectKind('io', device.read(299_520, buffersOf(new Uint8Array(4096))));
        // The session is in step: existing blocks are read correctly, concurrently with missing
        // ones.
        const results = await Promise.allSettled(
          Array.from({ length: 40 }, async (_, i) => {
            const at = i * 16384;
            const got = await readBytes(device, at, 8192);
            expect(got).toEqual(content.slice(at, at + 8192));
          }),
        );
        for (const [i, { status }] of results.entries()) {
          expect(status, `read ${i}`).toBe(i * 16384 + 8192 <= 300_000 ? 'fulfilled' : 'rejected');
        }
      });
    });

    test.skipIf(noRoot)(`${name}: a read-only file system`, async () => {
      const folder = tempFolder();
      mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder);
      writeFileSync(join(folder, 'disk'), content.subarray(0, 65536));
      execFileSync('mount', ['-o', 'remount,ro', folder]);
      await using(open(`${name}://test${folder}/disk`), async (device) => {
        expect(device.info.readOnly).toBe(true);
        await expectBytes(device, 0, content.subarray(0, 65536));
      });
    });

    test.skipIf(cannotLoop() !== undefined)(`${name}: a disk that is mounted there is only read`, async () => {
      const path = tempPath('disk.img');
      writeFileSync(path, '');
      truncateSync(path, 8 << 20);
      execFileSync('mkfs.ext4', ['-q', path]);
      const loop = attachLoop(path);
      const unmount = mount(loop, tempFolder());
      expect(await refusal(open(`${name}://test${loop}`))).toMatch(/on the server it is mounted/);
      await using(open(`${name}://test${loop}`, { readOnly: true }), (device) => readBytes(device, 0, 4096));
      unmount();
      await using(open(`${name}://test${loop}`), async (device) => expect(device.info.readOnly).toBe(false));
    });

    test.skipIf(noRoot)(`${name}: the disk there is full`, async () => {
      const folder = tempFolder();
      mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder);
      writeFileSync(join(folder, 'disk'), '');
      truncateSync(join(folder, 'disk'), 8 << 20);
      await using(open(`${name}://test${folder}/disk`), async (device) => {
        const bytes = new Random(7).bytes(256 << 10);
        await writeBytes(device, 0, bytes);
        const big = new Random(8).bytes(4 << 20);
        await expectKind('no-space', writeBytes(device, 1 << 20, big));
        await expectKind('no-space', writeBytes(device, 6 << 20, bytes));
        await expectBytes(device, 0, bytes);
        const again = new Random(9).bytes(4096);
        await writeBytes(device, 0, again);
        await expectBytes(device, 0, again);
        await device.flush();
      });
    });
  }
});

describe.skipIf(skip || noRoot)('a write that fails', () => {
  test('its data is never run as commands', async () => {
    process.env['FARBUS_SSH'] = (await Sshd.start()).ssh;
    const folder = tempFolder();
    mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder);
    writeFileSync(join(folder, 'disk'), content.subarray(0, 65536));
    truncateSync(join(folder, 'disk'), 8 << 20);
    const { connectDd } = await import('../../src/protocol/dd/device.js');
    const { sshCommands } = await import('../../src/protocol/dd/open.node.js');
    const { parseRemoteUri } = await import('../../src/protocol/ssh/uri.js');
    const path = join(folder, 'disk');
    const line = `\nS ${'0'.repeat(32)} ${'0'.repeat(32)}\nS ${'0'.repeat(32)}\nZ 1 65536 0 65536 1+0\nK 1 farbus 1 1\n\n`;
    const hostile = new TextEncoder().encode(line.repeat(Math.ceil((2 << 20) / line.length))).subarray(0, 2 << 20);
    await using(connectDd(sshCommands(parseRemoteUri(`ssh://test${path}`)), { path, sessions: 1 }), async (device) => {
      for (let round = 0; round < 3; round++) {
        await expectKind('no-space', writeBytes(device, (2 + round) << 20, hostile));
        await expectBytes(device, 0, content.subarray(0, 65536));
      }
    });
  });
});
