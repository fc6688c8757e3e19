/**
 * A program in place of ssh that never answers, or answers without end, and ignores SIGTERM: farbus
 * ends, and ends it too.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { tempFolder } from '../support/temp.js';
import { startFarbus } from './farbus.js';

/** A program in place of ssh that records its process id. `body` is POSIX shell code. */
function standIn(body: string): { program: string; pid: () => number } {
  const folder = tempFolder();
  const program = join(folder, 'ssh');
  const note = join(folder, 'pid');
  writeFileSync(program, `#!/bin/sh\ntrap '' TERM HUP\necho $$ >${note}.new; mv ${note}.new ${note}\n${body}\n`);
  chmodSync(program, 0o755);
  return { program, pid: () => (existsSync(note) ? Number(readFileSync(note, 'utf8')) : 0) };
}

async function started(pid: () => number): Promise<void> {
  while (pid() === 0) await sleep(20);
}

/** Waits until the process is gone. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(20);
  }
}

function withProgram(program: string, ...args: readonly string[]): ReturnType<typeof startFarbus> {
  const before = process.env['FARBUS_SSH'];
  process.env['FARBUS_SSH'] = program;
  try {
    return startFarbus(...args);
  } finally {
    if (before === undefined) delete process.env['FARBUS_SSH'];
    else process.env['FARBUS_SSH'] = before;
  }
}

const silent = 'while :; do sleep 1; done';
const endless = 'exec yes';

describe('a server over ssh that makes no progress', () => {
  it.each(['ssh://', 'ssh+dd://', 'ssh+sftp://'])(
    'does not keep farbus info from ending on SIGTERM: %s',
    async (way) => {
      const { program, pid } = standIn(silent);
      const info = withProgram(program, 'info', `${way}host/disk`);
      await started(pid);
      info.child.kill('SIGTERM');
      expect(await info.ended).toEqual({ code: 143, signal: null });
      await gone(pid());
    },
  );

  it.each(['ssh://', 'ssh+dd://'])('is given up when it prints without end: %s', async (way) => {
    const { program, pid } = standIn(endless);
    const info = withProgram(program, 'info', `${way}host/disk`);
    expect(await info.ended).toEqual({ code: 1, signal: null });
    expect(info.stderr()).toMatch(/prints without end/);
    await gone(pid());
  });

  it('is given up when it sends something other than SFTP', async () => {
    const { program, pid } = standIn('exec cat /dev/zero');
    const info = withProgram(program, 'info', 'ssh+sftp://host/disk');
    expect(await info.ended).toEqual({ code: 1, signal: null });
    await gone(pid());
  });
});
