// A filter of one's own, which inverts every byte; the conformance suite throws if it is wrong.
import { Filter, MemoryDevice } from 'farbus';
import { conformance } from 'farbus/conformance';
const inverted = (bytes) => bytes.map((byte) => ~byte);
class Invert extends Filter {
  describe(next) {
    return { ...next, can: { ...next.can, trim: false, writeZeroes: false, extents: false } };
  }
  async doRead(offset, into, options) {
    const bytes = new Uint8Array(into.length);
    await this.next.read(offset, bytes, options);
    into.copyFrom(inverted(bytes), 0);
  }
  async doWrite(offset, from, options) {
    const bytes = new Uint8Array(from.length);
    from.copyTo(bytes, 0);
    await this.next.write(offset, inverted(bytes), options);
  }
}
for (const { run } of conformance(() => ({ device: new Invert(new MemoryDevice(1 << 20)) }))) await run();
