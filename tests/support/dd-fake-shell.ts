/**
 * A fake for the server's side of a dd session, with a disk in memory. It answers as the script of
 * src/protocol/dd/script.ts does, and misbehaves as the test tells it.
 */
import type { ByteStream } from '../../src/network/stream.js';

/** The way to handle one command: correctly, or with a fault. */
export type Mischief = 'none' | 'junk-before' | 'junk-within' | 'junk-after' | 'short' | 'fail' | 'cut' | 'cut-after';

export class FakeShell {
  readonly disk: Uint8Array;
  readonly #stream: ByteStream;
  readonly #next: () => Mischief;
  #input = Buffer.alloc(0);
  #marker = '';
  #skipping = false;

  constructor(stream: ByteStream, disk: Uint8Array, next: () => Mischief) {
    this.#stream = stream;
    this.disk = disk;
    this.#next = next;
    stream.attach({
      data: (chunk) => {
        this.#input = Buffer.concat([this.#input, chunk]);
        while (this.#step());
      },
      drain: () => undefined,
      closed: () => undefined,
    });
  }

  #say(text: string | Uint8Array): void {
    this.#stream.write([typeof text === 'string' ? Buffer.from(text) : Uint8Array.from(text)]);
  }

  /** Handles one line. Returns true if there may be another. */
  #step(): boolean {
    const end = this.#input.indexOf(0x0a);
    if (end < 0) return false;
    const line = this.#input.subarray(0, end).toString('latin1');
    if (this.#marker === '') {
      this.#take(end + 1);
      this.#marker = /^m=(\w+)''(\w+);/.exec(line)!.slice(1).join('');
      this.#report();
      return true;
    }
    const [letter, id = '', ...rest] = line.split(' ');
    if (this.#skipping) {
      this.#take(end + 1);
      if (letter === 'S' && id === this.#marker) {
        this.#skipping = false;
        this.#say(`\n${this.#marker} sync ${rest[0]} skipped\n`);
      }
      return true;
    }
    return this.#command(letter!, id, rest, end + 1);
  }

  #command(letter: string, id: string, rest: string[], header: number): boolean {
    const [, position = 0, count = 0] = rest.map(Number);
    if (letter === 'W' && this.#input.length < header + count) return false;
    const payload = this.#input.subarray(header, header + count);
    if (letter === 'S' || letter === '') {
      this.#take(header);
      if (letter === 'S') this.#say(`\n${this.#marker} sync ${rest[0]} idle\n`);
      return true;
    }
    if (letter === 'K') {
      this.#take(header);
      this.#say(`${this.#marker} ${id} gone\n`);
      return true;
    }
    const mischief = this.#next();
    if (mischief === 'cut') {
      this.#stream.destroy();
      return false;
    }
    if (mischief === 'fail') {
      // Leave some of the data in the input, as a failing dd does.
      this.#take(header + (letter === 'W' ? Math.floor(count / 3) : 0));
      return this.#fail(id, 1, 'dd: error: Input/output error 0+0 records in');
    }
    this.#take(header + (letter === 'W' ? count : 0));
    const ok = `${this.#marker} ${id} ok\n`;
    if (letter === 'R') {
      const data = this.disk.slice(position, position + count);
      if (mischief === 'short') {
        this.#say(data.subarray(0, Math.floor(count / 2)));
        return this.#fail(id, 0, '0+1 records in');
      }
      if (mischief === 'junk-before') this.#say('You have mail\n');
      this.#say(data.subarray(0, 7));
      if (mischief === 'junk-within') this.#say('junk\n');
      this.#say(data.subarray(7));
    } else if (letter === 'W') {
      this.disk.set(payload, position);
    } else if (letter === 'Z') {
      this.disk.fill(0, position, position + count);
    }
    if (mischief === 'junk-after') this.#say('\nBroadcast message\n');
    this.#say(ok);
    if (mischief === 'cut-after') this.#stream.destroy();
    return mischief !== 'cut-after';
  }

  #fail(id: string, status: number, text: string): boolean {
    this.#say(`\n${this.#marker} ${id} error ${status} ${text}\n`);
    this.#skipping = true;
    return true;
  }

  #take(length: number): void {
    this.#input = Buffer.from(this.#input.subarray(length));
  }

  #report(): void {
    const m = this.#marker;
    const facts = {
      type: 'f',
      writable: 1,
      size: this.disk.length,
      sector: '',
      inode: '1:2.000000003',
      skipbytes: 1,
      seekbytes: 1,
      fullblock: 1,
      flush: 'fsync',
      processes: 'proc',
      pid: 1,
      group: '',
      machine: 'm',
      boot: 'b',
      space: 's',
      used: '',
    };
    const lines = Object.entries(facts).map(([key, value]) => `${m} ${key} ${value}\n`);
    this.#say(`Welcome\n\n${m} begin\n${lines.join('')}${m} ready \n`);
  }
}
