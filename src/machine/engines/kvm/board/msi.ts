/**
 * MSI of one PCI function (PCI Local Bus 3.0, §6.8.1): a capability in the configuration space that
 * holds one message with a 64-bit address.
 *
 * Left out: several messages, masks of single messages.
 */
import type { MessageInterrupts } from '../../../engine.js';
import { addCapability, capabilityAt, type SendMessage } from './capability.js';

const capabilityId = 0x05;
/** Offsets in the configuration space. */
const At = { control: capabilityAt + 2, address: capabilityAt + 4, data: capabilityAt + 12, end: capabilityAt + 14 };
const enableBit = 1;
/** Message control: the capability has a 64-bit address. */
const wideAddress = 0x80;

export class MsiCapability implements MessageInterrupts {
  readonly #config: Uint8Array;
  readonly #view: DataView;
  readonly #send: SendMessage;

  constructor(config: Uint8Array, send: SendMessage) {
    this.#config = config;
    this.#view = new DataView(config.buffer, config.byteOffset);
    this.#send = send;
    addCapability(config, capabilityId);
    config[At.control] = wideAddress;
  }

  get enabled(): boolean {
    return (this.#config[At.control]! & enableBit) !== 0;
  }

  writeConfig(offset: number, value: number): void {
    if (offset === At.control) this.#config[offset] = wideAddress | (value & enableBit);
    // The address is that of a dword.
    else if (offset === At.address) this.#config[offset] = value & 0xfc;
    else if (offset > At.address && offset < At.end) this.#config[offset] = value;
  }

  /** Sends the only message. */
  signal(): void {
    if (!this.enabled) return;
    const high = this.#view.getUint32(At.address + 4, true);
    this.#send(high * 2 ** 32 + this.#view.getUint32(At.address, true), this.#view.getUint16(At.data, true));
  }

  processorVector(): number | undefined {
    return this.enabled ? this.#config[At.data] : undefined;
  }
}
