/** Features (NVMe 1.4 §5.13, §5.21). None is saveable: nothing survives a controller reset, as §5.21 allows. */
import { CommandError } from './command.js';
import { Feature, Status } from './spec.js';

/** I/O queues of each kind that a driver can have. */
export const ioQueueLimit = 16;

const defaults: ReadonlyMap<number, number> = new Map([
  [Feature.arbitration, 6],
  [Feature.powerManagement, 0],
  [Feature.temperatureThreshold, 343],
  [Feature.errorRecovery, 0],
  [Feature.volatileWriteCache, 1],
  [Feature.numberOfQueues, ((ioQueueLimit - 1) << 16) | (ioQueueLimit - 1)],
  // 200 µs, 16 entries: answers that come over a network in one go cost the guest one interrupt.
  [Feature.interruptCoalescing, (2 << 8) | 15],
  [Feature.interruptVectorConfiguration, 0],
  [Feature.writeAtomicity, 0],
  [Feature.asyncEventConfiguration, 0],
]);

export class Features {
  readonly #values = new Map(defaults);
  readonly #volatileWriteCache: boolean;

  constructor(volatileWriteCache: boolean) {
    this.#volatileWriteCache = volatileWriteCache;
  }

  /** §5.13: `select` 0 current, 1 default, 2 saved, 3 supported capabilities (bit 2: changeable). */
  get(id: number, select: number): number {
    this.#known(id);
    switch (select) {
      case 0:
        return this.#values.get(id)!;
      case 1:
      case 2:
        return defaults.get(id)!;
      case 3:
        return id === Feature.numberOfQueues || id === Feature.writeAtomicity ? 0 : 1 << 2;
      default:
        throw new CommandError(Status.invalidField);
    }
  }

  /** §5.21. @returns dword 0 of the completion. */
  set(id: number, save: boolean, value: number): number {
    this.#known(id);
    if (save) throw new CommandError(Status.featureNotSaveable);
    if (id === Feature.numberOfQueues) {
      // §5.21.1.7: 65535 is not allowed; the number that is granted is not a matter of the number that is asked for.
      if ((value & 0xffff) === 0xffff || value >>> 16 === 0xffff) throw new CommandError(Status.invalidField);
      return this.#values.get(id)!;
    }
    if (id === Feature.volatileWriteCache && (value & 1) === 0) {
      // A far device's cache cannot be switched off from here, and saying so would be a claim of durability.
      throw new CommandError(Status.featureNotChangeable);
    }
    this.#values.set(id, value >>> 0);
    return 0;
  }

  /** §5.21.1.8: how long, in ms, and up to how many entries an interrupt of an I/O queue may be held back; 0 ms: not at all. */
  get coalescing(): { ms: number; entries: number } {
    const value = this.#values.get(Feature.interruptCoalescing)!;
    return { ms: ((value >>> 8) & 0xff) / 10, entries: (value & 0xff) + 1 };
  }

  /** Whether a kind of asynchronous event notice is enabled (§5.21.1.11). */
  noticeEnabled(bit: number): boolean {
    return ((this.#values.get(Feature.asyncEventConfiguration)! >>> bit) & 1) === 1;
  }

  save(): [number, number][] {
    return [...this.#values];
  }

  restore(values: readonly (readonly [number, number])[]): void {
    for (const [id, value] of values) if (defaults.has(id)) this.#values.set(id, value >>> 0);
  }

  reset(): void {
    for (const [id, value] of defaults) this.#values.set(id, value);
  }

  #known(id: number): void {
    if (!defaults.has(id) || (id === Feature.volatileWriteCache && !this.#volatileWriteCache)) {
      throw new CommandError(Status.invalidField);
    }
  }
}
