/** `farbus guest-disk`: makes a bootable disk with Debian. */
import { existsSync } from 'node:fs';
import { failed, FarbusError, usageError } from '../../base/errors.js';
import { formatBytes, parseBytes } from '../../base/format.js';
import { login } from '../../guest/disk/configuration.js';
import { defaultSize, makeGuestDisk, minSize } from '../../guest/disk/guest-disk.node.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { defineCommand } from '../command.js';
import type { Given, Options } from '../table.js';
import { checkOutputFolder } from '../../app/output-file.js';
import { ProgressLine } from '../ui/progress.js';
import { Interrupted, onSignals } from '../ui/signals.js';

const options = {
  size: {
    value: 'SIZE',
    default: `${defaultSize >> 20}M`,
    about: `size of the disk, at least ${minSize >> 20}M; the file has holes`,
  },
  arch: {
    value: 'i386|amd64',
    choices: ['i386', 'amd64'],
    default: 'i386',
    about: 'processor of the system; a BIOS boots both, and UEFI can boot amd64',
  },
  force: { about: 'replace OUT.img if it exists' },
  quiet: { about: 'print no messages but warnings and errors' },
} as const satisfies Options;

export const command = defineCommand({
  name: 'guest-disk',
  summary: 'make a disk with a Debian that boots by itself',
  usage: ['OUT.img [OPTIONS]'],
  about: `
    Makes a disk image with a master boot record, GRUB, Debian 12's kernel and a minimal Debian (the essential
    packages, apt, sysvinit) on ext4. It needs nothing else to boot: serve it, and start a diskless computer on it. Its
    console is the screen and the serial port. Log in as ${login.user}, password ${login.password}.

    The packages are fetched at first use (about 85 MB, verified), and the image is kept in the cache: the second one takes
    a second. Root is not needed, and no program of Debian's runs here: dpkg reports the packages as "unpacked". The guest
    boots all the same; "dpkg --configure -a" in it configures them.`,
  options,
  examples: [
    'farbus guest-disk debian.img && farbus serve debian.img',
    'farbus run --bios --drive nbd://localhost/debian.img,bus=ahci',
    'farbus guest-disk --arch amd64 --size 2G large.img && farbus run --engine kvm --bios --drive large.img',
  ],
  pages: ['guests'],
  operands: 'file',
  run,
});

/** Maximum size of the disk, in bytes. */
const maxSize = 64 * 2 ** 30;

async function run({ values, operands }: Given<typeof options>, io: CliIo): Promise<number> {
  const [out, ...more] = operands;
  if (out === undefined || more.length > 0) throw usageError('farbus guest-disk OUT.img: give one file');
  const size = parseBytes(values.size) ?? 0;
  if (size < minSize || size > maxSize || size % (1 << 20) !== 0)
    throw usageError(`--size ${values.size}: expected ${minSize >> 20}M to 64G, in whole mebibytes`);
  if (existsSync(out) && !values.force) throw new FarbusError(`${out} exists: --force replaces it`);
  await checkOutputFolder(out);
  const progress = new ProgressLine(io);
  const log = stderrLogger(io, values.quiet);
  const signals = onSignals();
  try {
    const making = makeGuestDisk(out, {
      size,
      architecture: values.arch === 'amd64' ? 'amd64' : 'i386',
      log,
      signal: signals.signal,
      ...(!values.quiet && { onProgress: ({ label, done, total }) => progress.bytes(label, done, total) }),
    });
    await signals.during(making);
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    throw failed(`cannot make ${out}`, error);
  } finally {
    progress.clear();
    signals.stop();
  }
  log.log('info', `${out}: ${formatBytes(size)}; log in as ${login.user}, password ${login.password}`);
  return 0;
}
