/**
 * A browser's NBD server in the dialect of OpenBMC's web interface: it offers fixed newstyle, knows
 * no option but NBD_OPT_EXPORT_NAME, serves reads by simple replies, each in a message of its own,
 * and refuses writes. Written after its behaviour, for tests.
 */
import { NBD_MAGIC, NBD_OPTION_MAGIC, NBD_OPTION_REPLY_MAGIC, NBD_REQUEST_MAGIC } from '../../src/protocol/nbd/spec.js';
import { NBD_SIMPLE_REPLY_MAGIC, NbdCommand, Option, OptionReply } from '../../src/protocol/nbd/spec.js';
import { u16, u32, u64 } from './numbers.js';

const [hasFlags, readOnly] = [1, 2];
const [notPermitted, invalid, noSpace] = [1, 22, 28];

export class ReadOnlyTab {
  readonly #content: Uint8Array<ArrayBuffer>;
  readonly #send: (message: Uint8Array) => void;
  readonly #close: () => void;
  #phase: 'flags' | 'options' | 'requests' = 'flags';
  #waiting: Buffer = Buffer.alloc(0);
  /** Options that it did not know. */
  readonly unknown: number[] = [];

  /** Sends the greeting. */
  constructor(content: Uint8Array<ArrayBuffer>, send: (message: Uint8Array) => void, close: () => void) {
    this.#content = content;
    this.#send = send;
    this.#close = close;
    send(Buffer.concat([u64(NBD_MAGIC), u64(NBD_OPTION_MAGIC), u16(3)]));
  }

  /** A message has come. */
  receive(message: Uint8Array): void {
    this.#waiting = Buffer.concat([this.#waiting, message]);
    for (let used = 1; used > 0; this.#waiting = this.#waiting.subarray(used)) {
      used = this.#phase === 'flags' ? this.#flags() : this.#phase === 'options' ? this.#option() : this.#request();
    }
  }

  #flags(): number {
    if (this.#waiting.length < 4) return 0;
    this.#phase = 'options';
    return 4;
  }

  #option(): number {
    const bytes = this.#waiting;
    if (bytes.length < 16 || bytes.length < 16 + bytes.readUInt32BE(12)) return 0;
    const option = bytes.readUInt32BE(8);
    if (option === Option.exportName) {
      this.#phase = 'requests';
      this.#send(Buffer.concat([u64(this.#content.length), u16(hasFlags | readOnly)]));
    } else {
      this.unknown.push(option);
      const reply = [u64(NBD_OPTION_REPLY_MAGIC), u32(option), u32(OptionReply.errUnsupported), u32(0)];
      this.#send(Buffer.concat(reply));
    }
    return 16 + bytes.readUInt32BE(12);
  }

  #request(): number {
    const bytes = this.#waiting;
    if (bytes.length < 28) return 0;
    if (bytes.readUInt32BE(0) !== NBD_REQUEST_MAGIC) throw new Error('no request');
    const type = bytes.readUInt16BE(6);
    const offset = Number(bytes.readBigUInt64BE(16));
    const length = bytes.readUInt32BE(24);
    const answer = (error: number, data = new Uint8Array(0)): void =>
      this.#send(Buffer.concat([u32(NBD_SIMPLE_REPLY_MAGIC), u32(error), bytes.subarray(8, 16), data]));
    if (type === NbdCommand.disconnect) this.#close();
    else if (type === NbdCommand.write) {
      if (bytes.length < 28 + length) return 0;
      answer(notPermitted);
      return 28 + length;
    } else if (type !== NbdCommand.read) answer(invalid);
    else if (offset + length > this.#content.length) answer(noSpace);
    else answer(0, this.#content.subarray(offset, offset + length));
    return 28;
  }
}
