/**
 * The flash in which UEFI keeps its variables: command set of Intel's flash memories (CFI; Intel
 * StrataFlash J3, "Command Set"), as far as OVMF uses it: read array, read and clear status,
 * program a byte, erase a block.
 *
 * The guest reads the array without exits, also between the two writes that program a byte; only
 * while it reads the status, the array is hidden.
 *
 * Left out: write buffers, protection, the query table.
 */

/** Size of a block for erasing, in bytes (OVMF: PcdOvmfFirmwareBlockSize). */
export const flashBlock = 4096;

const Command = {
  program: 0x10,
  programToo: 0x40,
  erase: 0x20,
  eraseConfirm: 0xd0,
  clearStatus: 0x50,
  readStatus: 0x70,
} as const;
/** Status: ready after a command; a sequence of commands that is none. */
const ready = 0x80;
const sequenceError = 0x30;

const sequences = ['program', 'erase'] as const;

/** The flash as a snapshot holds it. */
export interface FlashState {
  readonly content: Uint8Array;
  readonly status: number;
  readonly readsStatus: boolean;
  /** The command that waits for its second write, as an index; null if none does. */
  readonly begun: number | null;
}

export interface FlashHost {
  /** Shows the array to the guest as memory, or hides it so that reads are exits. */
  show(shown: boolean): void;
  /** The content has changed. */
  changed(): void;
}

export class Flash {
  readonly #start: number;
  readonly #bytes: Uint8Array;
  readonly #host: FlashHost;
  #status = 0;
  #readsStatus = false;
  /** The command that waits for its second write. */
  #begun: (typeof sequences)[number] | undefined;

  /**
   * @param start guest-physical address
   * @param bytes the array, which the guest sees
   */
  constructor(start: number, bytes: Uint8Array, host: FlashHost) {
    this.#start = start;
    this.#bytes = bytes;
    this.#host = host;
  }

  /** True if an access is wholly in the flash. */
  covers(address: number, size: number): boolean {
    return address >= this.#start && address + size <= this.#start + this.#bytes.length;
  }

  get size(): number {
    return this.#bytes.length;
  }

  /** The state for a snapshot. */
  save(): FlashState {
    return {
      content: Uint8Array.from(this.#bytes),
      status: this.#status,
      readsStatus: this.#readsStatus,
      begun: this.#begun === undefined ? null : sequences.indexOf(this.#begun),
    };
  }

  /** Restores the state of a flash of the same size. */
  restore({ content, status, readsStatus, begun }: FlashState): void {
    this.#bytes.set(content);
    this.#status = status;
    this.#begun = begun === null ? undefined : sequences[begun];
    this.#showStatus(readsStatus);
    this.#host.changed();
  }

  read(address: number, size: number): number {
    let value = 0;
    const at = address - this.#start;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.#readsStatus ? this.#status : this.#bytes[at + i]!);
    return value;
  }

  write(address: number, size: number, value: number): void {
    const at = address - this.#start;
    const byte = value & 0xff;
    const begun = this.#begun;
    this.#begun = undefined;
    if (begun === 'program') {
      for (let i = 0; i < size; i++) this.#bytes[at + i] = this.#bytes[at + i]! & (value >>> (8 * i));
      this.#done();
    } else if (begun === 'erase') {
      if (byte !== Command.eraseConfirm) this.#status = ready | sequenceError;
      else {
        const block = at - (at % flashBlock);
        this.#bytes.fill(0xff, block, block + flashBlock);
        this.#done();
      }
    } else this.#command(byte);
  }

  #command(byte: number): void {
    switch (byte) {
      case Command.program:
      case Command.programToo:
        this.#begun = 'program';
        return;
      case Command.erase:
        this.#begun = 'erase';
        return;
      case Command.readStatus:
        return this.#showStatus(true);
      case Command.clearStatus:
        this.#status = 0;
        return this.#showStatus(false);
      default: // read array, and everything else
        return this.#showStatus(false);
    }
  }

  #done(): void {
    this.#status = ready;
    this.#host.changed();
  }

  #showStatus(status: boolean): void {
    if (this.#readsStatus === status) return;
    this.#readsStatus = status;
    this.#host.show(!status);
  }
}
