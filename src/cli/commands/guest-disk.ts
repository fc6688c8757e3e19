/** `farbus guest-disk`: makes a bootable disk with Debian. */
import { access, constants, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { failed, FarbusError, usageError } from '../../base/errors.js';
import { formatBytes, parseBytes } from '../../base/format.js';
import { jsonLine, visible } from '../../base/printable.js';
import { login } from '../../guest/disk/configuration.js';
import { defaultSize, makeGuestDisk, minSize, planGuestDisk } from '../../guest/disk/guest-disk.node.js';
import type { Architecture } from '../../guest/lock.node.js';
import { openError } from '../../storage/opening.node.js';
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
  'dry-run': { about: 'print what would be made and replaced, and change nothing' },
  json: { about: '--dry-run: print JSON, with sizes in bytes' },
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
  if (values.json && !values['dry-run']) throw usageError('--json is for --dry-run');
  if (out === undefined || more.length > 0) throw usageError('farbus guest-disk OUT.img: give one file');
  const size = parseBytes(values.size) ?? 0;
  if (size < minSize || size > maxSize || size % (1 << 20) !== 0)
    throw usageError(`--size ${values.size}: expected ${minSize >> 20}M to 64G, in whole mebibytes`);
  const found = await stat(out).catch(() => undefined);
  if (found && !values.force) throw new FarbusError(`${out} exists: --force replaces it`);
  if (found && !found.isFile()) throw new FarbusError(`${out} is no file: give another path`);
  await checkOutputFolder(out);
  await access(found ? out : dirname(out), constants.W_OK).catch((error: unknown) => {
    throw openError(out, error);
  });
  if (values['dry-run']) return await dryRun(out, size, found?.size, values, io);
  const progress = new ProgressLine(io);
  const log = stderrLogger(io, values.quiet);
  const signals = onSignals();
  try {
    const making = makeGuestDisk(out, {
      size,
      architecture: architectureOf(values),
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

function architectureOf({ arch }: { readonly arch: string }): Architecture {
  return arch === 'amd64' ? 'amd64' : 'i386';
}

interface DryRunValues {
  readonly arch: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

/**
 * Says what would be made. Changes nothing.
 * @param replaced The size of the file that would be replaced.
 */
async function dryRun(
  out: string,
  size: number,
  replaced: number | undefined,
  values: DryRunValues,
  io: CliIo,
): Promise<number> {
  const architecture = architectureOf(values);
  const { cached, packages, bytes } = await planGuestDisk({ size, architecture });
  if (values.json) {
    io.stdout.write(jsonLine({ out, dryRun: true, size, architecture, replaced, cached, packages, bytes }));
    return 0;
  }
  const before = replaced === undefined ? 'a new file' : `a file of ${replaced} bytes, which is replaced`;
  const from = cached
    ? 'copied from the image in the cache'
    : `made of ${packages} packages, ${formatBytes(bytes)} to fetch of which the cache may have some`;
  io.stdout.write(`to        ${visible(out)}: ${before}\n`);
  io.stdout.write(`disk      ${formatBytes(size)} (${size} bytes), raw bytes, Debian for ${architecture}\n`);
  io.stdout.write(`content   ${from}\n`);
  stderrLogger(io, values.quiet).log('info', 'dry run: nothing was changed');
  return 0;
}
