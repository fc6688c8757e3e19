/**
 * A picked file that is written: what a flush puts into the file, what is lost without one, changes
 * by other programs, and failures. The browser's handle is a fake over a file of this computer.
 */
import {
  copyFileSync,
  openAsBlob,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, test } from 'vitest';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { FileHandleDevice, type HandleWriter, type WritableHandle } from '../../src/storage/file-handle.js';
import { pickedWritable } from '../../src/web/lend/picked.js';
import { tempImage } from '../support/temp.js';

const size = 200_000;
const whole = size - (size % 512);

/** A handle as a browser gives it: the file is replaced when the writer is closed. */
class FakeHandle implements WritableHandle {
  readonly name = 'disk.img';
  readonly path = tempImage(Uint8Array.from({ length: size }, (_, at) => at & 0xff));
  copies = 0;
  fail: Error | undefined;
  /** Called when a copy has been written. */
  wrote: () => void = () => undefined;
  #second = 1_700_000_000;

  constructor() {
    this.touch();
  }

  touch(): void {
    this.#second++;
    utimesSync(this.path, this.#second, this.#second);
  }

  async getFile(): Promise<File> {
    const blob = await openAsBlob(this.path);
    return Object.assign(blob, { name: this.name, lastModified: statSync(this.path).mtimeMs }) as File;
  }

  async createWritable(): Promise<HandleWriter> {
    this.copies++;
    const copy = `${this.path}.crswap`;
    copyFileSync(this.path, copy);
    return {
      write: async ({ position, data }) => {
        if (this.fail) throw this.fail;
        const bytes = readFileSync(copy);
        bytes.set(data, position);
        writeFileSync(copy, bytes);
        this.wrote();
      },
      close: async () => {
        renameSync(copy, this.path);
        this.touch();
      },
      abort: async () => rmSync(copy, { force: true }),
    };
  }

  get content(): Uint8Array {
    return readFileSync(this.path);
  }
}

async function setUp() {
  const handle = new FakeHandle();
  return { handle, device: await FileHandleDevice.open(handle) };
}

describe('a picked file that is written', () => {
  test('shows writes at once, and has them in the file after the flush', async () => {
    const { handle, device } = await setUp();
    expect(device.info).toMatchObject({ size: whole, tail: size % 512, readOnly: false });
    const before = handle.content;
    const data = new Uint8Array(131_072).fill(7);
    await writeBytes(device, 512, data);
    expect(await readBytes(device, 0, 1024)).toEqual(
      Uint8Array.from([...before.subarray(0, 512), ...data.slice(0, 512)]),
    );
    expect(handle.content).toEqual(before);
    await device.flush();
    expect(handle.copies).toBe(1);
    expect(handle.content.subarray(512, 512 + 131_072)).toEqual(Buffer.from(data));
    expect(handle.content.subarray(512 + 131_072)).toEqual(before.subarray(512 + 131_072));
    await device.flush();
    expect(handle.copies).toBe(1);
  });

  test('reads during a flush get the new bytes, and none fails', async () => {
    const { device } = await setUp();
    for (let round = 1; round < 20; round++) {
      const data = new Uint8Array(4096).fill(round);
      await writeBytes(device, 65_536 - 2048, data);
      const flush = device.flush();
      const reads = Array.from({ length: 8 }, () => readBytes(device, 65_536 - 2048, 4096));
      for (const read of await Promise.all(reads)) expect(read).toEqual(data);
      await flush;
      expect(await readBytes(device, 65_536 - 2048, 4096)).toEqual(data);
    }
  });

  test('keeps writes for the next flush if one fails', async () => {
    const { handle, device } = await setUp();
    await writeBytes(device, 0, new Uint8Array(512).fill(9));
    handle.fail = new DOMException('no room', 'QuotaExceededError');
    await expectKind('no-space', device.flush());
    handle.fail = undefined;
    expect(handle.content[0]).toBe(0);
    expect((await readBytes(device, 0, 512))[0]).toBe(9);
    await device.close();
    expect(handle.content[0]).toBe(9);
  });

  test('fails if another program changes the file, and leaves the other change alone', async () => {
    const { handle, device } = await setUp();
    await writeBytes(device, 0, new Uint8Array(512).fill(9));
    const other = new Uint8Array(size).fill(5);
    writeFileSync(handle.path, other);
    handle.touch();
    await expectKind('io', device.flush());
    await expectKind('io', readBytes(device, 4096, 512));
    await expectKind('io', device.close());
    expect(handle.content).toEqual(Buffer.from(other));
  });

  test('fails if another page changes the file during a flush, and leaves that change alone', async () => {
    const { handle, device } = await setUp();
    await writeBytes(device, 0, new Uint8Array(512).fill(9));
    const other = new Uint8Array(size).fill(5);
    handle.wrote = () => {
      writeFileSync(handle.path, other);
      handle.touch();
    };
    await expectKind('io', device.flush());
    expect(handle.content).toEqual(Buffer.from(other));
    await expectKind('io', device.close());
  });
});

describe('a picked file that is lent writable', () => {
  test('is written if the user permits it, and refused if not', async () => {
    const handle = new FakeHandle();
    const asked: unknown[] = [];
    const answering = (answer: string) =>
      Object.assign(handle, {
        requestPermission: (what: unknown) => {
          asked.push(what);
          return Promise.resolve(answer);
        },
      });
    for (const answer of ['denied', 'prompt']) {
      await expect(pickedWritable(answering(answer))).rejects.toThrow('may not write the file "disk.img"');
    }
    const device = await pickedWritable(answering('granted'));
    expect(asked).toEqual(Array(3).fill({ mode: 'readwrite' }));
    await writeBytes(device, 512, new Uint8Array(512).fill(7));
    await device.flush();
    expect(readFileSync(handle.path).subarray(512, 1024)).toEqual(Buffer.alloc(512, 7));
    await device.close();
  });

  test.for([
    ['without a whole block', 511, 'has no whole block of 512 bytes'],
    ['of more than 1 GiB', 2 ** 30 + 512, 'is longer than 1 GiB'],
  ] as const)('%s is refused', async ([, length, why]) => {
    const handle = new FakeHandle();
    handle.getFile = () => Promise.resolve({ name: 'disk.img', size: length, lastModified: 0 } as File);
    await expect(pickedWritable(handle)).rejects.toThrow(why);
  });
});
