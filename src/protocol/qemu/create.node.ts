/** Makes new, empty disk images with qemu-img. */
import { constants, open, rm } from 'node:fs/promises';
import { onAbort } from '../../base/abort.js';
import { printable } from '../../base/printable.js';
import type { ImageFormat } from './formats.js';
import { qemuFailure, qemuProgram } from './process.node.js';
import { descriptorPath, spawnInSandbox } from './sandbox/sandbox.node.js';

/** Options that are needed for a disk of exactly the requested size. */
const options: Readonly<Partial<Record<ImageFormat, string>>> = { vpc: 'subformat=dynamic,force_size=on' };

/**
 * Makes an image of a zeroed disk of `size` bytes in the file `path`, which must be empty or not
 * exist. The disk can be larger, because some formats have complete sectors only.
 * @param signal ends the work; it then rejects with the signal's reason
 * @throws FarbusError if qemu-img is missing or fails; a file created here is then removed
 * @throws Error a system error of the file
 */
export async function createImage(
  path: string,
  format: ImageFormat,
  size: number,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const program = qemuProgram('qemu-img', path);
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  let isNew = true;
  const handle = await open(path, O_RDWR | O_CREAT | O_EXCL, 0o666).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    isNew = false;
    return open(path, O_RDWR);
  });
  try {
    const found = await handle.stat();
    if (!found.isFile() || found.size !== 0) throw Object.assign(new Error('not empty'), { code: 'EEXIST' });
    const more = options[format] === undefined ? [] : ['-o', options[format]];
    const args = ['create', '-q', '-f', format, ...more, descriptorPath(0), String(size)];
    const child = spawnInSandbox(program, args, { files: [{ fd: handle.fd, writable: true, isDevice: false }] });
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(0, 2048)));
    const unwatch = onAbort(signal, () => child.kill('SIGKILL'));
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    }).finally(unwatch);
    signal?.throwIfAborted();
    if (status !== 0) throw qemuFailure('qemu-img', `cannot make the ${format} image ${printable(path)}`, errors);
    await handle.sync();
  } catch (error) {
    if (isNew) await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}
