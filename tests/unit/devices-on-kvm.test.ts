/**
 * The tests of the NVMe controller and of the AHCI adapter once more, on the KVM engine's board and
 * memory: behind its PCI bus and trap, with its MSI and MSI-X; memory is shared with other threads,
 * with a hole below 4 GiB and RAM above it.
 */
import { it } from 'vitest';
import { useBoard } from '../support/driver-board.js';
import { useMemory } from '../support/guest-memory.js';
import { hasKoffi } from '../support/koffi.js';
import { kvmBoard } from '../support/kvm-board.js';
import { KvmDriverMemory } from '../support/kvm-memory.js';

if (hasKoffi && process.arch === 'x64') {
  useMemory((size) => new KvmDriverMemory(size));
  useBoard(kvmBoard);
  await import('../support/controller-tests.js');
} else {
  it.skip('needs koffi, on x86-64', () => undefined);
}
