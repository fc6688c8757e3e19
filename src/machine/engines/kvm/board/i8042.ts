/**
 * The keyboard controller (Intel 8042) at I/O ports 0x60 and 0x64, without a keyboard and a mouse:
 * firmware and boot loaders test it, and reset the computer by it. On a board with UEFI it can only
 * be written (board.ts).
 *
 * Left out: interrupts, the A20 gate (address line 20 always works), devices.
 */

export const i8042Ports = { data: 0x60, command: 0x64 } as const;

const Status = { output: 0x01, system: 0x04, command: 0x08 } as const;
const Command = {
  readMode: 0x20,
  writeMode: 0x60,
  testMouse: 0xa9,
  test: 0xaa,
  testKeyboard: 0xab,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  /** 0xf0 to 0xff: pulse the lines of the output port whose bits are 0. */
  pulse: 0xf0,
} as const;
/** Line of the output port, and bit of a pulse: 0 resets the processor. */
const resetLine = 0x01;
/** Output port: no reset, address line 20 on. */
const outputPort = 0x03;
const testPassed = 0x55;

/** Its state, as a snapshot holds it. */
export interface KeyboardState {
  readonly output: number | null;
  readonly mode: number;
  readonly lastWasCommand: boolean;
  readonly awaiting: number | null;
}

export class KeyboardController {
  /** The byte for the guest; undefined if there is none. */
  #output: number | undefined;
  #mode = 0;
  #lastWasCommand = false;
  /** The command whose data byte comes next. */
  #awaiting: number | undefined;

  read(port: number): number {
    if (port === i8042Ports.command)
      return (
        Status.system | (this.#output === undefined ? 0 : Status.output) | (this.#lastWasCommand ? Status.command : 0)
      );
    const byte = this.#output ?? 0;
    this.#output = undefined;
    return byte;
  }

  /** @returns true if the guest has reset the computer */
  write(port: number, value: number): boolean {
    const byte = value & 0xff;
    this.#lastWasCommand = port === i8042Ports.command;
    if (this.#lastWasCommand) return this.#command(byte);
    const awaiting = this.#awaiting;
    this.#awaiting = undefined;
    if (awaiting === Command.writeMode) this.#mode = byte;
    return awaiting === Command.writeOutputPort && (byte & resetLine) === 0;
  }

  save(): KeyboardState {
    const output = this.#output ?? null;
    return { output, mode: this.#mode, lastWasCommand: this.#lastWasCommand, awaiting: this.#awaiting ?? null };
  }

  restore({ output, mode, lastWasCommand, awaiting }: KeyboardState): void {
    this.#output = output ?? undefined;
    this.#mode = mode;
    this.#lastWasCommand = lastWasCommand;
    this.#awaiting = awaiting ?? undefined;
  }

  #command(byte: number): boolean {
    this.#awaiting = undefined;
    if (byte >= Command.pulse) return (byte & resetLine) === 0;
    if (byte === Command.writeMode || byte === Command.writeOutputPort) this.#awaiting = byte;
    if (byte === Command.readMode) this.#output = this.#mode;
    if (byte === Command.test) this.#output = testPassed;
    if (byte === Command.testKeyboard || byte === Command.testMouse) this.#output = 0;
    if (byte === Command.readOutputPort) this.#output = outputPort;
    return false;
  }
}
