/**
 * Features (NVMe 1.4 §5.13 Get Features, §5.21 Set Features).
 *
 * Left out: saved values. No feature is saveable, so a controller reset restores the defaults, as
 * §5.21 allows.
 */
import { CommandError } from './command.js';
import { Feature, Status } from '../../spec/nvme.js';

/** Largest number of I/O submission queues, and of I/O completion queues. */
export const ioQueueLimit = 16;

const defaults: ReadonlyMap<number, number> = new Map([
  [Feature.arbitration, 6],
  [Feature.powerManagement, 0],
  [Feature.temperatureThreshold, 343],
  [Feature.errorRecovery, 0],
  [Feature.volatileWriteCache, 1],
  [Feature.numberOfQueues, ((ioQueueLimit - 1) << 16) | (ioQueueLimit - 1)],
  // 100 µs units: 200 µs, and 16 entries (0-based), so that completions that arrive together from
  // the network cost the guest one interrupt. Chosen, not measured.
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

  /**
   * §5.13 Get Features. `select`: 0 current, 1 default, 2 saved, 3 supported capabilities (bit 2:
   * changeable).
   */
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

  /**
   * §5.21 Set Features.
   * @returns dword 0 of the completion
   */
  set(id: number, save: boolean, value: number): number {
    this.#known(id);
    if (save) throw new CommandError(Status.featureNotSaveable);
    if (id === Feature.numberOfQueues) {
      // §5.21.1.7: 65535 is invalid. The answer is always the number of queues there are, whatever
      // number the driver asks for.
      if ((value & 0xffff) === 0xffff || value >>> 16 === 0xffff) throw new CommandError(Status.invalidField);
      return this.#values.get(id)!;
    }
    if (id === Feature.volatileWriteCache && (value & 1) === 0) {
      // The cache of a remote disk cannot be switched off from here. Success would be a false
      // promise that writes are durable.
      throw new CommandError(Status.featureNotChangeable);
    }
    this.#values.set(id, value >>> 0);
    return 0;
  }

  /**
   * §5.21.1.8 Interrupt coalescing of I/O queues: an interrupt may be delayed for `ms` milliseconds
   * (0: not at all) or until `entries` completions wait.
   */
  get coalescing(): { ms: number; entries: number } {
    const value = this.#values.get(Feature.interruptCoalescing)!;
    return { ms: ((value >>> 8) & 0xff) / 10, entries: (value & 0xff) + 1 };
  }

  /** True if the asynchronous event notice of this bit is enabled (§5.21.1.11). */
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
