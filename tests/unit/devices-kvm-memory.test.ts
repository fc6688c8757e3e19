/**
 * The tests of the NVMe controller and of the AHCI adapter once more, on the KVM engine's memory:
 * shared with other threads, with a hole below 4 GiB and RAM above it.
 */
import { it } from 'vitest';
import { useMemory } from '../support/guest-memory.js';
import { hasKoffi } from '../support/koffi.js';
import { KvmDriverMemory } from '../support/kvm-memory.js';

if (hasKoffi && process.arch === 'x64') {
  useMemory((size) => new KvmDriverMemory(size));
  await import('./nvme-controller.test.js');
  await import('./nvme-direct.test.js');
  await import('./nvme-growth.test.js');
  await import('./nvme-shadow.test.js');
  await import('./ahci-at-once.test.js');
  await import('./ahci-controller.test.js');
  await import('./ahci-disk.test.js');
  await import('./ahci-packet.test.js');
} else {
  it.skip('needs koffi, on x86-64', () => undefined);
}
