/**
 * Writes that are held up on their way to a disk, for tests of ghost writes: a write that a process
 * has begun must not land on newer data after that process was killed and restarted.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { Sshd, writeScript } from './sshd.js';
import { tempImage } from './temp.js';
import { until } from './event-loop.js';

/** Size of {@link image}, in bytes. */
export const imageSize = 1 << 20;

/** A disk of which one write can be held up. */
export interface Held {
  /** The source that the gateway serves. */
  readonly source: string;
  /** Holds up the next write. */
  arm(): void;
  /** Resolves when a write is held up. */
  caught(): Promise<void>;
  /** Lets the write continue, if it still exists. Resolves when it has ended. */
  release(): Promise<void>;
  /** The disk's first byte. */
  letter(): string;
}

/** One block of a letter. */
export const fill = (letter: string): Buffers => buffersOf(new Uint8Array(4096).fill(letter.charCodeAt(0)));

/** The letter at `offset` of a file. */
export const letterOf = (path: string, offset = 0): string => String.fromCharCode(readFileSync(path)[offset]!);

/** A new image of zeroes. */
export function image(): string {
  return tempImage(new Uint8Array(imageSize));
}

/**
 * A script that runs `run`. If `flag` exists, it first holds up one command that writes 4096 bytes.
 */
export const holding = (folder: string, test: string, run: string): string => `
if ${test} && mv ${folder}/flag ${folder}/taken 2>/dev/null; then
  d=${folder}/held.$$; /usr/bin/dd bs=4096 count=1 iflag=fullblock of=$d 2>/dev/null
  echo $$ >${folder}/new; mv ${folder}/new ${folder}/caught
  until [ -e ${folder}/release ]; do sleep 0.05; done
  ${run} <$d; touch ${folder}/over; exit
fi
${run}`;

/** The disk at `path`, whose writes a script of {@link holding} in `folder` holds up. */
export function holder(source: string, path: string, folder: string): Held {
  return {
    source,
    arm: () => writeFileSync(join(folder, 'flag'), ''),
    caught: () => until(() => existsSync(join(folder, 'caught'))),
    release: async () => {
      writeFileSync(join(folder, 'release'), '');
      await Promise.race([until(() => existsSync(join(folder, 'over'))).catch(() => undefined), sleep(1500)]);
      // Prepare the next round.
      for (const name of ['release', 'over', 'caught', 'taken']) rmSync(join(folder, name), { force: true });
    },
    letter: () => letterOf(path),
  };
}

/** Starts an OpenSSH server whose dd is a script of {@link holding} in `folder`. */
async function holdingSshd(folder: string): Promise<Sshd> {
  mkdirSync(join(folder, 'bin'));
  const isWrite = 'case "$*" in *of=/proc*if=*|*if=*of=*) false;; *of=*) true;; *) false;; esac';
  writeScript(join(folder, 'bin/dd'), holding(folder, `{ ${isWrite}; }`, '/usr/bin/dd "$@"'));
  return Sshd.start({ env: { PATH: `${folder}/bin:${process.env['PATH']}` } });
}

/**
 * Such a server for all tests of a `describe` block, as the ssh that Farbus runs. Returns a
 * function that returns it.
 */
export function withHoldingSshd(folder: string): () => Sshd {
  const before = process.env['FARBUS_SSH'];
  let sshd: Sshd | undefined;
  beforeAll(async () => {
    sshd = await holdingSshd(folder);
    process.env['FARBUS_SSH'] = sshd.ssh;
  });
  afterAll(async () => {
    if (before === undefined) delete process.env['FARBUS_SSH'];
    else process.env['FARBUS_SSH'] = before;
    await sshd?.stop();
  });
  return () => sshd!;
}

/** The SFTP servers of `sshd` that have this file open. */
export function sftpServersOf(sshd: Sshd, path: string): number[] {
  return sshd.descendants().filter((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('sftp-server')) return false;
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false;
    }
  });
}

/** Sends a signal to a process, if it still exists. Throws if `pid` cannot be one of a test's. */
export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
