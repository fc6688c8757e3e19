/**
 * A private sshd for a benchmark: on loopback, with its own keys, reached as host "test" through
 * FARBUS_SSH.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Starts sshd with its files in `folder`. @returns its process, its port, the user's key file. */
export async function startSshd(folder) {
  const at = (name) => join(folder, name);
  const port = await freePort();
  const user = userInfo().username;
  if (process.getuid() === 0) mkdirSync('/run/sshd', { recursive: true });
  for (const name of ['host', 'user']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]);
  writeFileSync(at('keys'), readFileSync(at('user.pub')), { mode: 0o600 });
  writeFileSync(at('known'), `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`);
  writeFileSync(
    at('sshd_config'),
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${at('host')}\nAuthorizedKeysFile ${at('keys')}\nPidFile none\n` +
      `SetEnv HOME=${folder}\n` +
      'StrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n',
  );
  writeFileSync(
    at('ssh_config'),
    `Host test\n HostName 127.0.0.1\n Port ${port}\n User ${user}\n IdentityFile ${at('user')}\n` +
      ` IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile ${at('known')}\n`,
  );
  const child = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('sshd_config')], { stdio: 'ignore' });
  process.env.FARBUS_SSH = `ssh -F ${at('ssh_config')}`;
  await sleep(500);
  return { child, port, user, key: at('user') };
}

async function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
