/** New, empty disk images, made by qemu-img. */
import { constants, open, rm } from 'node:fs/promises';
import { printable } from '../../base/printable.js';
import type { ImageFormat } from './formats.js';
import { qemuFailure, qemuProgram } from './process.node.js';
import { descriptorPath, spawnInSandbox } from './sandbox/sandbox.node.js';

/** Options without which the disk in the image would not have the size that is asked for. */
const options: Readonly<Partial<Record<ImageFormat, string>>> = { vpc: 'subformat=dynamic,force_size=on' };

/**
 * Makes an image of a disk of `size` bytes, all zeroes, in the file at `path`, which must not exist or be empty. The disk
 * can be longer, as some formats have whole sectors only.
 * @throws FarbusError where qemu-img is missing or cannot; a new file is removed then. A system error for the file.
 */
export async function createImage(path: string, format: ImageFormat, size: number): Promise<void> {
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
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (status !== 0) throw qemuFailure('qemu-img', `cannot make the ${format} image ${printable(path)}`, errors);
    await handle.sync();
  } catch (error) {
    if (isNew) await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}
