// A filter of one's own, which inverts every byte; the conformance suite throws if it is wrong.
import { Filter, MemoryDevice, contiguous } from 'farbus';
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
    await this.next.write(offset, inverted(contiguous(from)), options);
  }
}
const subject = () => ({ device: new Invert(new MemoryDevice(1 << 20)) });
for (const { run } of conformance(subject)) await run();
