/**
 * A client computer as the command line composes it, but without a processor: the test takes its
 * place. Drives are opened from their texts, and the test's accesses trap as a guest's do. Nothing
 * is emulated, so a test can make accesses that no driver would make.
 */
import type { SharedAdapter } from '../../src/computer/shared-adapter.js';
import { ClientComputer } from '../../src/computer/client.js';
import type { ClientDrive } from '../../src/computer/drives.js';
import { parseSource } from '../../src/app/source-text.js';
import { openClientDrive } from '../../src/app/sources.js';
import { silent } from '../../src/base/log.js';
import type { Engine } from '../../src/machine/engine.js';
import type { TrapHandler } from '../../src/machine/trap.js';
import { TestMemory } from './guest-memory.js';

/** Guest-physical address of the first controller's registers. */
const firstBase = 0xfe000000;

export interface BareComputer {
  readonly computer: ClientComputer;
  readonly memory: TestMemory;
  readonly trap: TrapHandler;
  read(offset: number): number;
  write(offset: number, value: number): void;
  close(): Promise<void>;
}

/**
 * Opens a computer with these drives. `read` and `write` access its first controller's registers.
 */
export function bareComputer(...texts: readonly string[]): Promise<BareComputer> {
  return bareComputerOn(undefined, ...texts);
}

/** Like {@link bareComputer}, but the computer is connected to a network. */
export async function bareComputerOn(
  adapter: SharedAdapter | undefined,
  ...texts: readonly string[]
): Promise<BareComputer> {
  const drives: ClientDrive[] = [];
  for (const text of texts) drives.push(await openClientDrive(parseSource(text), { log: silent }));
  const memory = new TestMemory(16 << 20);
  let trap: TrapHandler | undefined;
  const computer = await ClientComputer.create({
    createEngine: (handler) => {
      trap = handler;
      return Promise.resolve(bareEngine(memory, handler));
    },
    drives,
    adapter,
  });
  return {
    computer,
    memory,
    trap: trap!,
    read: (offset) => trap!.read(firstBase + offset, 4) >>> 0,
    write: (offset, value) => void trap!.write(firstBase + offset, 4, value >>> 0),
    close: async () => {
      await computer.stop();
      for (const { device } of drives) await device?.close();
    },
  };
}

function bareEngine(memory: TestMemory, trap: TrapHandler): Engine {
  const engine: Partial<Engine> = {
    memory,
    trap,
    addPci: () => ({ set: () => undefined }),
    descriptors: () => ({ idtBase: 0n, idtLimit: 0, cr0: 0, cr3: 0, cr4: 0, efer: 0 }),
    onSerial: () => undefined,
    stop: () => Promise.resolve(),
  };
  return engine as Engine;
}
