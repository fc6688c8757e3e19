/**
 * A scriptable SFTP server with a disk in memory. As the test tells it, it answers out of order,
 * with short reads, with errors, with unrequested packets, or closes the connection. It supports
 * only what one open file needs.
 */
import type { ByteStream } from '../../src/network/stream.js';
import { Packet, Status } from '../../src/protocol/sftp/spec.js';
import { FieldReader, PacketWriter } from '../../src/protocol/sftp/wire.js';

export type SftpMischief =
  'none' | 'short' | 'late' | 'fail' | 'cut' | 'cut-after' | 'garbage' | 'wrong-id' | 'too-much';

const extensions = ['fsync@openssh.com', 'limits@openssh.com'];

export class FakeSftp {
  readonly disk: Uint8Array;
  readonly #stream: ByteStream;
  readonly #next: () => SftpMischief;
  #input = Buffer.alloc(0);
  #late: Uint8Array[] = [];

  constructor(stream: ByteStream, disk: Uint8Array, next: () => SftpMischief) {
    this.#stream = stream;
    this.disk = disk;
    this.#next = next;
    stream.attach({
      data: (chunk) => {
        this.#input = Buffer.concat([this.#input, chunk]);
        while (this.#input.length >= 4 && this.#input.length >= 4 + this.#input.readUInt32BE(0)) {
          const end = 4 + this.#input.readUInt32BE(0);
          const packet = Uint8Array.from(this.#input.subarray(4, end));
          this.#input = Buffer.from(this.#input.subarray(end));
          this.#packet(packet[0]!, new FieldReader(packet.subarray(1)));
        }
      },
      drain: () => undefined,
      closed: () => undefined,
    });
  }

  #send(packet: PacketWriter): void {
    this.#stream.write([packet.done()]);
  }

  #status(id: number, code: number): PacketWriter {
    return new PacketWriter(Packet.status).u32(id).u32(code).text('as told').text('');
  }

  #packet(type: number, fields: FieldReader): void {
    if (type === Packet.init) {
      const hello = new PacketWriter(Packet.version).u32(3);
      for (const name of extensions) hello.text(name).text('1');
      return this.#send(hello);
    }
    const id = fields.u32();
    if (type === Packet.stat)
      return this.#send(
        new PacketWriter(Packet.attrs)
          .u32(id)
          .u32(1 | 4)
          .u64(this.disk.length)
          .u32(0o100644),
      );
    if (type === Packet.open) {
      const path = fields.text();
      if (path !== '/disk') return this.#send(this.#status(id, Status.noSuchFile));
      return this.#send(new PacketWriter(Packet.handle).u32(id).text('h'));
    }
    if (type === Packet.extended && fields.text() === 'limits@openssh.com') {
      return this.#send(new PacketWriter(Packet.extendedReply).u32(id).u64(70_000).u64(4096).u64(4096).u64(1));
    }
    this.#onFile(type, id, fields);
  }

  #onFile(type: number, id: number, fields: FieldReader): void {
    const mischief = type === Packet.close ? 'none' : this.#next();
    if (mischief === 'cut') return this.#stream.destroy();
    if (mischief === 'garbage')
      return void this.#stream.write([Uint8Array.from({ length: 64 }, (_, i) => (id * 31 + i * 17) & 255)]);
    const answer = this.#answer(type, mischief === 'wrong-id' ? id + 77 : id, fields, mischief);
    if (mischief === 'late') {
      this.#late.push(Uint8Array.from(answer.done()));
      setTimeout(() => {
        for (const bytes of this.#late.splice(0).reverse()) this.#stream.write([bytes]);
      }, 1);
    } else {
      this.#send(answer);
    }
    if (mischief === 'cut-after') this.#stream.destroy();
  }

  #answer(type: number, id: number, fields: FieldReader, mischief: SftpMischief): PacketWriter {
    if (mischief === 'fail') return this.#status(id, Status.failure);
    if (type === Packet.read) {
      fields.bytes();
      const at = fields.u64();
      let length = fields.u32();
      if (mischief === 'short') length = Math.ceil(length / 3);
      if (mischief === 'too-much') length += 1;
      if (at >= this.disk.length) return this.#status(id, Status.eof);
      const data = new Uint8Array(length);
      data.set(this.disk.subarray(at, Math.min(this.disk.length, at + length)));
      return new PacketWriter(Packet.data, length + 16).u32(id).bytes(data);
    }
    if (type === Packet.write) {
      fields.bytes();
      const at = fields.u64();
      this.disk.set(fields.bytes(), at);
    }
    return this.#status(id, Status.ok);
  }
}
