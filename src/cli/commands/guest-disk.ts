/** `farbus guest-disk`: makes a bootable disk with Debian. */
import { existsSync } from 'node:fs';
import { FarbusError, usageError } from '../../base/errors.js';
import { formatBytes, parseBytes } from '../../base/format.js';
import { login } from '../../guest/disk/configuration.js';
import { defaultSize, makeGuestDisk, minSize } from '../../guest/disk/guest-disk.node.js';
import { stderrLogger, type CliIo } from '../ui/io.js';
import { failed, parseOptions } from '../options.js';
import { ProgressLine } from '../ui/progress.js';
import { Interrupted, onSignals } from '../ui/signals.js';

export const help = `farbus guest-disk: make a disk with a Debian that boots by itself

Usage: farbus guest-disk OUT.img [OPTIONS]

A disk image with a master boot record, GRUB, Debian 12's i386 kernel and a minimal Debian (the essential packages, apt,
sysvinit) on ext4. It needs nothing else to boot: serve it, and start a diskless computer on it. Its console is the screen
and the serial port. Log in as ${login.user}, password ${login.password}.

The packages are fetched at first use (some 85 MB, verified), and the image is kept in the cache: the second takes a second.
No root is needed, and nothing of Debian's is run here: dpkg says "unpacked" of the packages; in the guest
"dpkg --configure -a" configures them, and it boots without.

Options:
  --size SIZE   of the disk (default ${defaultSize >> 20}M, at least ${minSize >> 20}M; the file has holes)
  --force       replace OUT.img where it exists
  --quiet       no messages but warnings and errors

Examples:
  farbus guest-disk debian.img && farbus serve debian.img
  farbus run --bios --drive nbd://localhost/debian.img,bus=ahci
  farbus guest-disk --size 2G large.img
`;

/** Maximum size of the disk, in bytes. */
const maxSize = 64 * 2 ** 30;

export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseOptions('guest-disk', args, {
    allowPositionals: true,
    options: {
      size: { type: 'string', default: `${defaultSize >> 20}M` },
      force: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
    },
  });
  const [out, ...more] = positionals;
  if (out === undefined || more.length > 0) throw usageError('farbus guest-disk OUT.img: give one file');
  const size = parseBytes(values.size) ?? 0;
  if (size < minSize || size > maxSize || size % (1 << 20) !== 0)
    throw usageError(`--size ${values.size}: expected ${minSize >> 20}M to 64G, in whole mebibytes`);
  if (existsSync(out) && !values.force) throw new FarbusError(`${out} exists: --force replaces it`);
  const progress = new ProgressLine(io);
  const log = stderrLogger(io, values.quiet);
  const signals = onSignals();
  try {
    const making = makeGuestDisk(out, {
      size,
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
